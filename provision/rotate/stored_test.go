package rotate_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
	"slipway.dev/slipway/testing/fixture"
)

var everything = []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA, certs.ServiceAccounts, certs.EncryptionKey}

// keeper has a cluster of one machine, and a state in a directory.
type keeper struct {
	*testing.T
	spec  *spec.Cluster
	infra *spec.Infrastructure
	own   map[string]certs.Item
	store *state.Store
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	c, infra, store := fixture.OneMachine(t)
	return &keeper{T: t, spec: c, infra: infra, store: store}
}

// rotating is k's cluster as a rotation sees it.
func (k *keeper) rotating() rotate.Cluster {
	return rotate.Cluster{Spec: k.spec, Found: k.infra, Own: k.own}
}

func (k *keeper) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// load gives what is stored, and what it comes to.
func (k *keeper) load() (*keys.Stored, *keys.Secrets) {
	k.Helper()
	s, err := keys.Load(k.Context(), k.store)
	k.must(err)
	all, err := keys.Ensure(k.Context(), s, nil, k.spec, k.infra, k.own)
	k.must(err)
	return s, all
}

// begin makes and stores what a cluster needs, and what a rotation of names does.
func (k *keeper) begin(names []string) (first certs.Material, next certs.Material) {
	k.Helper()
	_, made := k.load()
	k.must(made.Save(k.Context(), k.store))
	s, _ := k.load()
	next, err := k.rotating().NewItems(s, names)
	k.must(err)
	k.must(keys.SaveRotation(k.Context(), k.store, certs.Begin(names, time.Now()), next))
	return s.Material, next
}

// mortal is a context that ends when it has been asked a number of times: before the write that asks.
type mortal struct {
	context.Context
	left *int
}

func (m mortal) Err() error {
	if *m.left--; *m.left < 0 {
		return context.Canceled
	}
	return nil
}

// killed has do killed before its first write, then before its second, and so on until it comes to its end; it has to
// begin with what is stored. It gives how often.
func (k *keeper) killed(do func(context.Context) error) (kills int) {
	k.Helper()
	for {
		left := kills
		err := do(mortal{context.WithoutCancel(k.Context()), &left})
		k.load() // works at any time
		if err == nil {
			return kills
		}
		if !errors.Is(err, context.Canceled) {
			k.Fatal(err)
		}
		kills++
	}
}

// stage does for the stage under way what a run does: it stores what is made for it, and passes on. It is false where
// there is nothing more to do.
func (k *keeper) stage() bool {
	k.Helper()
	kills := k.killed(func(ctx context.Context) error {
		_, all := k.load()
		return all.Save(ctx, k.store)
	})
	s, all := k.load()
	if all.Unsaved() {
		k.Errorf("%v: saved, and there is more to save: %v", s.Rotation, all.Issued)
	}
	if s.Rotation == nil {
		return false
	}
	rotation := s.Rotation // begun at this stage, whatever was written before a kill
	kills += k.killed(func(ctx context.Context) error {
		s, _ := k.load()
		switch next := rotation.Next(time.Now()); {
		case s.Rotation == nil: // it had ended
			return nil
		case next == nil:
			return keys.EndRotation(ctx, k.store, rotation, s.Material)
		default:
			return keys.SaveRotation(ctx, k.store, next, nil)
		}
	})
	if kills == 0 {
		k.Error("nothing was interrupted")
	}
	return true
}

// signer is the name of the authority among items that has signed a leaf.
func (k *keeper) signer(leaf certs.Item, among map[string]certs.Item) string {
	k.Helper()
	cert, err := certs.Parse(leaf.Cert)
	k.must(err)
	for name, item := range among {
		ca, err := certs.Parse(item.Cert)
		k.must(err)
		if cert[0].CheckSignatureFrom(ca[0]) == nil {
			return name
		}
	}
	return "none"
}

// A rotation of all that can be rotated, forward and back from every stage, and killed before each of its writes.
func TestARotationKilledBeforeAnyWriteEndsTheSame(t *testing.T) {
	for _, back := range []certs.Stage{"", certs.Trust, certs.Tokens, certs.Rollout, certs.Issue} {
		t.Run("back from "+string(back), func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			first, next := k.begin(everything)
			turned := back == ""
			for more := true; more; {
				s, _ := k.load()
				if !turned && s.Rotation.Stage == back {
					r, err := s.Rotation.Rollback()
					k.must(err)
					k.must(keys.SaveRotation(t.Context(), k.store, r, nil))
					turned = true
				}
				more = k.stage()
				if s, _ := k.load(); s.Rotation != nil {
					k.untouched(s, first, next)
				}
			}
			k.ended(first, next, back != "")
		})
	}
}

