package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/secret"
)

// TestDamage alters material that exists. Each damage has its error, which names the item, and
// nothing is issued.
func TestDamage(t *testing.T) {
	base := base(t)
	other, _ := ensure(t, nil, demo(), policy, day0)
	const leaf = "etcd/server@demo-cp-1"
	for name, test := range map[string]struct {
		item  string
		alter func(Item) Item
		now   time.Time
		want  error
		says  string
	}{
		"certificate that is no PEM": {leaf, func(i Item) Item { i.Cert = []byte("hello"); return i }, day0, ErrMalformed, "not PEM"},
		"certificate with a flipped bit": {leaf, func(i Item) Item {
			block, _ := pem.Decode(i.Cert)
			block.Bytes[3] ^= 0x40
			i.Cert = pem.EncodeToMemory(block)
			return i
		}, day0, ErrMalformed, "certificate: "},
		"certificate cut short": {leaf, func(i Item) Item { i.Cert = i.Cert[:len(i.Cert)/2]; return i }, day0, ErrMalformed, "not PEM"},
		"no certificate":        {leaf, func(i Item) Item { i.Cert = nil; return i }, day0, ErrMalformed, "no certificate"},
		"a key for a certificate": {
			leaf, func(i Item) Item { i.Cert = i.Key.Reveal(); return i }, day0, ErrMalformed,
			`a PEM block of type "EC PRIVATE KEY" instead of a certificate`,
		},
		"two certificates":       {leaf, func(i Item) Item { i.Cert = append(bytes.Clone(i.Cert), i.Cert...); return i }, day0, ErrMalformed, "2 certificates"},
		"no key":                 {leaf, func(i Item) Item { i.Key = nil; return i }, day0, ErrMalformed, "private key is not one PEM block"},
		"a certificate as a key": {leaf, func(i Item) Item { i.Key = i.Cert; return i }, day0, ErrMalformed, `private keys of type "CERTIFICATE" are not supported`},
		"another leaf's key":     {leaf, func(i Item) Item { i.Key = base.Material["etcd/peer@demo-cp-1"].Key; return i }, day0, ErrKeyMismatch, ""},
		"another authority's key": {KubernetesCA, func(i Item) Item {
			i.Key = base.Material[EtcdCA].Key
			return i
		}, day0, ErrKeyMismatch, ""},
		"a leaf as an authority": {EtcdCA, func(Item) Item { return base.Material[leaf] }, day0, ErrNotAuthority, ""},
		"an expired authority":   {KubernetesCA, func(i Item) Item { return i }, day0.Add(31 * 365 * day), ErrExpired, "on 2056-02-22"},
		"a clock behind":         {FrontProxyCA, func(i Item) Item { return i }, day0.Add(-day), ErrNotYetValid, "2026-03-01T11:55:00Z"},
		"another public key":     {ServiceAccounts, func(i Item) Item { i.Cert = other.Material[ServiceAccounts].Cert; return i }, day0, ErrKeyMismatch, ""},
		"a broken public key":    {ServiceAccounts, func(i Item) Item { i.Cert = []byte("x"); return i }, day0, ErrMalformed, "PUBLIC KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			have := maps.Clone(base.Material)
			have[test.item] = test.alter(have[test.item])
			pki, changes, err := Ensure(t.Context(), have, Table(demo()), policy, test.now)
			expectItemError(t, err, test.item, test.want)
			if pki != nil || changes != nil {
				t.Error("there is a result all the same")
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error does not say %q: %v", test.says, err)
			}
		})
	}
}

func expectItemError(t *testing.T, err error, item string, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, wanted %v", err, want)
	}
	for _, e := range flattenErrors(err) {
		var ie *ItemError
		if errors.As(e, &ie) && ie.Name == item {
			return
		}
	}
	t.Errorf("no *ItemError names %s: %v", item, err)
}

// flattenErrors is what errors.Join joined.
func flattenErrors(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only the outermost is looked at
		return joined.Unwrap()
	}
	return []error{err}
}

