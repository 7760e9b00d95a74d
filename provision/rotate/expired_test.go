package rotate_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/rotate"
)

// expire puts an authority that has expired an hour ago in the place of one that is stored.
func (k *keeper) expire(stored certs.Material, at, name string) {
	k.Helper()
	policy := keys.CertPolicy(k.spec.Spec.PKI, nil)
	policy.CAValidity = time.Hour
	items, err := certs.NewItems([]string{name}, k.rotating().Requests(), policy, time.Now().Add(-2*time.Hour))
	k.must(err)
	stored[at] = items[certs.NextName(name)]
}

// TestARotationDuringWhichSomethingExpires can be gone on with, which replaces that, too, and says so.
func TestARotationDuringWhichSomethingExpires(t *testing.T) {
	const ca, key = "certs rotate-ca", "rotate-encryption-key"
	kubernetes, etcd, encryption := []string{certs.KubernetesCA}, []string{certs.EtcdCA}, []string{certs.EncryptionKey}
	for name, tt := range map[string]struct {
		under   []string
		stage   certs.Stage
		expired string
		command string
		words   []string
		back    bool
		want    []string // names, where it goes on with others
		refused string
	}{
		"goes on":                        {under: kubernetes, stage: certs.Trust, expired: certs.EtcdCA, command: ca, want: []string{certs.KubernetesCA, certs.EtcdCA}},
		"goes on with its name":          {under: kubernetes, stage: certs.Issue, expired: certs.EtcdCA, command: ca, words: kubernetes, want: []string{certs.KubernetesCA, certs.EtcdCA}},
		"goes on with what expired":      {under: kubernetes, stage: certs.Drop, expired: certs.EtcdCA, command: ca, words: etcd, want: []string{certs.KubernetesCA, certs.EtcdCA}},
		"the old one":                    {under: etcd, stage: certs.Trust, expired: certs.EtcdCA, command: ca, want: etcd},
		"the old one, which is not used": {under: etcd, stage: certs.Issue, expired: certs.EtcdCA, command: ca},
		"the new one, which is used":     {under: etcd, stage: certs.Issue, expired: certs.NextName(certs.EtcdCA), command: ca, want: etcd},
		"of the key of Secrets":          {under: encryption, stage: certs.Trust, expired: certs.EtcdCA, command: ca, want: []string{certs.EtcdCA, certs.EncryptionKey}},
		"by the other command":           {under: encryption, stage: certs.Trust, expired: certs.EtcdCA, command: key, words: encryption, refused: "complete the rotation, with `slipway certs rotate-ca`"},
		"another one":                    {under: kubernetes, stage: certs.Trust, expired: certs.EtcdCA, command: ca, words: []string{certs.FrontProxyCA}, refused: "CA etcd has expired during the rotation of kubernetes: stage trust"},
		"back":                           {under: kubernetes, stage: certs.Trust, expired: certs.EtcdCA, command: ca, back: true, refused: "cannot be rolled back, since CA etcd has expired meanwhile"},
		"back to what has not":           {under: etcd, stage: certs.Issue, expired: certs.NextName(certs.EtcdCA), command: ca, back: true},
		"nothing is under way":           {expired: certs.EtcdCA, command: ca, words: kubernetes, refused: "replace these alone first, at once: `slipway certs rotate-ca etcd`"},
		"nothing is, and that is named":  {expired: certs.EtcdCA, command: ca, words: etcd, want: etcd},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper(t)
			_, all := k.load()
			s := &keys.Stored{Material: maps.Clone(all.Made)}
			if tt.under != nil {
				items, err := k.rotating().NewItems(s, tt.under)
				k.must(err)
				maps.Copy(s.Material, items)
				for s.Rotation = certs.Begin(tt.under, time.Now()); s.Rotation.Stage != tt.stage; {
					s.Rotation = s.Rotation.Next(time.Now())
				}
			}
			k.expire(s.Material, tt.expired, strings.TrimSuffix(tt.expired, ".next"))
			got, items, err := k.rotating().Choose(s, rotate.Wish{Command: tt.command, Names: tt.words, Rollback: tt.back})
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("got %v, %v, want %s", got, err, tt.refused)
				}
				return
			}
			k.must(err)
			if tt.want == nil {
				if got.Expired || len(items) > 0 || !slices.Equal(got.Names, tt.under) {
					t.Errorf("it is %v, with %d items", got, len(items))
				}
				return
			}
			if !slices.Equal(got.Names, tt.want) || got.Stage != certs.Issue || !got.Expired {
				t.Errorf("it is %v of %v, want %v", got, got.Names, tt.want)
			}
			o := rotate.NewOverview("demo", got)
			o.Expire(k.rotating().Expired(s, s.Rotation), got, s.Rotation)
			if !slices.Equal(o.Expired, []string{"etcd"}) || (o.Under == "") != (tt.under == nil) {
				t.Errorf("expired are %v, under way is %q", o.Expired, o.Under)
			}
			maps.Copy(s.Material, items)
			for s.Rotation = got; s.Rotation != nil; s.Rotation = s.Rotation.Next(time.Now()) {
				if _, err := keys.Ensure(t.Context(), s, nil, k.spec, k.infra, nil); err != nil {
					t.Errorf("at %v: %v", s.Rotation, err)
				}
			}
		})
	}
}