// untouched: what is replaced stays under its name while a rotation goes on, and leaves are of what is in use.
func (k *keeper) untouched(s *keys.Stored, first, next certs.Material) {
	k.Helper()
	for _, name := range everything {
		if !same(s.Material[name], first[name]) || !same(s.Material[certs.NextName(name)], next[certs.NextName(name)]) {
			k.Errorf("%v: %s is not what it was", s.Rotation, name)
		}
	}
	_, all := k.load()
	all.Requested = true // which stores all that is in use
	k.must(all.Save(k.Context(), k.store))
	s, _ = k.load()
	if !same(s.Material[certs.KubernetesCA], first[certs.KubernetesCA]) {
		k.Errorf("%v: the new authority was put in the place of the old", s.Rotation)
	}
	by := map[string]certs.Item{"old": first[certs.KubernetesCA], "new": next[certs.NextName(certs.KubernetesCA)]}
	want := map[bool]string{false: "old", true: "new"}[s.Rotation.UsesNew(certs.KubernetesCA)]
	if got := k.signer(s.Material["apiserver@demo-cp-1"], by); got != want {
		k.Errorf("%v: the stored leaf is signed by the %s authority, want the %s", s.Rotation, got, want)
	}
}

// ended: one of each is left, under its name, and nothing else of the rotation but the key that backups need.
func (k *keeper) ended(first, next certs.Material, back bool) {
	k.Helper()
	s, all := k.load()
	retired := next[certs.NextName(certs.EncryptionKey)]
	if !back {
		retired = first[certs.EncryptionKey]
	}
	for _, name := range everything {
		want := next[certs.NextName(name)]
		if back {
			want = first[name]
		}
		if !same(s.Material[name], want) {
			k.Errorf("%s is not the one that should be left", name)
		}
	}
	got := k.signer(s.Material["apiserver@demo-cp-1"], map[string]certs.Item{"left": s.Material[certs.KubernetesCA]})
	if got != "left" || all.Unsaved() || len(all.PKI.Obsolete) > 0 {
		k.Errorf("signed by %s, unsaved %v, obsolete %v", got, all.Issued, all.PKI.Obsolete)
	}
	names, err := k.store.List(k.Context(), "")
	k.must(err)
	for _, name := range names {
		if strings.Contains(name, ".next") || name == keys.RotationFile {
			k.Errorf("%s is left", name)
		}
	}
	text, err := k.store.Get(k.Context(), "retired/encryption-key."+string(retired.Cert))
	k.must(err)
	if key, err := certs.ParseEncryptionKey(text); err != nil || !same(key, retired) {
		k.Errorf("the retired key is not kept: %v", err)
	}
}

func same(a, b certs.Item) bool {
	return len(a.Cert) > 0 && string(a.Cert) == string(b.Cert) && string(a.Key) == string(b.Key)
}

// Removing is not all or nothing everywhere: what an ended rotation left half of is forgotten by the next run.
func TestHalfForgottenItemsAreForgotten(t *testing.T) {
	k := newKeeper(t)
	first, next := k.begin(everything)
	put := keys.Flat(certs.Material{certs.NextName(certs.EtcdCA): next[certs.NextName(certs.EtcdCA)], certs.NextName(certs.EncryptionKey): next[certs.NextName(certs.EncryptionKey)]})
	k.must(keys.EndRotation(t.Context(), k.store, &certs.Rotation{Names: everything, Stage: certs.Drop, Back: true}, next))
	delete(put, keys.Prefix+certs.NextName(certs.EtcdCA)+".crt")
	k.must(k.store.Put(t.Context(), put))
	_, all := k.load()
	k.must(all.Save(t.Context(), k.store))
	if s, _ := k.load(); slices.ContainsFunc(slices.Collect(maps.Keys(s.Material)), func(n string) bool { return strings.HasSuffix(n, ".next") }) || !same(s.Material[certs.EtcdCA], first[certs.EtcdCA]) {
		t.Error("something is left, or missing")
	}
}