// TestLost removes what cannot be recreated without breaking the cluster.
func TestLost(t *testing.T) {
	base := base(t)
	for _, name := range []string{KubernetesCA, EtcdCA, FrontProxyCA, ServiceAccounts} {
		have := maps.Clone(base.Material)
		delete(have, name)
		_, _, err := Ensure(t.Context(), have, Table(demo()), policy, day0)
		expectItemError(t, err, name, ErrLost)
	}
}

func TestAllDamageIsReportedAtOnce(t *testing.T) {
	base := base(t)
	have := maps.Clone(base.Material)
	have["admin"] = Item{Cert: []byte("x")}
	have["kubelet@demo-worker-1"] = Item{Cert: have["kubelet@demo-worker-1"].Cert, Key: have["admin"].Key}
	_, _, err := Ensure(t.Context(), have, Table(demo()), policy, day0)
	for _, name := range []string{"admin", "kubelet@demo-worker-1"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in: %v", name, err)
		}
	}
}

// TestImpossible asks for what cannot be issued as asked. It must fail, not be issued again at
// every run.
func TestImpossible(t *testing.T) {
	for name, alter := range map[string]func(*Request){
		"a name that is none":        func(q *Request) { q.DNSNames = []string{"user@example.com"} },
		"names that are not sorted":  func(q *Request) { q.DNSNames = []string{"b", "a"} },
		"an authority of no request": func(q *Request) { q.CA = "nobody" },
	} {
		requests := Table(demo())
		last := &requests[len(requests)-1]
		alter(last)
		_, _, err := Ensure(t.Context(), nil, requests, policy, day0)
		var ie *ItemError
		if !errors.As(err, &ie) || ie.Name != last.Name {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestForeignAuthority takes over an authority that somebody else made, with an RSA key in PKCS#8.
func TestForeignAuthority(t *testing.T) {
	p := policy
	p.KeyAlgorithm = RSA2048
	item, err := issue(Request{Name: "ca", Kind: Authority, CommonName: "Example Corp"}, p, nil, day0)
	if err != nil {
		t.Fatal(err)
	}
	have := Material{KubernetesCA: pkcs8(t, item)}
	// A key pair cannot be missing beside other material, so it is brought along.
	sa, err := newKeyPair(Request{Name: ServiceAccounts}, policy)
	if err != nil {
		t.Fatal(err)
	}
	have[ServiceAccounts] = sa
	pki, changes := ensure(t, have, demo(), policy, day0)
	if !bytes.Equal(pki.Material[KubernetesCA].Cert, item.Cert) || len(changes) != len(pki.Requests)-2 {
		t.Errorf("%d changes, authority kept: %v", len(changes), bytes.Equal(pki.Material[KubernetesCA].Cert, item.Cert))
	}
	if len(pki.Drift) != 1 || pki.Drift[0].Reason != SubjectChanged {
		t.Errorf("drift: %v", pki.Drift)
	}
	for _, q := range pki.Requests {
		if q.CA == KubernetesCA {
			verifyLeaf(t, pki, q, KubernetesCA)
		}
	}
}

func FuzzParse(f *testing.F) {
	pki := base(f)
	f.Add(pki.Material[KubernetesCA].Cert)
	f.Add(append(bytes.Clone(pki.Material[Admin].Cert), "\n\n"...))
	f.Add(pki.Material[Admin].Key.Reveal())
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := Parse(data)
		if (err == nil) != (len(certs) > 0) || (err != nil && !errors.Is(err, ErrMalformed)) {
			t.Errorf("%d certificates and %v", len(certs), err)
		}
	})
}

func FuzzLoad(f *testing.F) {
	pki := base(f)
	for _, name := range []string{KubernetesCA, Admin, ServiceAccounts} {
		f.Add(pki.Material[name].Cert, pki.Material[name].Key.Reveal())
	}
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		item := Item{Cert: cert, Key: secret.Bytes(key)}
		_, signer, err := load(item)
		for _, err := range []error{err, checkKeyPair(item)} {
			if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrKeyMismatch) {
				t.Errorf("an error of no kind: %v", err)
			}
		}
		if err == nil && signer == nil {
			t.Error("neither key nor error")
		}
	})
}

func pkcs8(t *testing.T, item Item) Item {
	t.Helper()
	key, err := parseKey(item.Key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Item{Cert: item.Cert, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}
