package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/provision/secret"
)

var update = flag.Bool("update", false, "rewrite golden files")

var (
	day0   = time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)
	policy = Policy{CAValidity: 30 * 365 * day, LeafValidity: 10 * 365 * day, KeyAlgorithm: ECDSAP256}
)

func demo() Inputs {
	network := []Client{{Name: "flannel", CA: KubernetesCA, CommonName: "system:flannel"}}
	return Inputs{
		ClusterName:  "demo",
		DNSDomain:    "cluster.local",
		APIServiceIP: netip.MustParseAddr("10.96.0.1"),
		EndpointSANs: []string{"api.example.com", "192.0.2.10"},
		Nodes: []Node{
			{"demo-cp-1", netip.MustParseAddr("10.89.0.11"), true},
			{"demo-cp-2", netip.MustParseAddr("10.89.0.12"), true},
			{"demo-cp-3", netip.MustParseAddr("10.89.0.13"), true},
			{"demo-worker-1", netip.MustParseAddr("10.89.0.21"), false},
		},
		Clients: map[string][]Client{"demo-cp-1": network, "demo-cp-2": network, "demo-cp-3": network, "demo-worker-1": network},
	}
}

// ensure is Ensure for what must succeed.
func ensure(t testing.TB, have Material, in Inputs, p Policy, now time.Time) (*PKI, []Change) {
	t.Helper()
	pki, changes, err := Ensure(t.Context(), have, Table(in), p, now)
	if err != nil {
		t.Fatal(err)
	}
	return pki, changes
}

var shared = sync.OnceValues(func() (*PKI, error) {
	pki, _, err := Ensure(context.Background(), nil, Table(demo()), policy, day0)
	return pki, err
})

// base is the PKI of demo, made once. Tests clone what they alter.
func base(t testing.TB) *PKI {
	t.Helper()
	pki, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return pki
}

func parse(t testing.TB, pki *PKI, name string) *x509.Certificate {
	t.Helper()
	certs, err := Parse(pki.Material[name].Cert)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return certs[0]
}

// TestGolden lists what is really issued, not what the table says.
func TestGolden(t *testing.T) {
	pki := base(t)
	var b strings.Builder
	for _, q := range pki.Requests {
		fmt.Fprintf(&b, "%s\n  path: %s\n", q.Name, q.Path)
		if q.Kind == KeyPair {
			continue
		}
		c := parse(t, pki, q.Name)
		fmt.Fprintf(&b, "  subject: %s\n  issuer: %s\n  valid: %s - %s\n", c.Subject, c.Issuer, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		fmt.Fprintf(&b, "  key: %s, usage %#x, extended %v\n", algorithmOf(c.PublicKey), int(c.KeyUsage), c.ExtKeyUsage)
		if c.IsCA {
			fmt.Fprintf(&b, "  authority: path length %d\n", c.MaxPathLen)
		}
		if len(c.DNSNames)+len(c.IPAddresses) > 0 {
			fmt.Fprintf(&b, "  sans: %v %v\n", c.DNSNames, c.IPAddresses)
		}
	}
	for _, n := range demo().Nodes {
		fmt.Fprintf(&b, "files of %s\n", n.Name)
		for _, f := range pki.Files(n) {
			fmt.Fprintf(&b, "  %04o %s\n", f.Mode, f.Path)
		}
	}
	golden(t, "testdata/certs.golden", b.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite with -update); got:\n%s", path, got)
	}
}

// TestChains verifies every leaf as a TLS peer would: for its usages and names, against its CA and
// against no other.
func TestChains(t *testing.T) {
	for _, algorithm := range []KeyAlgorithm{ECDSAP256, ECDSAP384, RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			in, p := demo(), policy
			in.Nodes, p.KeyAlgorithm = in.Nodes[2:], algorithm
			pki, _ := ensure(t, nil, in, p, day0)
			for _, q := range pki.Requests {
				if q.Kind != Leaf {
					continue
				}
				for _, ca := range []string{KubernetesCA, EtcdCA, FrontProxyCA} {
					verifyLeaf(t, pki, q, ca)
				}
			}
		})
	}
}

