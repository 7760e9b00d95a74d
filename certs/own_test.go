package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/secret"
)

// made is an authority that a user might bring.
type made struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// authority makes one, which signs itself without a parent.
func authority(t testing.TB, cn string, parent *made, alter func(*x509.Certificate)) *made {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn, Organization: []string{"Example"}},
		NotBefore: day0.Add(-day), NotAfter: day0.Add(20 * 365 * day),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign,
	}
	if alter != nil {
		alter(template)
	}
	m := &made{template, key}
	by := m
	if parent != nil {
		by = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if m.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *made) keyPEM(t testing.TB) secret.Bytes {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(m.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// item is m with its parents, and its key.
func (m *made) item(t testing.TB, parents ...*made) Item {
	t.Helper()
	item := Item{Cert: encode(m.cert), Key: m.keyPEM(t)}
	for _, p := range parents {
		item.Cert = append(item.Cert, encode(p.cert)...)
	}
	return item
}

// TestCheckOwn has one thing wrong with the kubernetes authority at a time.
func TestCheckOwn(t *testing.T) {
	root, other := authority(t, "Root", nil, nil), authority(t, "Other", nil, nil)
	flat := authority(t, "Flat", nil, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	middle := authority(t, "Middle", root, nil)
	low := authority(t, "Low", middle, nil)
	altered := func(alter func(*x509.Certificate)) Item { return authority(t, "Own", nil, alter).item(t) }
	in := demo()
	for name, test := range map[string]struct {
		own    Item
		inKey  bool
		says   string
		remedy string
	}{
		"no PEM":           {Item{Cert: []byte("hello")}, false, "not PEM", "in PEM"},
		"DER":              {Item{Cert: root.cert.Raw}, false, "in DER", "openssl x509 -inform DER"},
		"a key as a cert":  {Item{Cert: root.keyPEM(t)}, false, `type "PRIVATE KEY"`, "in PEM"},
		"another's key":    {Item{Cert: root.item(t).Cert, Key: other.keyPEM(t)}, true, `not the key of the CA "CN=Root,O=Example"`, "first certificate in certFile"},
		"a cert as a key":  {Item{Cert: root.item(t).Cert, Key: root.item(t).Cert}, true, "are not supported", "in PEM"},
		"a key cut short":  {Item{Cert: root.item(t).Cert, Key: root.keyPEM(t)[:60]}, true, "not one PEM block", "in PEM"},
		"an encrypted key": {Item{Cert: root.item(t).Cert, Key: pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})}, true, "is encrypted", "openssl pkey"},
		"a key encrypted as of old": {Item{Cert: root.item(t).Cert, Key: pem.EncodeToMemory(&pem.Block{
			Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte("x"),
		})}, true, "is encrypted", "openssl pkey"},
		"no authority":     {altered(func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, 0 }), false, "is not a CA", "CA:TRUE"},
		"no certSign":      {altered(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), false, "lacks keyCertSign", "keyCertSign"},
		"expired":          {altered(func(c *x509.Certificate) { c.NotAfter = day0.Add(-time.Hour) }), false, "expired on 2026-03-01", "issued again"},
		"not yet valid":    {altered(func(c *x509.Certificate) { c.NotBefore = day0.Add(time.Hour) }), false, "not valid yet", "clock"},
		"only for servers": {altered(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false, "excludes certificates for TLS clients", "clientAuth"},
		"only for mail": {
			altered(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }), false,
			"excludes certificates for TLS clients", "without that extension",
		},
		"names that exclude ours": {altered(func(c *x509.Certificate) {
			c.PermittedDNSDomains = []string{"example.com"}
		}), false, "does not permit the cluster's names", "name constraints"},
		"addresses that exclude ours": {altered(func(c *x509.Certificate) {
			c.ExcludedIPRanges = []*net.IPNet{{IP: net.IP{10, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}}
		}), false, "does not permit the cluster's names", "name constraints"},
		"an unknown critical extension": {altered(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), false, "critical extension", "1.2.3.4"},
		"a parent that permits no authorities": {
			authority(t, "Own", flat, nil).item(t, flat), false, "path length 0, and does not permit the 1 CA below it", "pathlen",
		},
		"a parent's parent that permits too few": {
			func() Item {
				top := authority(t, "Top", nil, func(c *x509.Certificate) { c.MaxPathLen = 1 })
				mid := authority(t, "Mid", top, nil)
				return authority(t, "Own", mid, nil).item(t, mid, top)
			}(), false, "path length 1, and does not permit the 2 CAs below it", "pathlen",
		},
		"a chain out of order":    {low.item(t, root, middle), false, "out of order", "each the issuer"},
		"the root first":          {Item{Cert: slices.Concat(encode(root.cert), encode(middle.cert)), Key: root.keyPEM(t)}, false, "a root, before other certificates", "the root last"},
		"a stranger in the chain": {middle.item(t, other), false, "not signed by the next certificate", "the CA and its parents"},
		"an expired parent": {func() Item {
			p := authority(t, "Old", nil, func(c *x509.Certificate) { c.NotAfter = day0.Add(-day) })
			return authority(t, "Own", p, nil).item(t, p)
		}(), false, `"CN=Old,O=Example" expired`, "another CA"},
		"a parent of another curve": {Item{Cert: weak(t)}, false, "unsupported algorithm: ECDSA-P224", "P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := CheckOwn(map[string]Item{KubernetesCA: test.own}, Table(in), day0)
			if len(faults) == 0 {
				t.Fatal("nothing is wrong with it")
			}
			var all string
			for _, f := range faults {
				all += f.Message + ": " + f.Remedy + "\n"
				if f.Authority != KubernetesCA || f.InKey != test.inKey {
					t.Errorf("it is about %+v", f)
				}
			}
			if !strings.Contains(all, test.says) || !strings.Contains(strings.ReplaceAll(all, "[1 2 3 4]", "1.2.3.4"), test.remedy) {
				t.Errorf("got %s", all)
			}
			p := policy
			p.Own = map[string]Item{KubernetesCA: test.own}
			if pki, _, err := Ensure(t.Context(), nil, Table(in), p, day0); err == nil || pki != nil {
				t.Errorf("Ensure took it: %v", err)
			}
		})
	}
}