// TestAnOwnAuthorityThatHasExpired and that the spec gives anew needs no rotation.
func TestAnOwnAuthorityThatHasExpired(t *testing.T) {
	k := newKeeper(t)
	_, all := k.load()
	s := &keys.Stored{Material: all.Made}
	k.expire(s.Material, certs.EtcdCA, certs.EtcdCA)
	if got := k.rotating().Expired(s, nil); !slices.Equal(got, []string{certs.EtcdCA}) {
		t.Errorf("expired are %v", got)
	}
	k.own = map[string]certs.Item{certs.EtcdCA: s.Material[certs.EtcdCA]} // of the same key and subject
	if got := k.rotating().Expired(s, nil); len(got) > 0 {
		t.Errorf("expired are %v", got)
	}
}

// TestLeavingAnAuthorityElsewhere: before a rotation from an authority whose key was never here to one of slipway's is
// stored, the cluster is looked at, and the spec does not name the old one any more.
func TestLeavingAnAuthorityElsewhere(t *testing.T) {
	k := newKeeper(t)
	_, all := k.load()
	s := &keys.Stored{Material: maps.Clone(all.Made)}
	s.Material[certs.EtcdCA] = certs.Item{Cert: all.Made[certs.EtcdCA].Cert}
	if _, err := keys.Ensure(t.Context(), s, nil, k.spec, k.infra, nil); !errors.Is(err, certs.ErrNoKey) {
		t.Errorf("got %v", err)
	}
	s.Leaving = []string{certs.EtcdCA}
	if _, err := keys.Ensure(t.Context(), s, nil, k.spec, k.infra, nil); err != nil {
		t.Error(err)
	}
}

// TestSurveyOfAnAuthorityElsewhere comes as far as asking the machines, which do not answer, and the bundle, which is empty.
func TestSurveyOfAnAuthorityElsewhere(t *testing.T) {
	k := newKeeper(t)
	_, all := k.load()
	all.Made[certs.EtcdCA] = certs.Item{Cert: all.Made[certs.EtcdCA].Cert}
	k.must(k.store.Put(t.Context(), keys.Flat(all.Made)))
	s, err := keys.Load(t.Context(), k.store)
	k.must(err)
	names := []string{certs.EtcdCA}
	c := k.rotating()
	rotation, items, err := c.Choose(s, rotate.Wish{Command: "certs rotate-ca", Names: names})
	k.must(err)
	maps.Copy(s.Material, items)
	o := rotate.NewOverview("demo", rotation)
	o.Begins = true
	reach := func(context.Context) (map[string]host.Host, func(), error) { return nil, func() {}, nil }
	if err := c.Survey(t.Context(), o, s, rotation, reach); err == nil || errors.Is(err, certs.ErrNoKey) {
		t.Errorf("the survey ends with %v", err)
	}
	if _, err := c.Stages(t.Context(), s, rotation); err == nil || errors.Is(err, certs.ErrNoKey) {
		t.Errorf("the stages end with %v", err)
	}
}
