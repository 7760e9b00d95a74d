package main

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

// Where things are in the state store.
const (
	pkiPrefix    = "pki/"
	rotationName = "rotation.json"
)

// stored is what the state store keeps of a cluster's secrets.
type stored struct {
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

// pki is what is in use, without what may have to be issued.
func (s *stored) pki() *certs.PKI {
	used, other := s.Rotation.View(s.Material)
	return &certs.PKI{Material: used, Rotation: s.Rotation, Other: other}
}

// loadSecrets reads what the store (which may be nil) has.
func loadSecrets(ctx context.Context, store *state.Store) (*stored, error) {
	s := &stored{Material: certs.Material{}}
	if store == nil {
		return s, nil
	}
	flat, err := store.GetAll(ctx, pkiPrefix)
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
	retired, err := store.List(ctx, retiredPrefix)
	if err != nil {
		return nil, err
	}
	for _, name := range retired {
		s.Retired = append(s.Retired, strings.TrimPrefix(name, retiredPrefix+certs.EncryptionKey+"."))
	}
	if s.Users, err = store.Get(ctx, usersName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	text, err := store.Get(ctx, rotationName)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.Rotation, err = certs.ReadRotation(text.Reveal())
	}
	return s, err
}

// flat gives items the names that they have in the store.
func flat(items certs.Material) map[string]secret.Bytes {
	rest, all := maps.Clone(items), map[string]secret.Bytes{}
	for _, name := range []string{certs.EncryptionKey, certs.NextName(certs.EncryptionKey)} {
		if key, ok := items[name]; ok {
			all[name] = certs.FormatEncryptionKey(key)
			delete(rest, name)
		}
	}
	for name, content := range rest.Flatten() {
		all[pkiPrefix+name] = content
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
			names = append(names, pkiPrefix+name+".crt", pkiPrefix+name+".key")
		}
	}
	return names
}

// secrets are a cluster's, as they are to be: what is stored, and what was made because it is missing.
type secrets struct {
	PKI *certs.PKI
	// EncryptionKeys of Secrets at rest: the first encrypts.
	EncryptionKeys []stack.EncryptionKey

	before     *certs.PKI // as it was
	beforeKeys []stack.EncryptionKey
	issued     []certs.Change // what is not in the store yet
	made       certs.Material // the same, and the encryption key where there was none
	asked      bool           // nor are signing requests, or what came back for them
}