// Each key of Secrets at rest has a name of its own for ever: backups know keys by their names.
func TestRetiredEncryptionKeysKeepTheirNames(t *testing.T) {
	k := newKeeper(t)
	names := []string{certs.EncryptionKey}
	kept := map[string]string{}
	for _, back := range []bool{true, false, true, false} {
		used, next := k.begin(names)
		s, _ := k.load()
		rotation, other := certs.Begin(names, time.Now()), used[certs.EncryptionKey]
		if back {
			other = next[certs.NextName(certs.EncryptionKey)]
			var err error
			rotation, err = rotation.Rollback()
			k.must(err)
		}
		for r := rotation; r != nil; r = r.Next(time.Now()) {
			rotation = r
		}
		k.must(keys.EndRotation(t.Context(), k.store, rotation, s.Material))
		kept[string(other.Cert)] = string(other.Key)
		if _, err := k.store.Get(t.Context(), certs.NextName(certs.EncryptionKey)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the other key is left at the end: %v", err)
		}
	}
	for name, key := range kept {
		text, err := k.store.Get(t.Context(), keys.RetiredPrefix+certs.EncryptionKey+"."+name)
		k.must(err)
		if got, err := certs.ParseEncryptionKey(text); err != nil || string(got.Key) != key {
			t.Errorf("%s is another key: %v", name, err)
		}
	}
	if s, _ := k.load(); len(kept) != 4 || len(s.Retired) != 4 || string(s.Material[certs.EncryptionKey].Cert) != "key5" {
		t.Errorf("retired are %v, in use is %s", s.Retired, s.Material[certs.EncryptionKey].Cert)
	}
}

// An authority of the user's that comes with a new certificate while it is rotated to is no other authority.
func TestAnOwnAuthorityRenewedWhileItIsNew(t *testing.T) {
	k, dir := newKeeper(t), t.TempDir()
	fixture.OpenSSL(t, dir, "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "5000", "-subj", "/CN=Etcd", "-keyout", "etcd.key", "-out", "etcd.crt")
	fixture.OpenSSL(t, dir, "req", "-x509", "-key", "etcd.key", "-days", "6000", "-subj", "/CN=Etcd", "-out", "again.crt")
	own := func(file string) map[string]certs.Item {
		return map[string]certs.Item{certs.EtcdCA: {Cert: fixture.FileOf(t, dir, file), Key: fixture.FileOf(t, dir, "etcd.key")}}
	}
	_, made := k.load() // with slipway's own
	k.must(made.Save(t.Context(), k.store))
	k.own = own("etcd.crt")
	first, next := k.begin([]string{certs.EtcdCA})
	k.stage()
	k.stage() // trust, and the store is at issue with all leaves
	s, _ := k.load()
	if s.Rotation.Stage != certs.Drop {
		t.Fatalf("it is at %v", s.Rotation)
	}
	issued := *s.Rotation.Previous()
	k.must(keys.SaveRotation(t.Context(), k.store, &issued, nil))
	k.own = own("again.crt")
	_, all := k.load()
	if _, wrong := all.Made[certs.EtcdCA]; wrong || same(all.Made[certs.NextName(certs.EtcdCA)], next[certs.NextName(certs.EtcdCA)]) {
		t.Errorf("made %v", slices.Sorted(maps.Keys(all.Made)))
	}
	k.must(all.Save(t.Context(), k.store))
	s, all = k.load()
	again, err := certs.Parse(k.own[certs.EtcdCA].Cert)
	k.must(err)
	stored, err := certs.Parse(s.Material[certs.NextName(certs.EtcdCA)].Cert)
	k.must(err)
	if !again[0].Equal(stored[0]) || !same(s.Material[certs.EtcdCA], first[certs.EtcdCA]) || all.Unsaved() {
		t.Errorf("the new certificate is not where it belongs; unsaved are %v", all.Issued)
	}
	want := s.Material[certs.NextName(certs.EtcdCA)]
	for k.stage() {
	}
	if s, _ := k.load(); !same(s.Material[certs.EtcdCA], want) {
		t.Error("in the end it is another")
	}
	if _, err := k.store.Get(t.Context(), keys.RotationFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the rotation has not ended: %v", err)
	}
}