func verifyLeaf(t *testing.T, pki *PKI, q Request, ca string) {
	t.Helper()
	leaf, roots := parse(t, pki, q.Name), x509.NewCertPool()
	roots.AddCert(parse(t, pki, ca))
	if bits := leaf.SerialNumber.BitLen(); bits < 100 {
		t.Errorf("%s: a serial number of %d bits", q.Name, bits)
	}
	if len(leaf.SubjectKeyId) == 0 || (ca == q.CA) != bytes.Equal(leaf.AuthorityKeyId, parse(t, pki, ca).SubjectKeyId) {
		t.Errorf("%s: key ids do not lead to %s", q.Name, q.CA)
	}
	for _, usage := range []struct {
		ours Usage
		x509 x509.ExtKeyUsage
	}{{ClientAuth, x509.ExtKeyUsageClientAuth}, {ServerAuth, x509.ExtKeyUsageServerAuth}} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: day0, KeyUsages: []x509.ExtKeyUsage{usage.x509}})
		if want := ca == q.CA && q.Usages&usage.ours != 0; (err == nil) != want {
			t.Errorf("%s against %s for %v: accepted %v, wanted %v (%v)", q.Name, ca, usage.ours, err == nil, want, err)
		}
	}
	for _, name := range append(slices.Clone(q.DNSNames), texts(q.IPs)...) {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Errorf("%s: %v", q.Name, err)
		}
	}
}

func TestEnsureIsIdempotent(t *testing.T) {
	first, changes := ensure(t, nil, demo(), policy, day0)
	if len(changes) != len(Table(demo())) {
		t.Errorf("%d changes for %d requests", len(changes), len(Table(demo())))
	}
	second, changes := ensure(t, first.Material, demo(), policy, day0.Add(5*365*day))
	if len(changes) != 0 || len(second.Drift) != 0 || len(second.Obsolete) != 0 {
		t.Errorf("second run: changes %v, drift %v, obsolete %v", changes, second.Drift, second.Obsolete)
	}
	for name, item := range first.Material {
		if !bytes.Equal(item.Cert, second.Material[name].Cert) || !bytes.Equal(item.Key, second.Material[name].Key) {
			t.Errorf("%s was altered", name)
		}
	}
}

// TestLimits is about the longest and shortest lives.
func TestLimits(t *testing.T) {
	p := Policy{CAValidity: 100 * 365 * day, LeafValidity: 100 * 365 * day, KeyAlgorithm: ECDSAP256}
	pki, _ := ensure(t, nil, demo(), p, day0)
	if got := parse(t, pki, Admin).NotAfter; got.Year() != 2126 {
		t.Errorf("a hundred years from 2026 is %v", got)
	}
	p.CAValidity = 365 * day
	pki, _ = ensure(t, nil, demo(), p, day0)
	if leaf, ca := parse(t, pki, Admin), parse(t, pki, KubernetesCA); !leaf.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("leaf ends %v, its CA %v", leaf.NotAfter, ca.NotAfter)
	}
	// Near the end of the CA there is nothing to gain by reissuing, but everything by saying so.
	again, changes := ensure(t, pki.Material, demo(), p, day0.Add(355*day))
	if len(changes) != 0 || len(again.Drift) != 3 || again.Drift[0].Detail != "expires in 9 days" {
		t.Errorf("changes %v, drift %v", changes, again.Drift)
	}
	for _, bad := range []Policy{
		{},
		{CAValidity: day, LeafValidity: day, KeyAlgorithm: "RSA-1024"},
		{CAValidity: 101 * 366 * day, LeafValidity: day, KeyAlgorithm: ECDSAP256},
		{CAValidity: day, LeafValidity: time.Second, KeyAlgorithm: ECDSAP256},
	} {
		if _, _, err := Ensure(t.Context(), nil, Table(demo()), bad, day0); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestDriftOfAuthorities(t *testing.T) {
	pki := base(t)
	p := policy
	p.KeyAlgorithm = ECDSAP384
	after, _ := ensure(t, pki.Material, demo(), p, day0)
	if len(after.Drift) != 3 || after.Drift[1].String() != "etcd/ca: key algorithm changed: is ECDSA-P256, wanted ECDSA-P384" {
		t.Errorf("drift: %v", after.Drift)
	}
	if !bytes.Equal(pki.Material[EtcdCA].Cert, after.Material[EtcdCA].Cert) {
		t.Error("the authority was replaced")
	}
}

// TestKeepsNothingPrintable looks for private keys wherever a careless line of code would put them.
func TestKeepsNothingPrintable(t *testing.T) {
	pki := base(t)
	asJSON, err := json.Marshal(pki)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&logged, nil), slog.NewTextHandler(&logged, nil)} {
		slog.New(h).Info("made", "pki", pki, "item", pki.Material[Admin], "files", pki.Files(demo().Nodes[0]))
	}
	out := string(asJSON) + logged.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{pki, *pki, pki.Material, pki.Material[Admin], pki.Files(demo().Nodes[0]), pki.Material.Flatten()} {
			out += fmt.Sprintf(verb, value)
		}
	}
	for name, item := range pki.Material {
		// SEC 1 puts the private scalar first. What comes after it is the public key, which
		// certificates show.
		_, body, _ := bytes.Cut(item.Key.Reveal(), []byte("\n"))
		middle := body[12:36]
		for _, form := range []string{string(middle), fmt.Sprintf("%x", middle), fmt.Sprintf("%X", middle), strings.Trim(fmt.Sprintf("%d", middle), "[]")} {
			if strings.Contains(out, form) {
				t.Fatalf("the key of %s was printed", name)
			}
		}
	}
}

