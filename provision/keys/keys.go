package keys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// AuthoritiesField is the spec's field for the user's own CAs.
const AuthoritiesField = "spec.pki.authorities."

// AuthorityFields are the fields of the spec that name a CA, by name of the table.
var AuthorityFields = map[string]string{
	certs.KubernetesCA: AuthoritiesField + "kubernetes",
	certs.EtcdCA:       AuthoritiesField + "etcd",
	certs.FrontProxyCA: AuthoritiesField + "frontProxy",
}

// UsersFile is the state store's file for the record of issued kubeconfigs.
const UsersFile = "users.json"

// Names in the state store.
const (
	Prefix       = "pki/"
	RotationFile = "rotation.json"
)

// Stored is a cluster's secrets in the state store.
type Stored struct {
	// Material includes the key of Secrets at rest, and the new items of a rotation.
	Material certs.Material
	// Rotation in progress, or nil.
	Rotation *certs.Rotation
	// Leaving names what a rotation will replace and has not stored yet.
	Leaving []string
	// Retired names the former keys of Secrets at rest.
	Retired []string
	// Users is the stored record of kubeconfigs; nil if there is none.
	Users secret.Bytes
}

// PKI is the current PKI, without what may have to be issued.
func (s *Stored) PKI() *certs.PKI {
	used, other := s.Rotation.View(s.Material)
	return &certs.PKI{Material: used, Rotation: s.Rotation, Other: other}
}

