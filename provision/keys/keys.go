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

// AuthoritiesField is where the spec has authorities, and authorityFields are theirs.
const AuthoritiesField = "spec.pki.authorities."

// AuthorityFields are the fields of the spec that name a CA, by name of the table.
var AuthorityFields = map[string]string{
	certs.KubernetesCA: AuthoritiesField + "kubernetes",
	certs.EtcdCA:       AuthoritiesField + "etcd",
	certs.FrontProxyCA: AuthoritiesField + "frontProxy",
}

// UsersFile is where the state store keeps the record of kubeconfigs that were given away.
const UsersFile = "users.json"

// Where things are in the state store.
const (
	Prefix       = "pki/"
	RotationFile = "rotation.json"
)

// Stored is what the state store keeps of a cluster's secrets.
type Stored struct {
	// Material has the key of Secrets at rest, too, and the new ones of a rotation.
	Material certs.Material
	// Rotation under way, or nil.
	Rotation *certs.Rotation
	// Leaving names what a rotation is about to replace that is not stored yet.
	Leaving []string
	// Retired names the keys of Secrets at rest that were in use once.
	Retired []string
	// Users is the record of kubeconfigs, as it is kept; nil where there is none.
	Users secret.Bytes
}

// PKI is what is in use, without what may have to be issued.
func (s *Stored) PKI() *certs.PKI {
	used, other := s.Rotation.View(s.Material)
	return &certs.PKI{Material: used, Rotation: s.Rotation, Other: other}
}

// Load reads what the store (which may be nil) has.
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

// Flat gives items the names that they have in the store.
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

// storedNames are the names under which the store may have items.
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

// Secrets are a cluster's, as they are to be: what is stored, and what was made because it is missing.
type Secrets struct {
	PKI *certs.PKI
	// EncryptionKeys of Secrets at rest: the first encrypts.
	EncryptionKeys []stack.EncryptionKey

	Before     *certs.PKI // as it was
	BeforeKeys []stack.EncryptionKey
	Issued     []certs.Change // what is not in the store yet
	Made       certs.Material // the same, and the encryption key where there was none
	Requested  bool           // signing requests, or certificates for them, are not stored yet
}

// Ensure makes, in memory, what a cluster needs and is not stored, and leaves that patterns in renew name; own are the
// authorities that the spec names. Where certificates have to be signed elsewhere first, the error is a
// *certs.PendingError, and the secrets are given all the same; so it is where renew names such, but for everyLeaf as long as
// there are others.
func Ensure(
	ctx context.Context, s *Stored, renew []string, c *spec.Cluster, infra *spec.Infrastructure, own map[string]certs.Item,
) (*Secrets, error) {
	used, other := s.Rotation.View(s.Material)
	key, ok := used[certs.EncryptionKey]
	delete(used, certs.EncryptionKey)
	if !ok && len(used) > 0 { // all are stored in one write
		return nil, fmt.Errorf("the state of %s has certificates and no key for Secrets at rest (%s): with another key the cluster could not read "+
			"its Secrets any more; restore it from a backup; nothing was changed", c.Metadata.Name, certs.EncryptionKey)
	}
	requests := certs.Table(stack.CertInputs(c, infra.Machines, infra.ExtraSANs))
	policy := CertPolicy(c.Spec.PKI, own)
	policy.Replaced = s.Leaving
	if s.Rotation != nil {
		policy.Replaced = s.Rotation.Names
		if s.Rotation.Back {
			policy.Returned = s.Rotation.Names
		}
	}
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
	if s.Rotation == nil { // what an ended one has left behind
		for name := range s.Material {
			if _, ok := used[name]; !ok && name != certs.EncryptionKey {
				pki.Obsolete = append(pki.Obsolete, name)
			}
		}
	}
	made := certs.Material{}
	for _, change := range issued {
		name := change.Name
		if s.Rotation.UsesNew(name) { // the user's own authority has come with a new certificate
			name = certs.NextName(name)
		}
		made[name] = pki.Material[change.Name]
	}
	if !ok {
		key = certs.NewEncryptionKey()
		made[certs.EncryptionKey] = key
	}
	previous := s.Rotation.Previous()
	was, wasOther := previous.View(s.Material)
	return &Secrets{
		PKI: pki, EncryptionKeys: encryptionKeys(s.Rotation, key, other), Issued: issued, Made: made,
		Before:     &certs.PKI{Requests: requests, Material: was, Rotation: previous, Other: wasOther},
		BeforeKeys: encryptionKeys(previous, was[certs.EncryptionKey], wasOther),
	}, pending
}

// encryptionKeys are the one that encrypts, and another that still has to decrypt.
func encryptionKeys(r *certs.Rotation, used certs.Item, other certs.Material) []stack.EncryptionKey {
	keys := []stack.EncryptionKey{{Name: string(used.Cert), Key: used.Key}}
	if o, ok := other[certs.EncryptionKey]; ok && r.TrustsBoth() {
		keys = append(keys, stack.EncryptionKey{Name: string(o.Cert), Key: o.Key})
	}
	return keys
}

// CertPolicy is what the spec says of certificates, with the authorities that it names.
func CertPolicy(p spec.PKI, own map[string]certs.Item) certs.Policy {
	return certs.Policy{
		CAValidity: p.CADuration(), LeafValidity: p.LeafDuration(), AdminValidity: p.AdminDuration(), RenewalWindow: p.RenewalDuration(),
		KeyAlgorithm: certs.KeyAlgorithm(p.KeyAlgorithm), CAKeyAlgorithm: certs.KeyAlgorithm(p.CAKeyAlgorithm),
		Subject: certs.Subject(p.Subject), Own: own,
	}
}

// Notes are what somebody should know of certificates that are as good as they can be now.
func (s *Secrets) Notes() []string {
	var notes []string
	for _, d := range s.PKI.Drift {
		notes = append(notes, "a certificate authority was kept as it is: "+d.String())
	}
	for _, l := range s.PKI.Limited {
		notes = append(notes, "warning: authority "+l.Name+" ends before leafValidity: "+l.Detail)
	}
	for _, p := range s.PKI.Pending {
		if p.Reason == certs.Requested {
			notes = append(notes, "warning: certificate "+p.Name+" is not renewed before it is signed elsewhere: `slipway certs csr --out DIR "+p.Name+"`, `slipway certs import`")
			continue
		}
		notes = append(notes, "warning: certificate "+p.Name+" "+p.Detail+", and has to be signed elsewhere: `slipway certs csr`")
	}
	return notes
}

// Unsaved says whether anything was made that the store does not have.
func (s *Secrets) Unsaved() bool { return len(s.Made) > 0 }

// Save stores what was made, before anybody uses it, and forgets what nobody needs any more.
func (s *Secrets) Save(ctx context.Context, store *state.Store) error {
	if s.Requested {
		for name, item := range s.PKI.Material {
			if !s.PKI.Rotation.Has(name) { // what is being replaced stays under its name until the end
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

// SaveRotation records how far a rotation has come, with what it brings.
func SaveRotation(ctx context.Context, store *state.Store, r *certs.Rotation, items certs.Material) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record the rotation: %w", err)
	}
	put := Flat(items)
	put[RotationFile] = text
	return store.Put(ctx, put)
}

// RetiredPrefix is where keys of Secrets at rest are kept that are not in use any more: backups of etcd need them.
const RetiredPrefix = "retired/"

// EndRotation puts the new in the place of the old, unless it went back, and forgets the other. Killed on the way it has
// either not ended, or has left behind what the next save forgets.
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