// secretsOf makes, in memory, what a cluster needs and is not stored, and leaves that patterns in renew name; own are the
// authorities that the spec names. Where certificates have to be signed elsewhere first, the error is a
// *certs.PendingError, and the secrets are given all the same; so it is where renew names such, but for everyLeaf as long as
// there are others.
func secretsOf(
	ctx context.Context, s *stored, renew []string, c *spec.Cluster, infra *spec.Infrastructure, own map[string]certs.Item,
) (*secrets, error) {
	used, other := s.Rotation.View(s.Material)
	key, ok := used[certs.EncryptionKey]
	delete(used, certs.EncryptionKey)
	if !ok && len(used) > 0 { // all are stored in one write
		return nil, fmt.Errorf("the state of %s has certificates and no key for Secrets at rest (%s): with another key the cluster could not read "+
			"its Secrets any more; restore it from a backup; nothing was changed", c.Metadata.Name, certs.EncryptionKey)
	}
	requests := certs.Table(stack.CertInputs(c, infra.Machines, infra.ExtraSANs))
	policy := certPolicy(c.Spec.PKI, own)
	policy.Replaced = s.Leaving
	if s.Rotation != nil {
		policy.Replaced = s.Rotation.Names
		if s.Rotation.Back {
			policy.Returned = s.Rotation.Names
		}
	}
	var err error
	if policy.Renew, err = renewals(renew, requests); err != nil {
		return nil, err
	}
	pki, issued, pending := certs.Ensure(ctx, used, requests, policy, time.Now())
	if err := pending; err != nil && !errors.As(err, new(*certs.PendingError)) {
		return nil, fmt.Errorf("certificates of %s: %w", c.Metadata.Name, err)
	}
	if left := pki.Unrenewed(policy.Renew); pending == nil && left != nil && (!slices.Equal(renew, everyLeaf) || len(left.Names) == len(policy.Renew)) {
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
	return &secrets{
		PKI: pki, EncryptionKeys: encryptionKeys(s.Rotation, key, other), issued: issued, made: made,
		before:     &certs.PKI{Requests: requests, Material: was, Rotation: previous, Other: wasOther},
		beforeKeys: encryptionKeys(previous, was[certs.EncryptionKey], wasOther),
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

// certPolicy is what the spec says of certificates, with the authorities that it names.
func certPolicy(p spec.PKI, own map[string]certs.Item) certs.Policy {
	return certs.Policy{
		CAValidity: p.CADuration(), LeafValidity: p.LeafDuration(), AdminValidity: p.AdminDuration(), RenewalWindow: p.RenewalDuration(),
		KeyAlgorithm: certs.KeyAlgorithm(p.KeyAlgorithm), CAKeyAlgorithm: certs.KeyAlgorithm(p.CAKeyAlgorithm),
		Subject: certs.Subject(p.Subject), Own: own,
	}
}

// notes are what somebody should know of certificates that are as good as they can be now.
func (s *secrets) notes() []string {
	var notes []string
	for _, d := range s.PKI.Drift {
		notes = append(notes, "a certificate authority was kept as it is: "+d.String())
	}
	for _, l := range s.PKI.Limited {
		notes = append(notes, "warning: authority "+l.Name+" ends before leafValidity: "+l.Detail)
	}
	for _, p := range s.PKI.Pending {
		if p.Reason == certs.Asked {
			notes = append(notes, "warning: certificate "+p.Name+" is not renewed before it is signed elsewhere: `slipway certs csr --out DIR "+p.Name+"`, `slipway certs import`")
			continue
		}
		notes = append(notes, "warning: certificate "+p.Name+" "+p.Detail+", and has to be signed elsewhere: `slipway certs csr`")
	}
	return notes
}

// unsaved says whether anything was made that the store does not have.
func (s *secrets) unsaved() bool { return len(s.made) > 0 }

// save stores what was made, before anybody uses it, and forgets what nobody needs any more.
func (s *secrets) save(ctx context.Context, store *state.Store) error {
	if s.asked {
		for name, item := range s.PKI.Material {
			if !s.PKI.Rotation.Has(name) { // what is being replaced stays under its name until the end
				s.made[name] = item
			}
		}
	}
	if len(s.made) > 0 {
		if err := store.Put(ctx, flat(s.made)); err != nil {
			return err
		}
	}
	s.issued, s.made, s.asked = nil, certs.Material{}, false
	if len(s.PKI.Obsolete) == 0 {
		return nil
	}
	return store.Remove(ctx, storedNames(s.PKI.Obsolete)...)
}

// saveRotation records how far a rotation has come, with what it brings.
func saveRotation(ctx context.Context, store *state.Store, r *certs.Rotation, items certs.Material) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record the rotation: %w", err)
	}
	put := flat(items)
	put[rotationName] = text
	return store.Put(ctx, put)
}

// retiredPrefix is where keys of Secrets at rest are kept that are not in use any more: backups of etcd need them.
const retiredPrefix = "retired/"

// endRotation puts the new in the place of the old, unless it went back, and forgets the other. Killed on the way it has
// either not ended, or has left behind what the next save forgets.
func endRotation(ctx context.Context, store *state.Store, r *certs.Rotation, material certs.Material) error {
	put := flat(r.Finished(material))
	if _, other := r.View(material); r.Has(certs.EncryptionKey) && len(other[certs.EncryptionKey].Key) > 0 {
		key := other[certs.EncryptionKey]
		put[retiredPrefix+certs.EncryptionKey+"."+string(key.Cert)] = certs.FormatEncryptionKey(key)
	}
	if len(put) > 0 {
		if err := store.Put(ctx, put); err != nil {
			return err
		}
	}
	if err := store.Remove(ctx, rotationName); err != nil {
		return err
	}
	var next []string
	for _, name := range r.Names {
		next = append(next, certs.NextName(name))
	}
	return store.Remove(ctx, storedNames(next)...)
}

// rotatable is what `slipway certs rotate-ca` can be told to rotate, by certs.PlainName, in the order of the table.
var rotatable = []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA, certs.ServiceAccounts}

// itemsOf turns words of the command line into the names of items, in the order of the table.
func itemsOf(words []string) ([]string, error) {
	wanted := map[string]bool{}
	for _, w := range words {
		wanted[w] = true
	}
	all := wanted["all"]
	delete(wanted, "all")
	var items, known []string
	for _, item := range rotatable {
		word := certs.PlainName(item)
		known = append(known, word)
		if all || wanted[word] {
			items = append(items, item)
		}
		delete(wanted, word)
	}
	if unknown := slices.Sorted(maps.Keys(wanted)); len(unknown) > 0 {
		return nil, fmt.Errorf("there is no authority %q: name %s, or all", unknown, strings.Join(known, ", "))
	}
	return items, nil
}
