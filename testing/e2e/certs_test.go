package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCertificates takes one cluster through all that can happen to its certificates while it lives.
func TestCertificates(t *testing.T) {
	parallel(t, 95*time.Second)
	c := newCluster(t, "e2e-certs", clusterSpec{subnet: "10.88.7.0/24", controlPlanes: 3, workers: 1})
	c.apply(t)
	k := c.kube(t)
	c.deliverServer(t)
	t.Run("table", func(t *testing.T) { c.checkTable(t) })
	t.Run("kubeadm", func(t *testing.T) { c.checkKubeadm(t) })
	t.Run("status", func(t *testing.T) { c.checkCertsStatus(t) })
	t.Run("people", func(t *testing.T) { c.checkPeople(t) })
	t.Run("renew", func(t *testing.T) { c.checkRenew(t, k, 3, "--wait=served") })
	t.Run("table after", func(t *testing.T) { c.checkTable(t) })
}

// TestLongRenewal waits until every client shows its new certificate, for up to 5 minutes.
func TestLongRenewal(t *testing.T) {
	long(t)
	parallel(t, 7*time.Minute)
	c := newCluster(t, "e2e-renewal", clusterSpec{subnet: "10.88.50.0/24", controlPlanes: 3, workers: 1})
	c.apply(t)
	c.deliverServer(t)
	c.checkRenew(t, c.kube(t), 1)
	c.checkTable(t)
}

// used is a line of `slipway certs status --output json`.
type used struct {
	Host     string    `json:"host"`
	Place    string    `json:"place"`
	Location string    `json:"location"`
	Name     string    `json:"name"`
	Subject  string    `json:"subject"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"notAfter"`
	DaysLeft int       `json:"daysLeft"`
	OnDisk   *bool     `json:"onDisk"`
	Wanted   *bool     `json:"wanted"`
	// Presented is nil for what no client presents, or what was not renewed since the host booted.
	Presented *bool    `json:"presented"`
	Error     string   `json:"error"`
	Detail    []string `json:"detail"`
	Level     string   `json:"level"`
}

func (u used) String() string {
	return fmt.Sprintf("%s %s %s (%s) %s, %d days", u.Host, u.Place, u.Location, u.Name, u.Level, u.DaysLeft)
}