func TestFlatten(t *testing.T) {
	pki := base(t)
	back, err := Unflatten(pki.Material.Flatten())
	if err != nil {
		t.Fatal(err)
	}
	if _, changes := ensure(t, back, demo(), policy, day0); len(changes) != 0 {
		t.Errorf("after a round trip: %v", changes)
	}
	if _, err := Unflatten(map[string]secret.Bytes{"ca.pem": nil}); err == nil {
		t.Error("a foreign name was accepted")
	}
}

func TestExpiries(t *testing.T) {
	pki := base(t)
	list, err := pki.Material.Expiries(pki.Requests)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(pki.Requests)-1 {
		t.Errorf("%d certificates of %d requests", len(list), len(pki.Requests))
	}
	if first, last := list[0], list[len(list)-1]; first.Name != "admin" || first.CA != KubernetesCA || last.Name != FrontProxyCA || last.CA != "" ||
		first.Serial != fmt.Sprintf("%x", parse(t, pki, Admin).SerialNumber) || !first.NotAfter.Equal(parse(t, pki, Admin).NotAfter) {
		t.Errorf("nearest %+v, farthest %+v", first, last)
	}
}

func TestKubeconfig(t *testing.T) {
	pki := base(t)
	a := Access{Cluster: "demo", User: "kubernetes-admin", Server: "https://127.0.0.1:6443"}
	embedded, err := KubeconfigEmbedded(a, pki.Material[KubernetesCA].Cert, pki.Material[Admin])
	if err != nil {
		t.Fatal(err)
	}
	rest, err := clientcmd.RESTConfigFromKubeConfig(embedded.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if rest.Host != a.Server || !bytes.Equal(rest.KeyData, pki.Material[Admin].Key) || !bytes.Equal(rest.CAData, pki.Material[KubernetesCA].Cert) {
		t.Errorf("client-go reads another thing: %s", rest.Host)
	}
	files, err := KubeconfigFiles(Access{Cluster: "demo", User: "system:kube-scheduler", Server: a.Server}, "/ca.crt", "/s.crt", "/s.key")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/kubeconfig.golden", string(files))
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Ensure(ctx, nil, Table(demo()), policy, day0); err == nil {
		t.Error("went on")
	}
}

func BenchmarkEnsure(b *testing.B) {
	for b.Loop() {
		ensure(b, nil, demo(), policy, day0)
	}
}
