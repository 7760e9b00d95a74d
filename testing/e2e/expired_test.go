package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestExpired lets every certificate of a cluster expire: status says so before, nothing works afterwards, and apply
// repairs it, first without one of its control planes.
func TestExpired(t *testing.T) {
	parallel(t, 200*time.Second)
	const life = 3 * time.Minute
	c := newCluster(t, "e2e-expired", clusterSpec{subnet: "10.88.8.0/24", controlPlanes: 3, extra: "  pki: {leafValidity: 3m}\n"})
	began := time.Now()
	c.apply(t)
	k := c.kube(t)
	c.waitReady(t, k, 30*time.Second)
	if _, code := c.certsStatus(t, "--warn", "10m", "--crit", "1m"); code == 0 {
		t.Error("status does not say that all certificates end within minutes")
	}
	resting(func() {
		eventually(t, life+time.Minute, "the API to be dead of expired certificates", func(ctx context.Context) error {
			if time.Since(began) < life { // a certificate is backdated, and ends before
				return errors.New("it is too early")
			}
			if _, err := k.Discovery().ServerVersion(); err == nil {
				return errors.New("the API answers")
			}
			return ctx.Err()
		})
	})
	uses, code := c.certsStatus(t, "--crit", "7d")
	if code != 2 {
		t.Errorf("status exits with %d for expired certificates, want 2", code)
	}
	expired := 0
	for _, u := range uses {
		if u.DaysLeft < 0 {
			expired++
		}
	}
	if expired < 20 {
		t.Errorf("status knows of %d expired certificates", expired)
	}
	spec := c.spec
	spec.extra = ""
	c.write(t, spec)
	c.repairWithout(t, c.nodes()[2])
	c.apply(t)
	c.waitReady(t, c.kube(t), 30*time.Second)
	c.checkNoChange(t)
	c.checkCertsStatus(t)
}

// repairWithout repairs a cluster of which a machine cannot be reached.
func (c *cluster) repairWithout(t *testing.T, node string) {
	t.Helper()
	id := c.machine(t, node)
	docker(t, "exec", id, "systemctl", "stop", "ssh")
	defer docker(t, "exec", id, "systemctl", "start", "ssh")
	r := c.run(t, nil, "apply", "-f", c.file, "--yes", "--connect-timeout", "2s")
	wantError(t, r, node, "slipway apply --only")
	others := slices.DeleteFunc(c.nodes(), func(n string) bool { return n == node })
	r = c.ok(t, "apply", "-f", c.file, "--yes", "--connect-timeout", "2s", "--only", strings.Join(others, ","))
	if !strings.Contains(r.stderr, "excluded by --only, and it cannot be reached: "+node) {
		t.Errorf("it does not say what is left out: %v", r)
	}
	k := c.kube(t)
	eventually(t, time.Minute, "the API of the others", func(ctx context.Context) error {
		_, err := k.CoreV1().Nodes().Get(ctx, others[0], metav1.GetOptions{})
		return err
	})
}

