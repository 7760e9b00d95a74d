package certs

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"
)

// keyElsewhere is a cluster whose etcd authority's key is not here, all of its leaves signed, and
// the authority with its key.
func keyElsewhere(t *testing.T) (have Material, p Policy, with Item) {
	t.Helper()
	own := authority(t, "Own", nil, nil)
	p = policy
	p.Own = map[string]Item{EtcdCA: own.item(t)}
	pki, _ := ensure(t, nil, demo(), p, day0)
	have = maps.Clone(pki.Material)
	have[EtcdCA] = Item{Cert: encode(own.cert)}
	p.Own = map[string]Item{EtcdCA: have[EtcdCA]}
	return have, p, pki.Material[EtcdCA]
}

// TestRenewalElsewhere: a leaf that fits and whose renewal was asked for waits, from the request to
// the signature, while the one that there is goes on being used.
func TestRenewalElsewhere(t *testing.T) {
	const leaf, here = "etcd/server@demo-cp-1", "apiserver@demo-cp-1"
	have, p, with := keyElsewhere(t)
	by, err := loadAuthority(with, false)
	if err != nil {
		t.Fatal(err)
	}
	now := day0.Add(time.Hour)
	if pki, changes := ensure(t, have, demo(), p, now); len(changes)+len(pki.Pending) > 0 {
		t.Fatalf("changes %v, pending %v", changes, pki.Pending)
	}
	asked := p
	asked.Renew = []string{here, leaf}
	pki, changes := ensure(t, have, demo(), asked, now)
	want := []Pending{{Change: Change{leaf, Requested, string(Requested)}, Usable: true}}
	if len(changes) != 1 || changes[0].Name != here || !slices.Equal(pki.Pending, want) || !bytes.Equal(pki.Material[leaf].Cert, have[leaf].Cert) {
		t.Errorf("changes %v, pending %v", changes, pki.Pending)
	}
	if err := pki.Unrenewed(asked.Renew); err == nil || !slices.Equal(err.Names, []string{leaf}) || !err.Renewal ||
		err.Error() != "1 certificate can only be renewed by an external CA: "+leaf {
		t.Errorf("got %v", err)
	}
	if err := pki.Unrenewed([]string{here}); err != nil {
		t.Errorf("got %v", err)
	}
	requests, err := pki.SigningRequests(t.Context(), p)
	if err != nil || len(requests) != 1 || !requests[0].New {
		t.Fatalf("requests %v: %v", requests, err)
	}

	waiting, changes := ensure(t, pki.Material, demo(), p, now) // nobody asks again
	again, err := waiting.SigningRequests(t.Context(), p)
	if err != nil || len(changes) > 0 || !slices.Equal(waiting.Pending, want) || len(waiting.Obsolete) > 0 || len(again) != 1 || again[0].New {
		t.Errorf("waiting: changes %v, pending %v, obsolete %v, %v", changes, waiting.Pending, waiting.Obsolete, err)
	}
	signed, err := sign(requests[0].Request, p, by, requests[0].CSR, now)
	if err != nil {
		t.Fatal(err)
	}
	request := waiting.Material[leaf+pendingExt]
	if names, err := waiting.Import([]Signed{{"back.crt", signed}}, p, now); err != nil || !slices.Equal(names, []string{leaf}) {
		t.Fatalf("took in %v: %v", names, err)
	}
	if bytes.Equal(waiting.Material[leaf].Key, have[leaf].Key) {
		t.Error("the key is the one of before")
	}
	waiting.Material[leaf+pendingExt] = request // killed before it was forgotten
	done, changes := ensure(t, waiting.Material, demo(), p, now)
	if len(changes)+len(done.Pending) > 0 || !slices.Equal(done.Obsolete, []string{leaf + pendingExt}) {
		t.Errorf("afterwards: changes %v, pending %v, obsolete %v", changes, done.Pending, done.Obsolete)
	}
}

// TestRequestsThatNobodyWaitsFor are forgotten.
func TestRequestsThatNobodyWaitsFor(t *testing.T) {
	const leaf = "etcd/server@demo-cp-1"
	have, p, key := keyElsewhere(t)
	asked := p
	asked.Renew = []string{leaf}
	pki, _ := ensure(t, have, demo(), asked, day0)
	if _, err := pki.SigningRequests(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	withKey := maps.Clone(pki.Material)
	withKey[EtcdCA] = key
	other := demo()
	other.EtcdSANs = []string{"etcd.example.com"}
	returned := p
	returned.Returned = []string{EtcdCA}
	old, _ := ensure(t, have, demo(), p, day0)
	for name, test := range map[string]struct {
		have    Material
		policy  Policy
		pending int
	}{
		"asked for":           {pki.Material, p, 1},
		"the key is here now": {withKey, p, 0},
		"rolled back":         {pki.Material, returned, 0},
		"never":               {old.Material, p, 0},
	} {
		got, changes := ensure(t, test.have, demo(), test.policy, day0)
		_, there := test.have[leaf+pendingExt]
		if len(got.Pending) != test.pending || len(changes) > 0 || (len(got.Obsolete) > 0) != (there && test.pending == 0) {
			t.Errorf("%s: pending %v, obsolete %v, changes %v", name, got.Pending, got.Obsolete, changes)
		}
	}
	// It asks for what is not wanted any more: the cluster cannot do without another.
	if got, _, err := Ensure(t.Context(), pki.Material, Table(other), p, day0); err == nil || got.Pending[0].Reason != SANsChanged || got.Pending[0].Usable {
		t.Errorf("with other names: %v", err)
	}
}