// Load reads the secrets in the store, which may be nil.
func Load(ctx context.Context, store *state.Store) (*Stored, error) {
	s := &Stored{Material: certs.Material{}}
	if store == nil {
		return s, nil
	}
	flat, err := store.GetAll(ctx, Prefix)
	if err != nil {
		return nil, err
	}
	if s.Material, err = certs.Unflatten(flat); err != nil {
		return nil, err
	}
	for _, name := range []string{certs.EncryptionKey, certs.NextName(certs.EncryptionKey)} {
		text, err := store.Get(ctx, name)
		if err == nil {
			s.Material[name], err = certs.ParseEncryptionKey(text)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	retired, err := store.List(ctx, RetiredPrefix)
	if err != nil {
		return nil, err
	}
	for _, name := range retired {
		s.Retired = append(s.Retired, strings.TrimPrefix(name, RetiredPrefix+certs.EncryptionKey+"."))
	}
	if s.Users, err = store.Get(ctx, UsersFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	text, err := store.Get(ctx, RotationFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.Rotation, err = certs.ReadRotation(text.Reveal())
	}
	return s, err
}

// Flat returns items under their names in the store.
func Flat(items certs.Material) map[string]secret.Bytes {
	rest, all := maps.Clone(items), map[string]secret.Bytes{}
	for _, name := range []string{certs.EncryptionKey, certs.NextName(certs.EncryptionKey)} {
		if key, ok := items[name]; ok {
			all[name] = certs.FormatEncryptionKey(key)
			delete(rest, name)
		}
	}
	for name, content := range rest.Flatten() {
		all[Prefix+name] = content
	}
	return all
}

// storedNames returns the names under which the store may have items.
func storedNames(items []string) []string {
	var names []string
	for _, name := range items {
		if name == certs.EncryptionKey || name == certs.NextName(certs.EncryptionKey) {
			names = append(names, name)
		} else {
			names = append(names, Prefix+name+".crt", Prefix+name+".key")
		}
	}
	return names
}

// Secrets are a cluster's secrets: those in the store, and those that were created because they are
// missing.
type Secrets struct {
	PKI *certs.PKI
	// EncryptionKeys of Secrets at rest: the first encrypts.
	EncryptionKeys []stack.EncryptionKey

	Before     *certs.PKI            // the previous PKI
	BeforeKeys []stack.EncryptionKey // nil if there was none
	Issued     []certs.Change        // changes that are not in the store yet
	Made       certs.Material        // their items, and the encryption key if there was none
	Requested  bool                  // signing requests, or certificates for them, are not stored yet
}

// Ensure creates, in memory, what a cluster needs and is not stored, and the leaves that patterns
// in renew name; own are the CAs that the spec names. If an external CA has to sign certificates
// first, the error is a *certs.PendingError, and the secrets are returned, too. The same holds if
// renew names certificates of an external CA, except for EveryLeaf as long as there are others.
func Ensure(
	ctx context.Context, s *Stored, renew []string, c *spec.Cluster, infra *spec.Infrastructure, own map[string]certs.Item,
) (*Secrets, error) {
	used, other := s.Rotation.View(s.Material)
	key, ok := used[certs.EncryptionKey]
	delete(used, certs.EncryptionKey)
	if !ok && len(used) > 0 { // all are stored in one write
		return nil, fmt.Errorf("the state of %s has certificates but no key for Secrets at rest (%s): with another key the cluster could not read "+
			"its Secrets any more; restore it from a backup; nothing was changed", c.Metadata.Name, certs.EncryptionKey)
	}
	requests := certs.Table(stack.CertInputs(c, infra.Machines, infra.ExtraSANs))
	policy := s.policy(c.Spec.PKI, own)
	var err error
	if policy.Renew, err = Renewals(renew, requests); err != nil {
		return nil, err
	}
	pki, issued, pending := certs.Ensure(ctx, used, requests, policy, time.Now())
	if err := pending; err != nil && !errors.As(err, new(*certs.PendingError)) {
		return nil, fmt.Errorf("certificates of %s: %w", c.Metadata.Name, err)
	}
	if left := pki.Unrenewed(policy.Renew); pending == nil && left != nil && (!slices.Equal(renew, EveryLeaf) || len(left.Names) == len(policy.Renew)) {
		pending = left
	}
	pki.Rotation, pki.Other = s.Rotation, other
	pki.Obsolete = append(pki.Obsolete, s.obsolete(used)...)
	made := s.made(pki, issued)
	if !ok {
		key = certs.NewEncryptionKey()
		made[certs.EncryptionKey] = key
	}
	previous := s.Rotation.Previous()
	was, wasOther := previous.View(s.Material)
	var before []stack.EncryptionKey
	if first, ok := was[certs.EncryptionKey]; ok {
		before = encryptionKeys(previous, first, wasOther)
	}
	return &Secrets{
		PKI: pki, EncryptionKeys: encryptionKeys(s.Rotation, key, other), Issued: issued, Made: made,
		Before:     &certs.PKI{Requests: requests, Material: was, Rotation: previous, Other: wasOther},
		BeforeKeys: before,
	}, pending
}

// policy returns the policy for certificates, with what a rotation replaces.
func (s *Stored) policy(p spec.PKI, own map[string]certs.Item) certs.Policy {
	policy := CertPolicy(p, own)
	if s.Rotation == nil {
		policy.Replaced = s.Leaving
		return policy
	}
	policy.Replaced = s.Rotation.Names
	if s.Rotation.Back {
		policy.Returned = s.Rotation.Names
	}
	return policy
}

// obsolete names the stored items that a finished rotation has left: those that are not used.
func (s *Stored) obsolete(used certs.Material) []string {
	if s.Rotation != nil {
		return nil
	}
	var names []string
	for name := range s.Material {
		if _, ok := used[name]; !ok && name != certs.EncryptionKey {
			names = append(names, name)
		}
	}
	return names
}

// made returns the issued items by the names under which they are stored.
func (s *Stored) made(pki *certs.PKI, issued []certs.Change) certs.Material {
	made := certs.Material{}
	for _, change := range issued {
		name := change.Name
		if s.Rotation.UsesNew(name) { // the user's own CA has a new certificate
			name = certs.NextName(name)
		}
		made[name] = pki.Material[change.Name]
	}
	return made
}

// encryptionKeys returns the key that encrypts, and another that still has to decrypt.
func encryptionKeys(r *certs.Rotation, used certs.Item, other certs.Material) []stack.EncryptionKey {
	keys := []stack.EncryptionKey{{Name: string(used.Cert), Key: used.Key}}
	if o, ok := other[certs.EncryptionKey]; ok && r.TrustsBoth() {
		keys = append(keys, stack.EncryptionKey{Name: string(o.Cert), Key: o.Key})
	}
	return keys
}

// CertPolicy returns the spec's policy for certificates, with the CAs that it names.
func CertPolicy(p spec.PKI, own map[string]certs.Item) certs.Policy {
	return certs.Policy{
		CAValidity: p.CADuration(), LeafValidity: p.LeafDuration(), AdminValidity: p.AdminDuration(), RenewalWindow: p.RenewalDuration(),
		KeyAlgorithm: certs.KeyAlgorithm(p.KeyAlgorithm), CAKeyAlgorithm: certs.KeyAlgorithm(p.CAKeyAlgorithm),
		Subject: certs.Subject(p.Subject), Own: own,
	}
}

// Notes returns remarks about certificates that need attention although nothing failed.
func (s *Secrets) Notes() []string {
	var notes []string
	for _, d := range s.PKI.Drift {
		notes = append(notes, "a CA was kept unchanged: "+d.String())
	}
	for _, l := range s.PKI.Limited {
		notes = append(notes, "warning: CA "+l.Name+" expires before leafValidity: "+l.Detail)
	}
	for _, p := range s.PKI.Pending {
		if p.Reason == certs.Requested {
			notes = append(notes, "warning: certificate "+p.Name+" is renewed only after an external CA has signed it: "+
				"`slipway certs csr --out DIR "+p.Name+"`, `slipway certs import`")
			continue
		}
		notes = append(notes, "warning: certificate "+p.Name+" "+p.Detail+", and has to be signed by an external CA: `slipway certs csr`")
	}
	return notes
}

// Unsaved reports whether items were created that the store does not have.
func (s *Secrets) Unsaved() bool { return len(s.Made) > 0 }

// Save stores the new items, before they are used, and removes obsolete ones.
func (s *Secrets) Save(ctx context.Context, store *state.Store) error {
	if s.Requested {
		for name, item := range s.PKI.Material {
			if !s.PKI.Rotation.Has(name) { // items in rotation keep their names until the end
				s.Made[name] = item
			}
		}
	}
	if len(s.Made) > 0 {
		if err := store.Put(ctx, Flat(s.Made)); err != nil {
			return err
		}
	}
	s.Issued, s.Made, s.Requested = nil, certs.Material{}, false
	if len(s.PKI.Obsolete) == 0 {
		return nil
	}
	return store.Remove(ctx, storedNames(s.PKI.Obsolete)...)
}

// SaveRotation records the stage of a rotation, with its new items.
func SaveRotation(ctx context.Context, store *state.Store, r *certs.Rotation, items certs.Material) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record the rotation: %w", err)
	}
	put := Flat(items)
	put[RotationFile] = text
	return store.Put(ctx, put)
}

// RetiredPrefix is where former keys of Secrets at rest are stored: backups of etcd need them.
const RetiredPrefix = "retired/"

// EndRotation replaces the old items by the new ones, unless it was rolled back, and removes the
// others. If it is killed, it has either not ended, or left behind what the next save removes.
func EndRotation(ctx context.Context, store *state.Store, r *certs.Rotation, material certs.Material) error {
	put := Flat(r.Finished(material))
	if _, other := r.View(material); r.Has(certs.EncryptionKey) && len(other[certs.EncryptionKey].Key) > 0 {
		key := other[certs.EncryptionKey]
		put[RetiredPrefix+certs.EncryptionKey+"."+string(key.Cert)] = certs.FormatEncryptionKey(key)
	}
	if len(put) > 0 {
		if err := store.Put(ctx, put); err != nil {
			return err
		}
	}
	if err := store.Remove(ctx, RotationFile); err != nil {
		return err
	}
	var next []string
	for _, name := range r.Names {
		next = append(next, certs.NextName(name))
	}
	return store.Remove(ctx, storedNames(next)...)
}
