package certs

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"
)

// stageOf is a cluster in one stage: what it issues and whom it trusts.
type stageOf struct {
	rotation *Rotation
	pki      *PKI
}

// at gives the PKI of a stage from what is stored, as a run does.
func at(t *testing.T, stored Material, r *Rotation, now time.Time) *PKI {
	t.Helper()
	used, other := r.View(stored)
	pki, _, err := Ensure(t.Context(), used, Table(demo()), policy, now)
	if err != nil {
		t.Fatal(err)
	}
	pki.Rotation, pki.Other = r, other
	return pki
}

// paths are all ways that a rotation of some items can take: to its end, or back from each stage.
func paths(names []string, now time.Time) [][]*Rotation {
	var all [][]*Rotation
	var forward []*Rotation
	for r := Begin(names, now); r != nil; r = r.Next(now) {
		forward = append(forward, r)
		back, err := r.Rollback()
		if err != nil {
			continue
		}
		path := slices.Clone(forward)
		for ; back != nil; back = back.Next(now) {
			path = append(path, back)
		}
		all = append(all, path)
	}
	return append(all, forward)
}

// While a cluster goes from one stage to the next some hosts are in the one and some in the other: whatever any of them
// shows has to be trusted by all of them. The first and the last stage are those without a rotation.
func TestRotationNeverCutsAnybodyOff(t *testing.T) {
	now := day0
	names := []string{KubernetesCA, EtcdCA, FrontProxyCA, ServiceAccounts}
	requests := Table(demo())
	first := at(t, nil, nil, now)
	next, err := NewItems(names, requests, policy, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths(names, now) {
		last := path[len(path)-1]
		t.Run(fmt.Sprintf("back %t after %d stages", last.Back, len(path)), func(t *testing.T) {
			stored := Material{}
			for _, m := range []Material{first.Material, next} {
				for name, item := range m {
					stored[name] = item
				}
			}
			stages := []stageOf{{nil, first}}
			for _, r := range path {
				pki := at(t, stored, r, now)
				for _, q := range requests { // leaves are kept as they are issued; authorities stay until the end
					if q.Kind == Leaf {
						stored[q.Name] = pki.Material[q.Name]
					}
				}
				stages = append(stages, stageOf{r, pki})
			}
			for name, item := range last.Finished(stored) {
				stored[name] = item
			}
			for _, name := range names {
				delete(stored, NextName(name))
			}
			stages = append(stages, stageOf{nil, at(t, stored, nil, now)})
			for i := 1; i < len(stages); i++ {
				trusts(t, stages[i-1], stages[i])
				trusts(t, stages[i], stages[i-1])
			}
			end := stages[len(stages)-1].pki
			for _, name := range names {
				want := next[NextName(name)]
				if last.Back {
					want = first.Material[name]
				}
				if string(end.Bundle(name)) != string(want.Cert) {
					t.Errorf("in the end %s is not the one that should be trusted, alone", name)
				}
			}
		})
	}
}

// trusts checks that hosts of one stage take what hosts of another show.
func trusts(t *testing.T, one, other stageOf) {
	t.Helper()
	pools := map[string]*x509.CertPool{}
	for _, q := range one.pki.Requests {
		if q.Kind == Authority {
			pools[q.Name] = x509.NewCertPool()
			pools[q.Name].AppendCertsFromPEM(one.pki.Bundle(q.Name))
		}
	}
	for _, q := range other.pki.Requests {
		if q.Kind != Leaf {
			continue
		}
		leaf, err := Parse(other.pki.Material[q.Name].Cert)
		if err != nil {
			t.Fatal(err)
		}
		options := x509.VerifyOptions{Roots: pools[q.CA], CurrentTime: day0, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		if _, err := leaf[0].Verify(options); err != nil {
			t.Errorf("%v does not trust %s of %v: %v", one.rotation, q.Name, other.rotation, err)
		}
	}
	signs := other.pki.Material[ServiceAccounts].Cert
	if !contains(one.pki.Bundle(ServiceAccounts), signs) {
		t.Errorf("%v does not take tokens of %v", one.rotation, other.rotation)
	}
}

func contains(bundle, item []byte) bool {
	for len(bundle) >= len(item) {
		if string(bundle[:len(item)]) == string(item) {
			return true
		}
		bundle = bundle[1:]
	}
	return false
}

func TestRotationStages(t *testing.T) {
	now := day0
	for _, c := range []struct {
		names []string
		want  []Stage
	}{
		{[]string{KubernetesCA}, []Stage{Trust, Rollout, Issue, Drop}},
		{[]string{EtcdCA}, []Stage{Trust, Issue, Drop}},
		{[]string{ServiceAccounts}, []Stage{Trust, Tokens, Rollout, Issue, Drop}},
		{[]string{EncryptionKey}, []Stage{Trust, Issue, Drop}},
	} {
		var got []Stage
		for r := Begin(c.names, now); r != nil; r = r.Next(now) {
			got = append(got, r.Stage)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.names, got, c.want)
		}
	}
}

func TestRotationGoesBackUntilItDrops(t *testing.T) {
	now := day0
	r := Begin([]string{KubernetesCA}, now)
	back, err := r.Rollback()
	if err != nil || !slices.Equal(back.Stages(), []Stage{Return, Drop}) {
		t.Errorf("from trust: %v, %v; no workload has seen the new alone", back.Stages(), err)
	}
	if _, err := back.Rollback(); err == nil {
		t.Error("it went back twice")
	}
	for r.Stage != Issue {
		r = r.Next(now)
	}
	if back, err = r.Rollback(); err != nil || !slices.Equal(back.Stages(), []Stage{Return, Rollout, Drop}) {
		t.Errorf("from issue: %v, %v", back.Stages(), err)
	}
	if _, err := r.Next(now).Rollback(); err == nil {
		t.Error("it went back although hosts may have dropped the old")
	}
}

// An interrupt between the last two writes leaves the new one under both names.
func TestRotationInterruptedAtItsVeryEnd(t *testing.T) {
	now := day0
	r := Begin([]string{KubernetesCA}, now)
	for next := r; next != nil; next = r.Next(now) {
		r = next
	}
	item := Item{Cert: []byte("new")}
	used, other := r.View(Material{KubernetesCA: item, NextName(KubernetesCA): item})
	if string(used[KubernetesCA].Cert) != "new" || len(other) > 0 || len(used) != 1 {
		t.Errorf("used %v, other %v", used, other)
	}
}

func TestEncryptionKeysAreNamedAndStored(t *testing.T) {
	first := NewEncryptionKey()
	second := NewEncryptionKey(string(first.Cert))
	if string(first.Cert) != "key1" || string(second.Cert) != "key2" || len(second.Key) != encryptionKeySize || string(first.Key) == string(second.Key) {
		t.Errorf("%s, %s", first.Cert, second.Cert)
	}
	got, err := ParseEncryptionKey(FormatEncryptionKey(second))
	if err != nil || string(got.Cert) != "key2" || string(got.Key) != string(second.Key) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = ParseEncryptionKey(first.Key); err != nil || string(got.Cert) != "key1" {
		t.Errorf("a key that was stored without its name: %v, %v", got, err)
	}
	for _, bad := range []string{"", "key2", "key2:AAAA", "key2:!"} {
		if _, err := ParseEncryptionKey([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