// certsStatus gives all uses of certificates, and the exit code.
func (c *cluster) certsStatus(t *testing.T, args ...string) ([]used, int) {
	t.Helper()
	r := c.run(t, nil, append([]string{"certs", "status", "-f", c.file, "--output", "json"}, args...)...)
	var report struct {
		Certificates []used `json:"certificates"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	return report.Certificates, r.code
}

// checkCertsStatus wants everything to be seen where it is used, and nothing to be remarked on.
func (c *cluster) checkCertsStatus(t *testing.T) {
	t.Helper()
	served := map[string]int{}
	for _, u := range c.wellCerts(t) {
		if u.Place == "served" || u.Place == "memory" {
			served[u.Host]++
		}
	}
	for _, node := range c.nodes() {
		want := 1 // the kubelet
		if slices.Contains(c.controlPlanes(), node) {
			want = 7 // and the API server, its certificate for itself, etcd twice, controller manager, scheduler
		}
		if served[node] != want {
			t.Errorf("%s: %d endpoints were asked, want %d", node, served[node], want)
		}
	}
	if _, code := c.certsStatus(t, "--warn", "20y"); code != 1 {
		t.Errorf("exit code %d where all certificates end within --warn, want 1", code)
	}
	metrics := c.ok(t, "certs", "status", "-f", c.file, "--output", "prometheus").stdout
	if n := strings.Count(metrics, "slipway_certificate_not_after_seconds{"); n < 50 {
		t.Errorf("%d metrics:\n%s", n, metrics)
	}
}

// wellCerts wants that there is nothing to be remarked on.
func (c *cluster) wellCerts(t *testing.T) []used {
	t.Helper()
	uses, code := c.certsStatus(t, "--warn", "30d")
	if code != 0 {
		t.Errorf("exit code %d for a cluster that is well", code)
	}
	for _, u := range uses {
		if u.Error != "" || u.OnDisk != nil && !*u.OnDisk || u.Wanted != nil && !*u.Wanted || u.Level != "ok" {
			t.Errorf("a cluster that is well has %v: %s %s", u, u.Error, u.Detail)
		}
	}
	return uses
}

// row is what a certificate should be; the names are kubeadm's.
type row struct {
	port         int    // where it is served, or
	path         string // where it lies
	cn, org, ca  string
	server, both bool
	sans         []string
}

const tenYears = 10 * 365 * 24 * time.Hour

// rows are a node's certificates. Nothing here is taken from slipway.
func (c *cluster) rows(node, address string) []row {
	pki := "/etc/kubernetes/pki/"
	rows := []row{
		{port: 10250, cn: "system:node:" + node, org: "system:nodes", ca: "kubernetes", server: true, sans: []string{node, address}},
		{path: "/var/lib/kubelet/pki/kubelet-client.crt", cn: "system:node:" + node, org: "system:nodes", ca: "kubernetes"},
		{path: pki + "kube-proxy.crt", cn: "system:kube-proxy", ca: "kubernetes"},
	}
	if !slices.Contains(c.controlPlanes(), node) {
		return rows
	}
	self := []string{node, address, "localhost", "127.0.0.1", "::1"}
	api := append([]string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "10.96.0.1"}, self...)
	return append(rows,
		row{port: 6443, cn: "kube-apiserver", ca: "kubernetes", server: true, sans: api},
		row{port: 2379, cn: node, ca: "etcd-ca", both: true, sans: self},
		row{port: 2380, cn: node, ca: "etcd-ca", both: true, sans: self},
		row{path: pki + "controller-manager-server.crt", cn: "kube-controller-manager", ca: "kubernetes", server: true, sans: self},
		row{path: pki + "scheduler-server.crt", cn: "kube-scheduler", ca: "kubernetes", server: true, sans: self},
		row{path: pki + "apiserver-kubelet-client.crt", cn: "kube-apiserver-kubelet-client", org: "kubeadm:cluster-admins", ca: "kubernetes"},
		row{path: pki + "apiserver-etcd-client.crt", cn: "kube-apiserver-etcd-client", ca: "etcd-ca"},
		row{path: pki + "etcd/healthcheck-client.crt", cn: "kube-etcd-healthcheck-client", ca: "etcd-ca"},
		row{path: pki + "front-proxy-client.crt", cn: "front-proxy-client", ca: "front-proxy-ca"},
		row{path: pki + "controller-manager.crt", cn: "system:kube-controller-manager", ca: "kubernetes"},
		row{path: pki + "scheduler.crt", cn: "system:kube-scheduler", ca: "kubernetes"},
	)
}

// checkTable compares what a living cluster serves, and the files of what is only presented, with what they should be.
func (c *cluster) checkTable(t *testing.T) {
	t.Helper()
	for _, node := range c.nodes() {
		address := c.machineAddress(t, node)
		rows := c.rows(node, address)
		var paths []string
		for _, r := range rows {
			paths = append(paths, r.path)
		}
		files := []byte(c.sshOK(t, node, "cat "+strings.Join(paths, " "))) // in the order of rows
		for _, r := range rows {
			where := node + r.path
			var cert *x509.Certificate
			if r.port != 0 {
				where = fmt.Sprintf("%s:%d", node, r.port)
				cert = served(t, net.JoinHostPort(address, fmt.Sprint(r.port)))
			} else {
				cert, files = nextPEM(t, files)
			}
			for _, problem := range r.compare(cert) {
				t.Errorf("%s: %s", where, problem)
			}
		}
	}
}

// served is what a server shows; etcd goes on to want a client's certificate, which does not matter here.
func served(t *testing.T, address string) *x509.Certificate {
	t.Helper()
	var shown *x509.Certificate
	config := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error { //nolint:gosec // G402: what does it show?
		shown = s.PeerCertificates[0]
		return nil
	}}
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	if shown == nil {
		t.Fatalf("%s shows no certificate: %v", address, err)
	}
	return shown
}

func nextPEM(t *testing.T, text []byte) (cert *x509.Certificate, rest []byte) {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert, rest
}

func (r row) compare(cert *x509.Certificate) []string {
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	switch {
	case r.both:
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	case r.server:
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	var org []string
	if r.org != "" {
		org = []string{r.org}
	}
	var problems []string
	differs := func(what string, have, want any) {
		if fmt.Sprint(have) != fmt.Sprint(want) {
			problems = append(problems, fmt.Sprintf("%s is %v, want %v", what, have, want))
		}
	}
	slices.Sort(cert.ExtKeyUsage)
	slices.Sort(usages)
	differs("CN", cert.Subject.CommonName, r.cn)
	differs("O", cert.Subject.Organization, org)
	differs("issuer", cert.Issuer.CommonName, r.ca)
	differs("extended key usages", cert.ExtKeyUsage, usages)
	differs("key usage", cert.KeyUsage, x509.KeyUsageDigitalSignature) // ECDSA: nothing to encipher
	differs("algorithm", cert.PublicKeyAlgorithm, x509.ECDSA)
	differs("validity", cert.NotAfter.Sub(cert.NotBefore), tenYears)
	differs("authority", cert.IsCA, false)
	if age := time.Since(cert.NotBefore); age < 5*time.Minute {
		problems = append(problems, fmt.Sprintf("it began %v ago, and should begin 5 min before it was made", age))
	}
	have := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		have = append(have, ip.String())
	}
	for _, want := range r.sans {
		if !slices.Contains(have, want) {
			problems = append(problems, fmt.Sprintf("it is not for %s but for %v", want, have))
		}
	}
	return problems
}

// checkKubeadm has kubeadm, of the same source as the cluster, read the hosts.
func (c *cluster) checkKubeadm(t *testing.T) {
	t.Helper()
	for _, node := range c.controlPlanes() {
		out := c.sshOK(t, node, `$(dirname $(readlink /opt/slipway/kubernetes/*/bin/kubelet))/kubeadm certs check-expiration 2>/dev/null`)
		for _, name := range []string{
			"admin.conf", "apiserver", "apiserver-etcd-client", "apiserver-kubelet-client", "controller-manager.conf", "etcd-healthcheck-client",
			"etcd-peer", "etcd-server", "front-proxy-client", "scheduler.conf", "ca", "etcd-ca", "front-proxy-ca",
		} {
			found := false
			for line := range strings.Lines(out) {
				fields := strings.Fields(line)
				found = found || len(fields) > 6 && fields[0] == name && strings.HasSuffix(fields[6], "y")
			}
			if !found {
				t.Errorf("%s: kubeadm does not know %s, or it ends within a year:\n%s", node, name, out)
			}
		}
	}
}

// checkPeople makes a person's kubeconfig, which may do what its groups may, and nothing else.
func (c *cluster) checkPeople(t *testing.T) {
	t.Helper()
	file := t.TempDir() + "/ana.conf"
	c.ok(t, "kubeconfig", "-f", c.file, "--user", "ana", "--group", "dev", "--validity", "1h", "--out", file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	ana := newKube(t, file)
	who, err := ana.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if u := who.Status.UserInfo; u.Username != "ana" || !slices.Contains(u.Groups, "dev") {
		t.Errorf("the API takes her for %v", u)
	}
	if _, err := ana.CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("she may read Secrets")
	}
	if list := c.ok(t, "kubeconfig", "list", "-f", c.file).stdout; !strings.Contains(list, "ana") || !strings.Contains(list, "kubernetes-admin") {
		t.Errorf("the list is:\n%s", list)
	}
}

// serials are those of all certificates but authorities, by where they lie or are served.
func (c *cluster) serials(t *testing.T) map[string]string {
	t.Helper()
	uses, _ := c.certsStatus(t)
	all := map[string]string{}
	for _, u := range uses {
		if u.Place == "file" || u.Place == "served" {
			if !strings.Contains(u.Location, "ca.crt") && !strings.Contains(u.Location, "signer.crt") {
				all[u.Host+" "+u.Place+" "+u.Location] = u.Serial
			}
		}
	}
	return all
}

// checkRenew renews everything, some times, under load, with connections held open: no request fails, all serials are
// new and shown, and nothing is restarted. Without --wait=served it lasts until API servers have made new connections to kubelets,
// which ends what went through the old ones: only then may an exec and a port-forward have to be opened again.
func (c *cluster) checkRenew(t *testing.T, k *kube, times int, more ...string) {
	t.Helper()
	c.deploy(t, k, "held", 1)
	h := c.hold(t, k, c.waitPods(t, k, "held", 1)[0])
	users := c.useAPI(t, k, c.nodes()[len(c.nodes())-1])
	args := append([]string{"certs", "renew", "-f", c.file, "--yes", "-v"}, more...)
	started := c.startTimes(t)
	for i := range times {
		before := c.serials(t)
		r := c.ok(t, args...)
		t.Logf("renewed in %.1fs", r.elapsed.Seconds())
		after := c.serials(t)
		for _, at := range slices.Sorted(maps.Keys(before)) {
			if before[at] == after[at] {
				t.Errorf("renewal %d: %s has its old certificate", i+1, at)
			}
		}
		waited, when := len(more) == 0, fmt.Sprintf("after renewal %d", i+1)
		c.checkPresented(t, r, waited)
		h.checkWatch(t, when)
		if waited {
			h.openStreams(t)
		} else {
			h.checkStreams(t, when)
		}
	}
	users.stop(t)
	if now := c.startTimes(t); now != started {
		t.Errorf("units were restarted; before:\n%s\nafter:\n%s", started, now)
	}
	c.checkCertsStatus(t)
	c.checkNoChange(t)
}

// checkPresented wants to be told, by the renewal and by certs status, whether clients present their new certificates:
// that they do if the renewal has waited for it, and else whether they do or not.
func (c *cluster) checkPresented(t *testing.T, renewal result, waited bool) {
	t.Helper()
	for text, want := range map[string]bool{"then up to 5 minutes until all clients": waited, "up to 5 minutes later": !waited, "Not proven: that clients": !waited} {
		if strings.Contains(renewal.stderr, text) != want {
			t.Errorf("that the renewal says %q should be %v:\n%s", text, want, renewal.stderr)
		}
	}
	uses, _ := c.certsStatus(t)
	told := map[string]int{}
	for _, u := range uses {
		if u.Presented == nil {
			continue
		}
		told[u.Host]++
		if waited && !*u.Presented {
			t.Errorf("the renewal has waited, and %v is not presented: %s", u, u.Detail)
		}
	}
	for _, node := range c.nodes() {
		want := 3 // kubelet, kube-proxy, flannel
		if slices.Contains(c.controlPlanes(), node) {
			want = 6 // and API server, controller manager, scheduler
		}
		if told[node] != want {
			t.Errorf("%s: of %d clients it is told what they present, want %d", node, told[node], want)
		}
	}
}

// machineAddress is where the host's network reaches a machine.
func (c *cluster) machineAddress(t *testing.T, node string) string {
	t.Helper()
	return strings.TrimSpace(docker(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", c.machine(t, node)))
}
