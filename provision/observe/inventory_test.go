package observe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// rooted is this machine with the directories of a node below root, and with servers of its own. Scripts are really run.
type rooted struct {
	*host.LocalHost
	root    string
	servers map[string]*tls.Config // by address
	// prologue is run before every script.
	prologue string

	mu     sync.Mutex
	stdout bytes.Buffer // of all scripts
	runs   int
}

var nodeDirs = []string{"/etc/kubernetes", "/var/lib/kubelet"}

func (r *rooted) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	for _, dir := range append(nodeDirs, stack.ConnectionsDir) {
		cmd.Script = strings.ReplaceAll(cmd.Script, dir, r.root+dir)
	}
	cmd.Script = r.prologue + cmd.Script
	result, err := r.LocalHost.Run(ctx, cmd)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs++
	r.stdout.Write(result.Stdout)
	result.Stdout = bytes.ReplaceAll(result.Stdout, []byte(r.root), nil)
	return result, err
}

func (r *rooted) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	config, ok := r.servers[address]
	if !ok {
		return nil, fmt.Errorf("%s: dial %s: connection refused", r.Name(), address)
	}
	client, server := net.Pipe()
	go func() {
		conn := tls.Server(server, config)
		_ = conn.Handshake() // what comes of it is the client's affair
		_ = conn.Close()
	}()
	return client, nil
}

