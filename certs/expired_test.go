package certs

import (
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"
)

// inStages is a rotation of names in each of its stages, forward, and back from its last but one.
func inStages(t *testing.T, names []string) map[string]*Rotation {
	t.Helper()
	all := map[string]*Rotation{}
	for r := Begin(names, day0); r != nil; r = r.Next(day0) {
		all[string(r.Stage)] = r
		back, err := r.Rollback()
		if err != nil {
			continue
		}
		for ; back != nil; back = back.Next(day0) {
			all["back: "+string(back.Stage)] = back
		}
	}
	return all
}

// TestWithExpired: whatever stage a rotation is in when an authority expires, it goes on with that
// authority from stage issue, and brings what it had brought.
func TestWithExpired(t *testing.T) {
	requests, later := Table(demo()), day0.Add(time.Hour)
	brief := authority(t, "Brief", nil, nil).item(t)
	lasting := authority(t, "Lasting", nil, nil).item(t)
	past := func(cn string) Item {
		return authority(t, cn, nil, func(c *x509.Certificate) { c.NotAfter = day0.Add(time.Minute) }).item(t)
	}
	old := past("Old")
	for name, test := range map[string]struct {
		names, expired []string
		next           Item // of the first of names
		want, lacking  []string
		former         bool
	}{
		"the old one of its own":       {[]string{EtcdCA}, []string{EtcdCA}, lasting, []string{EtcdCA}, nil, false},
		"another":                      {[]string{KubernetesCA}, []string{EtcdCA}, lasting, []string{KubernetesCA, EtcdCA}, []string{EtcdCA}, false},
		"the new one":                  {[]string{EtcdCA}, []string{EtcdCA}, old, []string{EtcdCA}, []string{EtcdCA}, true},
		"with the key of tokens":       {[]string{ServiceAccounts}, []string{KubernetesCA}, brief, []string{KubernetesCA, ServiceAccounts}, []string{KubernetesCA}, false},
		"the key of Secrets":           {[]string{EncryptionKey}, []string{FrontProxyCA}, NewEncryptionKey(), []string{FrontProxyCA, EncryptionKey}, []string{FrontProxyCA}, false},
		"all, and what it brought too": {[]string{EtcdCA, EncryptionKey}, []string{KubernetesCA, EtcdCA, FrontProxyCA}, old, []string{KubernetesCA, EtcdCA, FrontProxyCA, EncryptionKey}, []string{KubernetesCA, EtcdCA, FrontProxyCA, EncryptionKey}, true}, // its .next is lost
	} {
		stored := Material{}
		for _, name := range test.expired {
			stored[NextName(name)] = lasting // left behind by a rotation that has ended
		}
		stored[NextName(test.names[0])] = test.next
		for stage, r := range inStages(t, test.names) {
			before := *r
			got, lacking := r.WithExpired(test.expired, stored, requests, later)
			if !slices.Equal(got.Names, test.want) || !slices.Equal(lacking, test.lacking) {
				t.Errorf("%s, %s: %v, lacking %v; want %v, lacking %v", name, stage, got.Names, lacking, test.want, test.lacking)
			}
			if got.Stage != Issue || !got.Expired || got.Back || len(got.Passed) > 0 || !got.Began.Equal(r.Began) {
				t.Errorf("%s, %s: it is %+v", name, stage, got)
			}
			want := map[string][]string{}
			if test.former {
				want[test.names[0]] = []string{test.next.fingerprint()}
			}
			if !maps.EqualFunc(got.Former, want, slices.Equal) || len(before.Former) != len(r.Former) {
				t.Errorf("%s, %s: former ones are %v, want %v", name, stage, got.Former, want)
			}
			if again, _ := got.WithExpired(test.expired, nil, requests, later); !maps.EqualFunc(again.Former, want, slices.Equal) {
				t.Errorf("%s, %s: once more, former ones are %v, want %v", name, stage, again.Former, want)
			}
		}
	}
}

// TestARotationGoesOnWithWhatHasExpired: where Ensure could issue nothing more, it can again, until
// the end.
func TestARotationGoesOnWithWhatHasExpired(t *testing.T) {
	names, requests, later := []string{KubernetesCA, ServiceAccounts}, Table(demo()), day0.Add(time.Hour)
	old := authority(t, "Old", nil, func(c *x509.Certificate) { c.NotAfter = day0.Add(time.Minute) }).item(t)
	stored := maps.Clone(base(t).Material)
	stored[EtcdCA] = old
	stored = at(t, stored, nil, day0).Material
	items, err := NewItems(names, requests, policy, day0)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(stored, items)
	for stage, r := range inStages(t, names) {
		used, _ := r.View(stored)
		expired := used.Expired(requests, later)
		if _, _, err := Ensure(t.Context(), used, requests, policy, later); !errors.Is(err, ErrExpired) || !slices.Equal(expired, []string{EtcdCA}) {
			t.Fatalf("%s: expired are %v: %v", stage, expired, err)
		}
		next, lacking := r.WithExpired(expired, stored, requests, later)
		made, err := NewItems(lacking, requests, policy, later)
		if err != nil {
			t.Fatal(err)
		}
		all := maps.Clone(stored)
		maps.Copy(all, made)
		for ; next != nil; next = next.Next(later) {
			pki := at(t, all, next, later)
			for _, name := range []string{KubernetesCA, EtcdCA, ServiceAccounts} {
				if string(pki.Material[name].Cert) != string(all[NextName(name)].Cert) || string(pki.Other[name].Cert) != string(stored[name].Cert) {
					t.Errorf("%s, %v: %s in use is not the new one", stage, next, name)
				}
			}
		}
	}
}
