package certs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// openssl runs OpenSSL in a directory and gives what it prints. testing/machine.sh installs it.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(t *testing.T, dir string, names ...string) []byte {
	t.Helper()
	var all []byte
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	return all
}

func write(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newRoot makes root.crt and root.key in a new directory.
func newRoot(t *testing.T, key ...string) string {
	t.Helper()
	dir := t.TempDir()
	if len(key) == 0 {
		key = []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	}
	openssl(t, dir, slices.Concat([]string{"req", "-x509", "-nodes", "-days", "7300", "-subj", "/O=Example/CN=Example Root", "-keyout", "root.key", "-out", "root.crt"}, key)...)
	return dir
}

// newIntermediate makes name.crt and name.key below the root.
func newIntermediate(t *testing.T, dir, name string) {
	t.Helper()
	openssl(t, dir, "req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-subj", "/O=Example/CN=Example "+name,
		"-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
		"-keyout", name+".key", "-out", name+".csr")
	openssl(t, dir, "x509", "-req", "-in", name+".csr", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-days", "5000",
		"-copy_extensions", "copyall", "-out", name+".crt")
}

// TestOpenSSLKinds takes every kind of authority that OpenSSL makes by default, and refuses with a
// reason what it cannot use.
func TestOpenSSLKinds(t *testing.T) {
	for name, test := range map[string]struct {
		key  []string
		says string
	}{
		"P-256":       {nil, ""},
		"P-521":       {[]string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"}, ""},
		"RSA":         {[]string{"-newkey", "rsa:2048"}, ""},
		"Ed25519":     {[]string{"-newkey", "ed25519"}, ""},
		"small RSA":   {[]string{"-newkey", "rsa:1024"}, "unsupported algorithm: RSA-1024"},
		"Ed448":       {[]string{"-newkey", "ed448"}, "unsupported algorithm"},
		"other curve": {[]string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newRoot(t, test.key...)
			p := policy
			p.Own = map[string]Item{KubernetesCA: {Cert: read(t, dir, "root.crt"), Key: read(t, dir, "root.key")}}
			pki, _, err := Ensure(t.Context(), nil, Table(demo()), p, time.Now())
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v, wanted %q", err, test.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "admin.crt", pki.Material[Admin].Cert)
			openssl(t, dir, "verify", "-CAfile", "root.crt", "-purpose", "sslclient", "admin.crt")
		})
	}
}

// TestOpenSSLKeys reads a key with the parameters of its curve before it, and knows an encrypted
// one.
func TestOpenSSLKeys(t *testing.T) {
	dir := t.TempDir()
	openssl(t, dir, "ecparam", "-name", "prime256v1", "-genkey", "-out", "ca.key")
	openssl(t, dir, "req", "-x509", "-key", "ca.key", "-days", "100", "-subj", "/CN=Own", "-text", "-out", "ca.crt")
	openssl(t, dir, "pkcs8", "-topk8", "-in", "ca.key", "-passout", "pass:secret", "-out", "locked.key")
	openssl(t, dir, "ec", "-in", "ca.key", "-aes256", "-passout", "pass:secret", "-out", "old.key")
	own := Item{Cert: read(t, dir, "ca.crt"), Key: read(t, dir, "ca.key")}
	p := policy
	p.Own = map[string]Item{EtcdCA: own}
	pki, _, err := Ensure(t.Context(), nil, Table(demo()), p, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if item := pki.Material[EtcdCA]; bytes.Contains(item.Cert, []byte("Issuer")) || bytes.Contains(item.Key, []byte("PARAMETERS")) {
		t.Error("what is beside certificate and key is taken along")
	}
	if _, changes, err := Ensure(t.Context(), pki.Material, Table(demo()), p, time.Now()); err != nil || len(changes) != 0 {
		t.Errorf("does not converge: %v, %v", changes, err)
	}
	for _, file := range []string{"locked.key", "old.key"} {
		own.Key = read(t, dir, file)
		faults := CheckOwn(map[string]Item{EtcdCA: own}, Table(demo()), time.Now())
		if len(faults) != 1 || !faults[0].InKey || faults[0].Message != "the private key is encrypted" || !strings.Contains(faults[0].Remedy, "openssl pkey -in") {
			t.Errorf("%s: %+v", file, faults)
		}
	}
}

// TestOpenSSLVerifies has OpenSSL, which knows only the root, verify what hosts get below an
// intermediate.
func TestOpenSSLVerifies(t *testing.T) {
	dir := newRoot(t)
	newIntermediate(t, dir, "kubernetes")
	p := policy
	p.Own = map[string]Item{KubernetesCA: {Cert: read(t, dir, "kubernetes.crt", "root.crt"), Key: read(t, dir, "kubernetes.key")}}
	pki, _, err := Ensure(t.Context(), nil, Table(demo()), p, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range pki.Files(demo().Nodes[0]) {
		write(t, dir, strings.ReplaceAll(strings.TrimPrefix(f.Path, pkiDir), "/", "_"), f.Content)
	}
	for file, purpose := range map[string]string{"apiserver.crt": "sslserver", "apiserver-kubelet-client.crt": "sslclient", "_var_lib_kubelet_pki_kubelet.crt": "sslserver"} {
		openssl(t, dir, "verify", "-CAfile", "root.crt", "-purpose", purpose, "-untrusted", file, file)
		openssl(t, dir, "verify", "-CAfile", "root-ca.crt", "-purpose", purpose, file)
		openssl(t, dir, "verify", "-partial_chain", "-CAfile", "ca.crt", "-purpose", purpose, file)
	}
	openssl(t, dir, "verify", "-CAfile", "root.crt", "-verify_hostname", "kubernetes.default.svc", "-untrusted", "apiserver.crt", "apiserver.crt")
}

// TestOpenSSLSigns has OpenSSL sign everything of an authority whose key is not here, and takes it
// in.
func TestOpenSSLSigns(t *testing.T) {
	dir, in := newRoot(t), demo()
	newIntermediate(t, dir, "kubernetes")
	p, now := policy, time.Now()
	p.Own = map[string]Item{KubernetesCA: {Cert: read(t, dir, "kubernetes.crt", "root.crt")}}
	p.Subject = Subject{OrganizationalUnits: []string{"Platform"}, Countries: []string{"DE"}}
	pki, changes, err := Ensure(t.Context(), nil, Table(in), p, now)
	var pending *PendingError
	if !errors.As(err, &pending) || len(pending.Names) != len(pki.Pending) || !strings.Contains(err.Error(), "have to be signed") {
		t.Fatalf("got %v", err)
	}
	if len(changes)+len(pki.Pending) != len(pki.Requests) {
		t.Errorf("%d changes and %d pending of %d requests", len(changes), len(pki.Pending), len(pki.Requests))
	}
	requests, err := pki.SigningRequests(t.Context(), p)
	if err != nil || len(requests) != len(pending.Names) {
		t.Fatal(err)
	}
	var signed []Signed
	for _, r := range requests {
		write(t, dir, "leaf.csr", r.CSR)
		if text := openssl(t, dir, "req", "-in", "leaf.csr", "-noout", "-verify", "-text"); !r.New || !strings.Contains(text, "Digital Signature") {
			t.Errorf("%s: new %v\n%s", r.Request.Name, r.New, text)
		}
		openssl(t, dir, "x509", "-req", "-in", "leaf.csr", "-CA", "kubernetes.crt", "-CAkey", "kubernetes.key", "-CAcreateserial", "-days", "90",
			"-copy_extensions", "copyall", "-out", "leaf.crt")
		signed = append(signed, Signed{Source: r.Request.Name, Certs: read(t, dir, "leaf.crt", "kubernetes.crt")})
	}

	// What waits is kept, with its keys, from run to run.
	again, _, err := Ensure(t.Context(), pki.Material, Table(in), p, now.Add(time.Hour))
	if !errors.As(err, &pending) {
		t.Fatal(err)
	}
	same, err := again.SigningRequests(t.Context(), p)
	if err != nil || len(same) != len(requests) || same[0].New || !bytes.Equal(same[0].CSR, requests[0].CSR) || len(again.Obsolete) != 0 {
		t.Errorf("the requests are not the same: %v, obsolete %v", err, again.Obsolete)
	}

	names, err := again.Import(signed[1:], p, now.Add(time.Minute))
	if err != nil || len(names) != len(signed)-1 || len(again.Pending) != 1 {
		t.Fatalf("%d names, %d pending, %v", len(names), len(again.Pending), err)
	}
	if names, err := again.Import(signed[:1], p, now.Add(time.Minute)); err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	done, changes := ensure(t, again.Material, in, p, now.Add(time.Hour))
	if len(changes) != 0 || len(done.Pending) != 0 || len(done.Obsolete) != 0 {
		t.Errorf("changes %v, pending %v, obsolete %v", changes, done.Pending, done.Obsolete)
	}
	for _, f := range done.Files(in.Nodes[0]) {
		if f.Path == pkiDir+"ca.key" || f.Path == SignerFile {
			t.Errorf("%s is on a host", f.Path)
		}
	}

	// Near their end they go on being used, and are asked for; after it they are missed; with
	// another name at once.
	near, changes, err := Ensure(t.Context(), done.Material, Table(in), p, now.Add(80*day))
	if err != nil || len(changes) != 0 || len(near.Pending) != len(requests) || !near.Pending[0].Usable || near.Material[Admin].Cert == nil {
		t.Errorf("near the end: %v, %v", changes, err)
	}
	if _, _, err := Ensure(t.Context(), done.Material, Table(in), p, now.Add(91*day)); !errors.As(err, &pending) || len(pending.Names) != len(requests) {
		t.Errorf("after the end: %v", err)
	}
	in.EndpointSANs = append(in.EndpointSANs, "new.example.com")
	if _, _, err := Ensure(t.Context(), done.Material, Table(in), p, now.Add(day)); !errors.As(err, &pending) || len(pending.Names) != 3 {
		t.Errorf("with a new name: %v", err)
	}
}

// TestImportRefuses has one certificate after another not fit, and says so of all at once.
func TestImportRefuses(t *testing.T) {
	dir, in := newRoot(t), demo()
	other := newRoot(t)
	in.Nodes = in.Nodes[3:]
	p, now := policy, time.Now()
	p.Own = map[string]Item{KubernetesCA: {Cert: read(t, dir, "root.crt")}}
	pki, _, err := Ensure(t.Context(), nil, Table(in), p, now)
	if !errors.As(err, new(*PendingError)) {
		t.Fatal(err)
	}
	requests, err := pki.SigningRequests(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	csr := map[string][]byte{}
	for _, r := range requests {
		csr[r.Request.Name] = r.CSR
	}
	sign := func(ca, item string, extra ...string) Signed {
		write(t, ca, "leaf.csr", csr[item])
		openssl(t, ca, slices.Concat([]string{"x509", "-req", "-in", "leaf.csr", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-out", "leaf.crt"}, extra)...)
		return Signed{item, read(t, ca, "leaf.crt")}
	}
	copied := []string{"-copy_extensions", "copyall", "-days", "90"}
	later := now.Add(time.Minute)
	signed := []Signed{
		sign(dir, Admin, copied...),
		sign(other, SuperAdmin, copied...),
		sign(dir, "kubelet@demo-worker-1", "-days", "90"),
		sign(dir, "kubelet-client@demo-worker-1", append([]string{"-subj", "/CN=somebody"}, copied...)...),
		sign(dir, "kube-proxy@demo-worker-1", "-days", "90"),
		{"stranger", base(t).Material[Admin].Cert},
		{"nonsense", []byte("hello")},
		{"cut", read(t, dir, "leaf.crt")[:100]},
	}
	names, err := pki.Import(signed, p, later)
	if err == nil || names != nil || len(pki.Pending) != len(requests) {
		t.Fatalf("took in %v", names)
	}
	for _, want := range []string{
		`super-admin: certificate "super-admin": signed by another CA`,
		`kubelet@demo-worker-1: certificate "kubelet@demo-worker-1": SANs changed: +demo-worker-1 +10.89.0.21`,
		`kubelet-client@demo-worker-1: certificate "kubelet-client@demo-worker-1": subject changed: CN is "somebody"`,
		`kube-proxy@demo-worker-1: certificate "kube-proxy@demo-worker-1": usages changed`,
		`stranger: the certificate of "CN=kubernetes-admin,O=kubeadm:cluster-admins" matches no pending request`,
		"nonsense: malformed: not PEM", "cut: malformed: not PEM",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "\nadmin:") || strings.HasPrefix(err.Error(), "admin:") {
		t.Errorf("it complains of what fits: %v", err)
	}
	if _, err := pki.Import(signed[:1], p, now.Add(91*day)); err == nil || !strings.Contains(err.Error(), "expired on") {
		t.Errorf("an expired one: %v", err)
	}
	if _, err := pki.Import([]Signed{signed[0], sign(dir, Admin, copied...)}, p, later); err == nil || !strings.Contains(err.Error(), "two certificates for the same key") {
		t.Errorf("two: %v", err)
	}
	if names, err := pki.Import([]Signed{{"root", read(t, dir, "root.crt")}}, p, later); err != nil || len(names) != 0 {
		t.Errorf("an authority: %v, %v", names, err)
	}
}