// weak is an authority on a curve that nothing of ours supports.
func weak(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: day0, NotAfter: day0.Add(day), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestCheckOwnAmong refuses authorities that would be trusted for each other, and takes siblings.
func TestCheckOwnAmong(t *testing.T) {
	root := authority(t, "Root", nil, nil)
	a, b := authority(t, "A", root, nil), authority(t, "B", root, nil)
	for name, test := range map[string]struct {
		kubernetes, etcd Item
		says             string
	}{
		"siblings":            {a.item(t, root), b.item(t, root), ""},
		"one twice":           {a.item(t), a.item(t, root), "is the same CA as that of \"ca\""},
		"etcd above":          {a.item(t, root), root.item(t), "is above the CA \"ca\""},
		"etcd above, unshown": {a.item(t), root.item(t), "is above the CA \"ca\""},
		"etcd below":          {root.item(t), a.item(t), "is below the CA \"ca\""},
	} {
		faults := CheckOwn(map[string]Item{KubernetesCA: test.kubernetes, EtcdCA: test.etcd}, Table(demo()), day0)
		if test.says == "" && len(faults) == 0 {
			continue
		}
		if test.says == "" || len(faults) != 1 || faults[0].Authority != EtcdCA || !strings.Contains(faults[0].Message, test.says) {
			t.Errorf("%s: %+v", name, faults)
		}
	}
}

// TestOwn runs a cluster below a root, takes a new certificate of the same authority, and keeps it
// when the spec names another.
func TestOwn(t *testing.T) {
	root := authority(t, "Root", nil, nil)
	own := authority(t, "Own", root, func(c *x509.Certificate) { c.NotAfter = day0.Add(9 * 365 * day) })
	p := policy
	p.Own = map[string]Item{KubernetesCA: own.item(t, root)}
	first, _ := ensure(t, nil, demo(), p, day0)
	if len(first.Limited) != 1 || first.Limited[0].Name != KubernetesCA || len(first.Drift) != 0 {
		t.Errorf("limited %v, drift %v", first.Limited, first.Drift)
	}
	if end := parse(t, first, Admin).NotAfter; !end.Equal(own.cert.NotAfter) {
		t.Errorf("a leaf ends %v, its authority %v", end, own.cert.NotAfter)
	}
	if _, changes := ensure(t, first.Material, demo(), p, day0.Add(time.Hour)); len(changes) != 0 {
		t.Errorf("the second run changes %v", changes)
	}
	for _, q := range first.Requests {
		if q.CA == KubernetesCA {
			verifyLeaf(t, first, q, KubernetesCA)
		}
	}

	longer := &made{key: own.key}
	template := *own.cert
	template.NotAfter = day0.Add(15 * 365 * day)
	der, err := x509.CreateCertificate(rand.Reader, &template, root.cert, own.key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	longer.cert, _ = x509.ParseCertificate(der)
	p.Own = map[string]Item{KubernetesCA: longer.item(t, root)}
	renewed, changes := ensure(t, first.Material, demo(), p, day0.Add(time.Hour))
	if len(changes) < 2 || changes[0] != (Change{KubernetesCA, Renewed, string(Renewed)}) || len(renewed.Drift)+len(renewed.Limited) != 0 {
		t.Errorf("changes %v, drift %v", changes[:1], renewed.Drift)
	}

	p.Own = map[string]Item{KubernetesCA: authority(t, "Stranger", nil, nil).item(t)}
	kept, changes := ensure(t, renewed.Material, demo(), p, day0.Add(time.Hour))
	if len(changes) != 0 || len(kept.Drift) != 1 || kept.Drift[0].Reason != AuthorityChanged || !strings.Contains(kept.Drift[0].Detail, "slipway certs rotate-ca") {
		t.Errorf("changes %v, drift %v", changes, kept.Drift)
	}
	p.Own = nil
	back, changes := ensure(t, renewed.Material, demo(), p, day0.Add(time.Hour))
	if len(changes) != 0 || len(back.Drift) != 1 || back.Drift[0].Reason != SubjectChanged {
		t.Errorf("changes %v, drift %v", changes, back.Drift)
	}
}

// TestTrust looks at what goes where: the authority alone is trusted, its parents are shown, the
// root only to pods and people.
func TestTrust(t *testing.T) {
	root := authority(t, "Root", nil, nil)
	middle := authority(t, "Middle", root, nil)
	own := authority(t, "Own", middle, nil)
	p := policy
	p.Own = map[string]Item{KubernetesCA: own.item(t, middle, root)}
	pki, _ := ensure(t, nil, demo(), p, day0)
	names := func(text []byte) string {
		certs, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var cns []string
		for _, c := range certs {
			cns = append(cns, c.Subject.CommonName)
		}
		return strings.Join(cns, " ")
	}
	got := map[string]string{}
	for _, f := range pki.Files(demo().Nodes[0]) {
		if !f.Secret && !strings.HasSuffix(f.Path, ".pub") {
			got[f.Path] = names(f.Content)
		}
	}
	for path, want := range map[string]string{
		pkiDir + "ca.crt":          "Own",
		SignerFile:                 "Own",
		RootCAFile:                 "Own Middle Root",
		pkiDir + "etcd/ca.crt":     "etcd-ca",
		pkiDir + "apiserver.crt":   "kube-apiserver Own Middle",
		pkiDir + "etcd/server.crt": "demo-cp-1",
	} {
		if got[path] != want {
			t.Errorf("%s holds %q, wanted %q", path, got[path], want)
		}
	}
}

// TestRootIsNoAdministrator: who holds the company's root cannot make clients of the cluster with
// it.
func TestRootIsNoAdministrator(t *testing.T) {
	root := authority(t, "Root", nil, nil)
	own := authority(t, "Own", root, nil)
	p := policy
	p.Own = map[string]Item{KubernetesCA: own.item(t, root)}
	pki, _ := ensure(t, nil, demo(), p, day0)
	client := authority(t, "mallory", root, func(c *x509.Certificate) {
		c.IsCA, c.MaxPathLen, c.KeyUsage = false, 0, x509.KeyUsageDigitalSignature
		c.Subject.Organization, c.ExtKeyUsage = []string{"system:masters"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	for text, want := range map[string]bool{string(pki.Bundle(KubernetesCA)): false, string(pki.Chain(KubernetesCA)): true} {
		trusted, presented := x509.NewCertPool(), x509.NewCertPool()
		trusted.AppendCertsFromPEM([]byte(text))
		presented.AddCert(root.cert)
		_, err := client.cert.Verify(x509.VerifyOptions{
			Roots: trusted, Intermediates: presented, CurrentTime: day0, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if (err == nil) != want {
			t.Errorf("trusting %d bytes, accepted: %v", len(text), err == nil)
		}
	}
}

func TestLostOwnKey(t *testing.T) {
	have := Material{}
	for name, item := range base(t).Material {
		have[name] = item
	}
	have[KubernetesCA] = Item{Cert: have[KubernetesCA].Cert}
	_, _, err := Ensure(t.Context(), have, Table(demo()), policy, day0)
	expectItemError(t, err, KubernetesCA, ErrNoKey)
}

func FuzzCheckOwn(f *testing.F) {
	root := authority(f, "Root", nil, nil)
	item := authority(f, "Own", root, nil).item(f, root)
	f.Add(item.Cert, item.Key.Reveal())
	f.Add(root.cert.Raw, []byte("x"))
	requests := Table(demo())
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		own := Item{Cert: cert, Key: key}
		if len(CheckOwn(map[string]Item{EtcdCA: own}, requests, day0)) > 0 {
			return
		}
		if by, err := loadAuthority(normalized(map[string]Item{"": own})[""], true); err != nil || !maySign(by.cert) {
			t.Errorf("it was passed, and is of no use: %v", err)
		}
	})
}

// TestPolicy is about what the policy adds to what is issued.
func TestPolicy(t *testing.T) {
	p := policy
	p.KeyAlgorithm, p.CAKeyAlgorithm = Ed25519, ECDSAP384
	p.Subject = Subject{OrganizationalUnits: []string{"Platform", "Infra"}, Countries: []string{"DE"}, Localities: []string{"Berlin"}}
	in := demo()
	in.EtcdSANs, in.KubeletDomains = []string{"etcd.example.com"}, []string{"nodes.example.com"}
	pki, _ := ensure(t, nil, in, p, day0)
	for name, want := range map[string]KeyAlgorithm{KubernetesCA: ECDSAP384, Admin: Ed25519} {
		if c := parse(t, pki, name); algorithmOf(c.PublicKey) != want || p.Subject.differs(c.Subject) != "" {
			t.Errorf("%s has %s, %s", name, algorithmOf(c.PublicKey), c.Subject)
		}
	}
	if sa, err := parseKey(pki.Material[ServiceAccounts].Key); err != nil || algorithmOf(sa.Public()) != ECDSAP256 {
		t.Errorf("tokens are signed with %v, %v", algorithmOf(sa.Public()), err)
	}
	if names := parse(t, pki, "kubelet@demo-worker-1").DNSNames; !slices.Contains(names, "demo-worker-1.nodes.example.com") {
		t.Errorf("a kubelet answers to %v", names)
	}
	if names := parse(t, pki, "etcd/server@demo-cp-1").DNSNames; !slices.Contains(names, "etcd.example.com") {
		t.Errorf("etcd answers to %v", names)
	}
	if _, changes := ensure(t, pki.Material, in, p, day0.Add(time.Hour)); len(changes) != 0 {
		t.Errorf("does not converge: %v", changes)
	}
	p.Subject.Countries = []string{"FR"}
	again, changes := ensure(t, pki.Material, in, p, day0.Add(time.Hour))
	if len(again.Drift) != 3 || len(changes) != len(pki.Requests)-4 || changes[0].Detail != `subject changed: C is ["DE"], wanted ["FR"]` {
		t.Errorf("drift %v, %d changes, %v", again.Drift, len(changes), changes[0])
	}
}

// TestShortLives counts minutes: what is issued is valid now, lives as long as it may, and is
// renewed in time and not before.
func TestShortLives(t *testing.T) {
	for _, test := range []struct {
		ca, leaf, window, fresh, due time.Duration
	}{
		{time.Hour, time.Minute, 0, 40 * time.Second, 45 * time.Second},
		{time.Hour, 10 * time.Minute, 0, 6 * time.Minute, 8 * time.Minute},
		{time.Hour, 10 * time.Minute, 8 * time.Minute, 30 * time.Second, 70 * time.Second},
		{time.Hour, 30 * time.Minute, 5 * time.Minute, 21 * time.Minute, 23 * time.Minute},
		{30 * 365 * day, 10 * 365 * day, 60 * day, (10*365 - 61) * day, (10*365 - 59) * day},
	} {
		p := Policy{CAValidity: test.ca, LeafValidity: test.leaf, RenewalWindow: test.window, KeyAlgorithm: ECDSAP256}
		pki, _ := ensure(t, nil, demo(), p, day0)
		leaf := parse(t, pki, Admin)
		if day0.Before(leaf.NotBefore) || leaf.NotAfter.Sub(day0) < test.leaf/10*8 || leaf.NotAfter.Sub(leaf.NotBefore) != test.leaf {
			t.Errorf("%v: from %v to %v", test, leaf.NotBefore, leaf.NotAfter)
		}
		if _, changes := ensure(t, pki.Material, demo(), p, day0.Add(test.fresh)); len(changes) != 0 {
			t.Errorf("%v: renewed already: %v", test, changes[0])
		}
		renewed, changes := ensure(t, pki.Material, demo(), p, day0.Add(test.due))
		if len(changes) == 0 || changes[0].Reason != Expiring {
			t.Errorf("%v: not renewed: %v", test, changes)
		}
		if _, changes := ensure(t, renewed.Material, demo(), p, day0.Add(test.due)); len(changes) != 0 {
			t.Errorf("%v: due at once: %v", test, changes[0])
		}
	}
	p := policy
	p.RenewalWindow = 9 * 365 * day
	if _, _, err := Ensure(t.Context(), nil, Table(demo()), p, day0); err == nil || errors.Is(err, ErrMalformed) {
		t.Errorf("a window wider than the life: %v", err)
	}
}