func (r *rooted) write(t *testing.T, path string, content []byte) {
	t.Helper()
	path = filepath.Join(r.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newRooted is a node as apply leaves it, whose servers serve what is in their files.
func newRooted(t *testing.T, in stack.Input, n certs.Node) *rooted {
	t.Helper()
	r := &rooted{LocalHost: host.Local(n.Name), root: t.TempDir(), servers: map[string]*tls.Config{}}
	for path, f := range fixture.Desired(t, in).Hosts[n.Name].Files {
		if slices.ContainsFunc(nodeDirs, func(dir string) bool { return strings.HasPrefix(path, dir) }) {
			content := f.Content
			for _, dir := range nodeDirs { // kubeconfigs refer to files
				content = bytes.ReplaceAll(content, []byte(" "+dir), []byte(" "+r.root+dir))
			}
			r.write(t, path, content)
		}
	}
	for _, row := range stack.Endpoints() {
		if row.On(n) && row.Cert != "" {
			r.serve(t, in.PKI, row, n)
		}
	}
	return r
}

// serve gives a row its server; that of the API server makes another certificate for itself.
func (r *rooted) serve(t *testing.T, pki *certs.PKI, row stack.Endpoint, n certs.Node) {
	t.Helper()
	address := row.Address(n)
	pair := func(item certs.Item) tls.Certificate {
		cert, err := tls.X509KeyPair(item.Cert, item.Key.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	var item certs.Item
	for _, q := range pki.Requests {
		if q.Path+".crt" == row.Cert && q.Node == n.Name {
			item = pki.Material[q.Name]
		}
	}
	own, loopback := pair(item), pair(pki.Material[certs.SuperAdmin])
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName == stack.LoopbackName {
			return &loopback, nil
		}
		return &own, nil
	}}
	if row.Server == certs.EtcdCA {
		config.ClientAuth, config.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 // which refuses within the handshake
	}
	r.servers[address] = config
}

// summarize has a line for each use that is not as it should be, and counts the others.
func summarize(uses []certs.Use) string {
	var lines []string
	fine := map[string]int{}
	for _, u := range uses {
		verdict := "disk=" + verdictOf(u.OnDisk) + " state=" + verdictOf(u.Wanted)
		if u.Error == "" && len(u.Detail) == 0 {
			fine[fmt.Sprintf("%s %s %s", u.Host, u.Place, verdict)]++
			continue
		}
		problem := strings.Join(append(slices.Clone(u.Detail), u.Error), " ")
		for _, cut := range []string{" serial ", ": the server at", "(serial"} { // what differs from run to run
			problem, _, _ = strings.Cut(problem, cut)
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s [%s] %s: %s", u.Host, u.Place, u.Location, u.Name, verdict, problem)))
	}
	for what, n := range fine {
		lines = append(lines, fmt.Sprintf("%s: %d", what, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func verdictOf(b *bool) string {
	if b == nil {
		return "-"
	}
	return fmt.Sprint(*b)
}

func TestInventory(t *testing.T) {
	in := fixture.Input(t)
	hosts, roots := map[string]host.Host{}, map[string]*rooted{}
	for _, m := range in.Machines {
		r := newRooted(t, in, stack.CertsNode(m))
		roots[m.Name], hosts[m.Name] = r, r
	}
	uses := Inventory(t.Context(), in, hosts, nil)
	fixture.Golden(t, "inventory-fine.golden", summarize(uses))
	for name, r := range roots {
		if r.runs != 1 {
			t.Errorf("%s was asked in %d sessions", name, r.runs)
		}
		for _, never := range []string{"PRIVATE KEY", "client-key", "BEGIN EC"} {
			if strings.Contains(r.stdout.String(), never) {
				t.Errorf("%s sent %q", name, never)
			}
		}
	}

	// Another PKI is in the place of some of it.
	other := fixture.Input(t).PKI.Material
	one := roots["demo-cp-1"]
	one.write(t, "/etc/kubernetes/pki/scheduler-server.crt", other["scheduler-server@demo-cp-1"].Cert) // still serves the old one
	one.write(t, "/etc/kubernetes/pki/ca.crt", slices.Concat(in.PKI.Material["ca"].Cert, other["ca"].Cert))
	one.write(t, "/etc/kubernetes/pki/sa.pub", other["sa"].Cert)
	one.write(t, "/etc/kubernetes/pki/etcd/ca.crt", []byte("rubbish"))
	one.write(t, "/etc/kubernetes/broken.conf", []byte("users: [{user: {client-certificate-data: '!', client-key-data: c2VjcmV0}}]\n"))
	theirs, err := stack.AdminKubeconfig("theirs", "https://192.0.2.1:6443", &certs.PKI{Material: other})
	if err != nil {
		t.Fatal(err)
	}
	one.write(t, "/etc/kubernetes/admin.conf", theirs.Reveal())
	one.write(t, "/etc/kubernetes/theirs.kubeconfig", []byte(`{"users":[{"user":{"client-certificate":"`+one.root+`/etc/kubernetes/theirs.pem","client-key":"x"}}]}`))
	both := slices.Concat(other["admin"].Key.Reveal(), other["admin"].Cert, other["admin"].Key.Reveal())
	one.write(t, "/etc/kubernetes/theirs.pem", both)
	two := roots["demo-cp-2"]
	if err := os.Remove(filepath.Join(two.root, "/var/lib/kubelet/pki/kubelet.crt")); err != nil {
		t.Fatal(err)
	}
	delete(two.servers, "127.0.0.1:10257")
	delete(hosts, "demo-cp-3")
	hosts["demo-worker-1"] = hosttest.NewMemory("demo-worker-1") // says nothing, and has no network
	one.stdout.Reset()
	uses = Inventory(t.Context(), in, hosts, map[string]error{"demo-cp-3": errors.New("no route to host"), "demo-worker-2": errors.New("there is no machine")})
	fixture.Golden(t, "inventory-drift.golden", summarize(uses))
	if text := one.stdout.String(); strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, "c2VjcmV0") {
		t.Error("a key was sent")
	}
}

// What clients present is found out by the lists that were kept of their connections when their certificates were renewed.
func TestInventoryOfWhatClientsPresent(t *testing.T) {
	in := fixture.Input(t)
	n := stack.CertsNode(in.Machines[3])
	r := newRooted(t, in, n)
	r.prologue = "systemctl() { echo 0; }\n"
	kept := fmt.Sprintf("kubelet.service %04X all", stack.BalancerPort)
	r.write(t, stack.ConnectionsDir+"/kubelet.service", []byte(kept+"\nkubelet.service 4711\n"))
	look := func(h host.Host) map[string]certs.Use {
		shown := map[string]certs.Use{}
		for _, u := range Inventory(t.Context(), in, map[string]host.Host{n.Name: h}, nil) {
			if u.Presented != nil {
				shown[u.Location] = u
			}
		}
		return shown
	}
	// The unit does not run, so none of its connections is left.
	const file = "/var/lib/kubelet/pki/kubelet-client.crt"
	shown := look(r)
	if len(shown) != 1 || !*shown[file].Presented || len(shown[file].Detail) > 0 {
		t.Errorf("presented are %+v", shown)
	}

	fake := hosttest.NewMemory(n.Name)
	cert := string(in.PKI.Material["kubelet-client@"+n.Name].Cert)
	proxy := string(in.PKI.Material["kube-proxy@"+n.Name].Cert)
	fake.On("# read certificates", hosttest.Answer{Stdout: "[file] " + file + "\n" + cert + "[file] /etc/kubernetes/pki/kube-proxy.crt\n" + proxy +
		strings.Replace("[client] "+kept, "all", "old", 1) + "\n" + fmt.Sprintf("[client] kube-proxy.service %04X unknown\n", stack.BalancerPort) +
		"[client] kubelet.service 0001 old\n[client]\n[end]\n"})
	shown = look(fake)
	if u := shown[file]; len(shown) != 1 || *u.Presented || len(u.Detail) != 1 || !strings.Contains(u.Detail[0], "kubelet.service still has connections") {
		t.Errorf("presented are %+v", shown)
	}
	// It takes minutes after each renewal, which is nothing to warn of.
	uses := []certs.Use{shown[file]}
	if certs.Judge(uses, time.Hour, time.Hour, time.Now()); uses[0].Level != certs.OK {
		t.Errorf("it is judged %s", uses[0].Level)
	}
}

func TestLocalInventory(t *testing.T) {
	in := fixture.Input(t)
	worker := stack.CertsNode(in.Machines[3])
	uses := LocalInventory(t.Context(), newRooted(t, in, worker), worker)
	fixture.Golden(t, "inventory-local.golden", summarize(uses))
	certs.Judge(uses, time.Hour, time.Hour, time.Now())
	for _, u := range uses {
		if u.Level != certs.OK || u.Name == "" || u.Subject == "" || u.Serial == "" {
			t.Errorf("%+v", u)
		}
	}

	// Another network plugin, which a node does not know of.
	in = fixture.WithPlugin(t, in, "none")
	requests := certs.Table(stack.CertInputs(in.Cluster, in.Machines, nil))
	var err error
	if in.PKI, _, err = certs.Ensure(t.Context(), in.PKI.Material, requests, fixture.TestPolicy, time.Now()); err != nil {
		t.Fatal(err)
	}
	uses = LocalInventory(t.Context(), newRooted(t, in, worker), worker)
	for _, u := range uses {
		if u.Error != "" || strings.Contains(u.Location, "flannel") {
			t.Errorf("without flannel there is %+v", u)
		}
	}
	if len(uses) == 0 {
		t.Error("without flannel nothing is seen")
	}
}

func TestParseSections(t *testing.T) {
	for _, cut := range []string{"", "[file] /a\n", "[file] /a\n-----BEGIN", "[end"} {
		if _, err := parseSections(cut); err == nil {
			t.Errorf("%q is not whole, and was taken", cut)
		}
	}
	got, err := parseSections("[file] /a b\none\ntwo\n[kubeconfig] /c\n[end]\n")
	want := []section{{"[file]", "/a b", "one\ntwo\n"}, {"[kubeconfig]", "/c", ""}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}
