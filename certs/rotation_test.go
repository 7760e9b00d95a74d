package certs

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
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

// While a cluster goes from one stage to the next some hosts are in the one and some in the other:
// whatever any of them shows has to be trusted by all of them. The first and the last stage are
// those without a rotation.
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

func TestReadRotationTakesOnlyWhatItKnows(t *testing.T) {
	now := day0
	for _, path := range paths([]string{KubernetesCA, EtcdCA, FrontProxyCA, ServiceAccounts, EncryptionKey}, now) {
		for _, r := range path {
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ReadRotation(text); err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("%s came back as %+v, %v", text, got, err)
			}
		}
	}
	const began = `,"began":"2026-01-01T00:00:00Z"`
	for name, text := range map[string]string{
		"nothing":                 "",
		"an unknown field":        `{"names":["ca"],"stage":"trust","pace":"slow"` + began + `}`,
		"an unknown stage":        `{"names":["ca"],"stage":"twice"` + began + `}`,
		"no stage":                `{"names":["ca"]` + began + `}`,
		"a stage of another":      `{"names":["etcd/ca"],"stage":"tokens"` + began + `}`,
		"a stage of the way back": `{"names":["ca"],"stage":"return"` + began + `}`,
		"a stage of the way on":   `{"names":["ca"],"stage":"issue","back":true` + began + `}`,
		"trust of what expired":   `{"names":["ca"],"stage":"trust","expired":true` + began + `}`,
		"no names":                `{"names":[],"stage":"trust"` + began + `}`,
		"an unknown name":         `{"names":["ca","webhook-ca"],"stage":"trust"` + began + `}`,
	} {
		if r, err := ReadRotation([]byte(text)); err == nil || r != nil {
			t.Errorf("%s: %+v was taken", name, r)
		}
	}
}

// Who has expired is replaced at once: the new is used from the first stage, and there is no way
// back.
func TestExpiredAuthoritiesAreReplacedAtOnce(t *testing.T) {
	first := at(t, nil, nil, day0)
	requests := Table(demo())
	ends, err := Parse(first.Material[EtcdCA].Cert)
	if err != nil {
		t.Fatal(err)
	}
	last := ends[0].NotAfter
	if got := first.Material.Expired(requests, last); len(got) != 0 {
		t.Errorf("%v have expired at their end", got)
	}
	now := last.Add(time.Second)
	names := first.Material.Expired(requests, now)
	if !slices.Equal(names, []string{KubernetesCA, EtcdCA, FrontProxyCA}) {
		t.Fatalf("expired are %v", names)
	}
	if _, _, err := Ensure(t.Context(), first.Material, requests, policy, now); !errors.Is(err, ErrExpired) {
		t.Errorf("without a rotation: %v", err)
	}
	next, err := NewItems(append(names, ServiceAccounts), requests, policy, now)
	if err != nil {
		t.Fatal(err)
	}
	stored := maps.Clone(first.Material)
	maps.Copy(stored, next)
	var stages []Stage
	for r := BeginExpired(append(names, ServiceAccounts), now); r != nil; r = r.Next(now) {
		stages = append(stages, r.Stage)
		if _, err := r.Rollback(); err == nil {
			t.Errorf("%v went back", r)
		}
		pki := at(t, stored, r, now)
		for _, name := range r.Names {
			if string(pki.Material[name].Cert) != string(next[NextName(name)].Cert) || string(pki.Other[name].Cert) != string(first.Material[name].Cert) {
				t.Errorf("%v: %s in use is not the new one", r, name)
			}
			if both := len(pki.Bundle(name)) > len(next[NextName(name)].Cert); both != (r.Stage != Drop) {
				t.Errorf("%v: old and new of %s are trusted: %t", r, name, both)
			}
		}
		// Whether the old is refused in the end is asked with a certificate that it has signed,
		// expired or not.
		if _, err := NewProbe(pki.Other[EtcdCA], "probe", now); err != nil {
			t.Errorf("%v: cannot be probed: %v", r, err)
		}
	}
	if !slices.Equal(stages, []Stage{Issue, Rollout, Drop}) {
		t.Errorf("the stages are %v", stages)
	}
	if got := BeginExpired([]string{EtcdCA}, now).Stages(); !slices.Equal(got, []Stage{Issue, Drop}) {
		t.Errorf("of etcd's the stages are %v", got)
	}
}

// An authority whose key was never here can be replaced by one of slipway's, which the spec does
// not name.
func TestAnAuthorityWithoutItsKeyIsReplaced(t *testing.T) {
	first := at(t, nil, nil, day0)
	stored := maps.Clone(first.Material)
	stored[EtcdCA] = Item{Cert: first.Material[EtcdCA].Cert}
	names := []string{EtcdCA}
	next, err := NewItems(names, Table(demo()), policy, day0)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(stored, next)
	p := policy
	p.Replaced = names
	for r := Begin(names, day0); r != nil; r = r.Next(day0) {
		used, other := r.View(stored)
		pki, _, err := Ensure(t.Context(), used, Table(demo()), p, day0)
		if err != nil || len(pki.Pending) > 0 {
			t.Errorf("%v: %v", r, err)
			continue
		}
		if r.Stage == Drop && len(other[EtcdCA].Key) > 0 {
			t.Error("the other one has a key")
		}
	}
}

// What was chosen of workloads is remembered through all stages, and one that was stored before
// says nothing of it.
func TestRotationRemembersChoices(t *testing.T) {
	r := Begin([]string{KubernetesCA}, day0)
	r.NoRollout, r.SkipUnmanaged = true, true
	for ; r != nil; r = r.Next(day0) {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ReadRotation(text)
		if err != nil || !read.NoRollout || !read.SkipUnmanaged {
			t.Errorf("%s is read as %+v, %v", text, read, err)
		}
	}
	older, err := ReadRotation([]byte(`{"names":["ca"],"stage":"trust","began":"2026-11-21T12:00:00Z"}`))
	if err != nil || older.NoRollout || older.SkipUnmanaged {
		t.Errorf("one of before is read as %+v, %v", older, err)
	}
}

func TestRemainingStages(t *testing.T) {
	r := Begin([]string{ServiceAccounts}, day0)
	for left := r.Stages(); r != nil; r, left = r.Next(day0), left[1:] {
		if got := r.Remaining(); !slices.Equal(got, left) {
			t.Errorf("%v: %v lie ahead, want %v", r, got, left)
		}
	}
}