// TestSignedElsewhere makes a cluster whose kubernetes authority has its key elsewhere, as an intermediate under a root of
// the user's, and whose etcd authority is the user's own. Both are made with openssl.
func TestSignedElsewhere(t *testing.T) {
	parallel(t, 20*time.Second)
	c := newCluster(t, "e2e-elsewhere", clusterSpec{subnet: "10.88.9.0/24", controlPlanes: 1, extra: `  pki:
    authorities:
      kubernetes: {certFile: chain.crt}
      etcd: {certFile: etcd.crt, keyFile: etcd.key}
`})
	dir := filepath.Dir(c.file)
	openssl := func(args string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", args)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	openssl(`umask 077
openssl req -x509 -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 3650 -subj /O=Example/CN=Root -keyout root.key -out root.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /O=Example/CN=Kubernetes -keyout away.key -out ca.csr \
  -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
openssl x509 -req -in ca.csr -CA root.crt -CAkey root.key -CAcreateserial -days 3000 -copy_extensions copyall -out ca.crt
cat ca.crt root.crt >chain.crt
openssl req -x509 -new -nodes -newkey rsa:2048 -days 3650 -subj /CN=etcd-elsewhere -keyout etcd.key -out etcd.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign`)
	c.applyFails(t, "signed", "slipway certs csr")
	requests := filepath.Join(dir, "requests")
	c.ok(t, "certs", "csr", "-f", c.file, "--out", requests)
	openssl(`for f in requests/*.csr; do
	openssl x509 -req -in $f -copy_extensions copyall -days 730 -CA ca.crt -CAkey away.key -CAcreateserial -out ${f%.csr}.crt 2>&1
done`)
	if err := os.Rename(filepath.Join(dir, "away.key"), filepath.Join(t.TempDir(), "away.key")); err != nil {
		t.Fatal(err)
	}
	c.ok(t, "certs", "import", "-f", c.file, requests)
	c.apply(t)
	c.waitReady(t, c.kube(t), 30*time.Second)
	c.checkNoChange(t)
	node := c.nodes()[0]
	if files := c.sshOK(t, node, "ls /etc/kubernetes/pki /etc/kubernetes/pki/etcd"); strings.Contains(files, "ca.key") {
		t.Errorf("the key of an authority is on the machine:\n%s", files)
	}
	c.walk(t, func(path, content string) {
		if strings.HasSuffix(path, "pki/ca.key") && content != "" {
			t.Errorf("the key of the authority is in %s", path)
		}
	})
	// Who knows the root alone can follow what the API server shows.
	address := c.machineAddress(t, node) + ":6443"
	if out := openssl("openssl s_client -connect " + address + " -CAfile root.crt -verify_return_error </dev/null 2>&1"); !strings.Contains(out, "Verify return code: 0 (ok)") {
		t.Errorf("with the root alone openssl says:\n%s", out)
	}
	c.wellCerts(t)
}

// TestEncryptionKey rotates the key of Secrets at rest, killed on the way and gone back once; what etcd holds is read on
// the machine.
func TestEncryptionKey(t *testing.T) {
	parallel(t, 200*time.Second)
	c := newCluster(t, "e2e-encryption", clusterSpec{subnet: "10.88.30.0/24", controlPlanes: 1, extra: `  pki:
    keyAlgorithm: RSA-2048
    caKeyAlgorithm: RSA-4096
    expiryMetrics: {directory: ` + metricsDir + `}
`})
	c.apply(t)
	k := c.kube(t)
	for i := range 20 {
		create(t, "a Secret", func(ctx context.Context) error {
			_, err := k.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s-%d", i)}, StringData: map[string]string{"word": "xyzzy"},
			}, metav1.CreateOptions{})
			return err
		})
	}
	c.wantKey(t, "key1")
	started := c.startTimes(t)
	rotate := []string{"rotate-encryption-key", "-f", c.file, "--yes"}
	resting(func() { // API servers look at their file once a minute
		if r := c.untilEnd(t, "stage issue", "re-encrypt every Secret ... done", rotate...); r.code == 0 {
			t.Errorf("it was not killed: %v", r)
		}
		c.wantKey(t, "key2")
		c.ok(t, append(rotate, "--pause-after", "issue")...)
		c.checkNoChange(t) // an apply goes to no other stage
		c.ok(t, rotate...)
		c.wantKey(t, "key2")
	})
	if now := c.startTimes(t); now != started {
		t.Errorf("units were restarted; before:\n%s\nafter:\n%s", started, now)
	}
	for i := range 20 {
		s, err := k.CoreV1().Secrets("default").Get(t.Context(), fmt.Sprintf("s-%d", i), metav1.GetOptions{})
		if err != nil || string(s.Data["word"]) != "xyzzy" {
			t.Errorf("Secret %d: %v, %v", i, s, err)
		}
	}
	c.checkNoChange(t)
	c.checkTextfile(t, c.nodes()[0])
	c.checkAlgorithms(t, c.nodes()[0], "RSA-4096", "RSA-2048")
}

const metricsDir = "/var/lib/prometheus/node-exporter"

// checkTextfile wants the timer to have written when the certificates of a node end: two minutes after it was made, since
// systemd is a minute accurate.
func (c *cluster) checkTextfile(t *testing.T, node string) {
	t.Helper()
	file := metricsDir + "/slipway-certificates.prom"
	eventually(t, 3*time.Minute, "the timer wrote "+file, func(context.Context) error {
		if r := c.ssh(t, node, "test -e "+file); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
	if mode := c.sshOK(t, node, "stat -c %A:%U "+file); mode != "-rw-r--r--:root\n" {
		t.Errorf("%s is %s", file, mode)
	}
	text := c.sshOK(t, node, "cat "+file)
	cert, _ := nextPEM(t, []byte(c.sshOK(t, node, "cat /etc/kubernetes/pki/apiserver.crt")))
	found := false
	for line := range strings.Lines(text) {
		labels, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		got, err := strconv.ParseFloat(value, 64)
		if strings.HasPrefix(labels, "slipway_certificate_not_after_seconds{") && strings.Contains(labels, "/etc/kubernetes/pki/apiserver.crt") && err == nil && int64(got) == cert.NotAfter.Unix() {
			found = true
		}
	}
	if !found {
		t.Errorf("%s does not say that the API server's certificate ends at %d:\n%s", file, cert.NotAfter.Unix(), text)
	}
}

// checkAlgorithms wants the keys of authorities, and of what they sign, to be as the spec says.
func (c *cluster) checkAlgorithms(t *testing.T, node, authorities, leaves string) {
	t.Helper()
	const pki = "/etc/kubernetes/pki/"
	for file, want := range map[string]string{
		pki + "ca.crt": authorities, pki + "etcd/ca.crt": authorities, pki + "front-proxy-ca.crt": authorities,
		pki + "apiserver.crt": leaves, pki + "etcd/server.crt": leaves, pki + "front-proxy-client.crt": leaves, "/var/lib/kubelet/pki/kubelet-client.crt": leaves,
	} {
		cert, _ := nextPEM(t, []byte(c.sshOK(t, node, "cat "+file)))
		got := ""
		switch key := cert.PublicKey.(type) {
		case *rsa.PublicKey:
			got = fmt.Sprintf("RSA-%d", key.N.BitLen())
		case *ecdsa.PublicKey:
			got = "ECDSA-P" + strings.TrimPrefix(key.Params().Name, "P-")
		case ed25519.PublicKey:
			got = "Ed25519"
		}
		if got != want {
			t.Errorf("the key of %s is %s, want %s", file, got, want)
		}
	}
}

// wantKey wants all Secrets in etcd to be encrypted with a key, and their contents not to be there.
func (c *cluster) wantKey(t *testing.T, name string) {
	t.Helper()
	pki := "/etc/kubernetes/pki/etcd/"
	values := c.sshOK(t, c.nodes()[0], "etcdctl --endpoints https://127.0.0.1:2379 --cacert "+pki+"ca.crt --cert "+pki+"healthcheck-client.crt --key "+pki+
		"healthcheck-client.key get /registry/secrets/ --prefix --print-value-only")
	if strings.Contains(values, "xyzzy") {
		t.Error("etcd has contents of Secrets in plain")
	}
	all, ours := strings.Count(values, "k8s:enc:secretbox:v1:"), strings.Count(values, "k8s:enc:secretbox:v1:"+name+":")
	if all < 20 || ours != all {
		t.Errorf("%d of %d Secrets are encrypted with %s", ours, all, name)
	}
}
