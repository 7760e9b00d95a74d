package provision

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// served is a host whose ports are those of servers in this process.
type served struct {
	*hosttest.Memory
	at map[string]string // by the address that is dialed
}

func (s served) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	at, ok := s.at[address]
	if !ok {
		return nil, fmt.Errorf("dial %s: connection refused", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, at)
}

// component answers as one of the stack does. It takes clients of the authorities in taken, by the endpoint's client.
type component struct {
	kind    string
	row     endpointRow
	version uint16
	taken   map[string][]byte
	// named is whom it names to clients in the handshake, where that is not whom it takes.
	named []byte
	down  bool
}

// kindOf says how a unit treats clients: etcd within the handshake, the API server by 401, the others by 401 and 403.
func kindOf(unit string) string {
	switch unit {
	case "etcd.service":
		return "etcd"
	case "kube-apiserver.service":
		return "apiserver"
	}
	return "delegating"
}

func poolOf(bundle []byte) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	return pool
}

// knows says whether the client that shows a certificate is one of an authority's.
func (c component) knows(r *http.Request, authority string) bool {
	if len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	_, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: poolOf(c.taken[authority]), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}

func (c component) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	shown := len(r.TLS.PeerCertificates) > 0
	switch {
	case c.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case c.kind == "etcd": // it would not have come so far
	case c.kind == "apiserver":
		byProxy := r.Header.Get("X-Remote-User") != "" && c.knows(r, certs.FrontProxyCA)
		if !byProxy && !c.knows(r, certs.KubernetesCA) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	case shown && !c.knows(r, certs.KubernetesCA):
		w.WriteHeader(http.StatusUnauthorized)
	default: // somebody without rights, or nobody
		w.WriteHeader(http.StatusForbidden)
	}
}

// start serves with a certificate, and gives the address.
func (c component) start(t *testing.T, item certs.Item) string {
	t.Helper()
	pair, err := tls.X509KeyPair(item.Cert, item.Key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: c.version, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, ClientCAs: poolOf(c.named)}
	if c.kind == "etcd" {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, poolOf(c.taken[c.row.client])
	}
	server := httptest.NewUnstartedServer(c)
	server.TLS = config
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // refusals are what is wanted
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// leafOf is what an endpoint of a host has in its file.
func leafOf(pki *certs.PKI, cert, host string) certs.Item {
	for _, q := range pki.Requests {
		if q.Path+".crt" == cert && q.Node == host {
			return pki.Material[q.Name]
		}
	}
	return certs.Item{}
}

// rotating has the inputs of a rotation of all authorities in its first and last stage, and what was before it.
func rotating(t *testing.T) (trust, drop Input, old, both, next map[string][]byte) {
	t.Helper()
	first := input(t)
	stored := beginning(t, first, authorities)
	trust = inStage(t, first, stored, certs.Begin(authorities, time.Now()))
	last := trust.PKI.Rotation
	for last.Stage != certs.Drop {
		last = last.Next(time.Now())
	}
	drop = inStage(t, first, stored, last)
	old, both, next = map[string][]byte{}, map[string][]byte{}, map[string][]byte{}
	for _, name := range authorities {
		old[name], next[name] = stored[name].Cert, stored[certs.NextName(name)].Cert
		both[name] = slices.Concat(old[name], next[name])
	}
	return trust, drop, old, both, next
}

// node1 serves all endpoints of demo-cp-1 as components that take clients, but for those that other says.
func node1(t *testing.T, in Input, version uint16, taken, named map[string][]byte, other func(*component)) *Runner {
	t.Helper()
	const name = "demo-cp-1"
	n := certsNode(in.Machines[0])
	h := served{hosttest.NewMemory(name), map[string]string{}}
	for _, row := range endpointTable {
		if row.cert == "" {
			continue // of a port that has another row
		}
		c := component{kind: kindOf(row.unit), row: row, version: version, taken: taken, named: named[row.client]}
		if other != nil {
			other(&c)
		}
		h.at[row.address(n)] = c.start(t, leafOf(in.PKI, row.cert, name))
	}
	return &Runner{Input: in, Hosts: map[string]host.Host{name: h}}
}

// soon is a step of demo-cp-1 that ends before long.
func soon(t *testing.T, r *Runner, do func(*Runner, context.Context, Step) error, wait time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return do(r, ctx, Step{Host: "demo-cp-1"})
}

const (
	enough = 30 * time.Second
	brief  = 400 * time.Millisecond
)

var tlsVersions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// Trust is proven where every endpoint takes clients of the new authorities, and refusal where none takes those of the old:
// a single endpoint that lags keeps the whole host from it, whoever it is.
func TestProofsWantEveryEndpoint(t *testing.T) {
	trust, drop, old, both, next := rotating(t)
	for version, v := range tlsVersions {
		t.Run(version, func(t *testing.T) {
			if err := soon(t, node1(t, trust, v, both, old, nil), (*Runner).proveTrust, enough); err != nil {
				t.Errorf("trust, where all do: %v", err)
			}
			if err := soon(t, node1(t, drop, v, next, old, nil), (*Runner).proveRefusal, enough); err != nil {
				t.Errorf("refusal, where all do: %v", err)
			}
			for _, row := range endpointTable {
				if row.client == "" {
					continue
				}
				lags := func(with map[string][]byte) func(*component) {
					return func(c *component) {
						if c.row.address(certsNode(trust.Machines[0])) != row.address(certsNode(trust.Machines[0])) {
							return
						}
						taken := map[string][]byte{}
						for name := range c.taken {
							taken[name] = c.taken[name]
						}
						taken[row.client] = with[row.client]
						c.taken = taken
					}
				}
				t.Run(fmt.Sprintf("%s %d %s", row.unit, row.port, row.client), func(t *testing.T) {
					t.Parallel()
					err := soon(t, node1(t, trust, v, both, old, lags(old)), (*Runner).proveTrust, brief)
					if err == nil || !strings.Contains(err.Error(), row.unit+" on demo-cp-1") || !strings.Contains(err.Error(), "does not trust the new authority yet") ||
						!strings.Contains(err.Error(), "it refused the client") {
						t.Errorf("trust, where it takes the old alone: %v", err)
					}
					err = soon(t, node1(t, drop, v, next, old, lags(both)), (*Runner).proveRefusal, brief)
					if err == nil || !strings.Contains(err.Error(), row.unit+" on demo-cp-1") || !strings.Contains(err.Error(), "still takes clients") ||
						!strings.Contains(err.Error(), "it took the client") {
						t.Errorf("refusal, where it takes the old still: %v", err)
					}
				})
			}
		})
	}
}

// An endpoint that has no answer, or is not there, has proven neither.
func TestAnEndpointThatDoesNotAnswerProvesNothing(t *testing.T) {
	trust, drop, old, both, next := rotating(t)
	down := func(c *component) { c.down = c.row.unit == "kube-scheduler.service" }
	for name, err := range map[string]error{
		"trust":   soon(t, node1(t, trust, tls.VersionTLS13, both, old, down), (*Runner).proveTrust, brief),
		"refusal": soon(t, node1(t, drop, tls.VersionTLS13, next, old, down), (*Runner).proveRefusal, brief),
	} {
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1:10259/metrics: 503") {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := node1(t, drop, tls.VersionTLS13, next, old, nil)
	delete(gone.Hosts["demo-cp-1"].(served).at, "127.0.0.1:10257")
	if err := soon(t, gone, (*Runner).proveRefusal, brief); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("where it is not there: %v", err)
	}
	gone.Hosts["demo-cp-1"] = hosttest.NewMemory("demo-cp-1")
	if err := soon(t, gone, (*Runner).proveRefusal, brief); err == nil || !strings.Contains(err.Error(), "cannot reach its network") {
		t.Errorf("without a network: %v", err)
	}
	// A server that is an impostor has not refused: its certificate is of nobody who is trusted.
	impostor := node1(t, drop, tls.VersionTLS13, next, old, nil)
	impostor.Input.PKI = input(t).PKI
	impostor.Input.PKI.Rotation, impostor.Input.PKI.Other = drop.PKI.Rotation, drop.PKI.Other
	if err := soon(t, impostor, (*Runner).proveRefusal, brief); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("of a server that is not trusted: %v", err)
	}
}

// Where the key of the other authority is elsewhere nobody can tell, and nobody is asked.
func TestNothingIsProbedWithoutAKey(t *testing.T) {
	trust, _, old, _, _ := rotating(t)
	r := node1(t, trust, tls.VersionTLS13, old, old, nil)
	other := certs.Material{}
	for name, item := range trust.PKI.Other {
		other[name] = certs.Item{Cert: item.Cert}
	}
	pki := *trust.PKI
	pki.Other, r.Input.PKI = other, &pki
	if err := soon(t, r, (*Runner).proveTrust, brief); err != nil {
		t.Errorf("error %v", err)
	}
}

// An endpoint serves what is in its file, or the step goes on waiting; every one of a host does.
func TestAwaitServedWantsWhatIsInTheFiles(t *testing.T) {
	in := input(t)
	r := node1(t, in, 0, nil, nil, nil)
	r.Desired = desired(t, in)
	etcd := func(c *component) { c.kind = "delegating" } // which shows itself to anybody
	*r = Runner{Input: in, Hosts: node1(t, in, 0, nil, nil, etcd).Hosts, Desired: r.Desired}
	if err := soon(t, r, (*Runner).awaitServed, enough); err != nil {
		t.Error(err)
	}
	other := input(t)
	for _, row := range endpointTable {
		if row.cert == "" {
			continue
		}
		t.Run(fmt.Sprint(row.unit, row.port), func(t *testing.T) {
			t.Parallel()
			r := node1(t, in, 0, nil, nil, etcd)
			r.Desired = desired(t, in)
			h, address := r.Hosts["demo-cp-1"].(served), row.address(certsNode(in.Machines[0]))
			right := h.at[address]
			h.at[address] = component{kind: "delegating", row: row}.start(t, leafOf(other.PKI, row.cert, "demo-cp-1"))
			err := soon(t, r, (*Runner).awaitServed, brief)
			if err == nil || !strings.Contains(err.Error(), row.unit+" on demo-cp-1: "+address+" does not serve its certificate") || !strings.Contains(err.Error(), "it serves serial") {
				t.Errorf("where it serves another: %v", err)
			}
			h.at[address] = right
			if err := soon(t, r, (*Runner).awaitServed, enough); err != nil {
				t.Error(err)
			}
		})
	}
}

// proofLines has what a stage is proven by, in order: those of hosts with how many.
func proofLines(proofs []Proof) string {
	var lines []string
	count := map[Verb]int{}
	for _, p := range proofs {
		if count[p.Verb]++; count[p.Verb] > 1 {
			continue
		}
		lines = append(lines, fmt.Sprint(p.Verb))
	}
	for i, line := range lines {
		for v, n := range count {
			if fmt.Sprint(v) == line {
				lines[i] = fmt.Sprintf("%s %d", line, n)
			}
		}
	}
	return strings.Join(lines, ", ")
}

func TestProofsOfEveryStage(t *testing.T) {
	in := input(t)
	all := []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA, certs.ServiceAccounts}
	is := func(parts ...any) string {
		return strings.TrimSpace(strings.ReplaceAll(fmt.Sprintln(parts...), " , ", ", "))
	}
	for _, tt := range []struct {
		names  []string
		stage  certs.Stage
		back   bool
		proofs string
	}{
		{all, certs.Trust, false, is(ProveTrust, 4, ",", AwaitRootCA, 1)},
		{all, certs.Tokens, false, ""},
		{all, certs.Rollout, false, is(RollWorkloads, 1, ",", AwaitTokens, 1)},
		{all, certs.Issue, false, is(AwaitServed, 4)},
		{all, certs.Drop, false, is(ProveRefusal, 4, ",", AwaitRootCA, 1)},
		{all, certs.Return, true, is(AwaitServed, 4)},
		{all, certs.Drop, true, is(ProveRefusal, 4, ",", AwaitRootCA, 1)},
		{[]string{certs.EtcdCA}, certs.Trust, false, is(ProveTrust, 4)},
		{[]string{certs.KubernetesCA}, certs.Rollout, false, is(RollWorkloads, 1)},
		{[]string{certs.ServiceAccounts}, certs.Issue, false, ""},
		{[]string{certs.EncryptionKey}, certs.Trust, false, is(AwaitEncryption, 3)},
		{[]string{certs.EncryptionKey}, certs.Issue, false, is(AwaitEncryption, 3, ",", RewriteSecrets, 1)},
		{[]string{certs.EncryptionKey}, certs.Return, true, is(AwaitEncryption, 3, ",", RewriteSecrets, 1)},
		{[]string{certs.EncryptionKey}, certs.Drop, true, is(AwaitEncryption, 3)},
	} {
		in.PKI.Rotation = &certs.Rotation{Names: tt.names, Stage: tt.stage, Back: tt.back}
		proofs, err := ProveStage.proofs(in, nil)
		if got := proofLines(proofs); err != nil || got != tt.proofs {
			t.Errorf("%v at %s, back %t: %s, want %s; %v", tt.names, tt.stage, tt.back, got, tt.proofs, err)
		}
		if proofs, err := ProveNothing.proofs(in, nil); len(proofs) > 0 || err != nil {
			t.Errorf("nothing is to be proven, and %v is", proofs)
		}
	}
	in.PKI.Rotation = nil
	if proofs, err := ProveStage.proofs(in, nil); len(proofs) > 0 || err != nil {
		t.Errorf("without a rotation: %v, %v", proofs, err)
	}
	changes := []Change{
		{Host: "b", Kind: FileChange, Action: Update, Name: pkiDir + "/kube-proxy.crt"},
		{Host: "a", Kind: FileChange, Action: Update, Name: pkiDir + "/scheduler.crt"},
		{Host: "c", Kind: FileChange, Action: Update, Name: pkiDir + "/apiserver.crt"},
	}
	if proofs, err := ProveClients.proofs(in, changes); err != nil || !slices.Equal(proofs, []Proof{{AwaitPresented, "a"}, {AwaitPresented, "b"}}) {
		t.Errorf("of clients: %v, %v", proofs, err)
	}
}

// Proofs come after all that is done: those of a host after its own steps, those of the cluster after everything, in order.
func TestScheduleEndsWithProofs(t *testing.T) {
	s := Situation{Machines: machines(1, 1), Alive: true, Changes: changed("cp-1"), Proofs: []Proof{
		{ProveTrust, "cp-1"}, {ProveTrust, "w-1"}, {RollWorkloads, ""}, {AwaitTokens, ""},
	}}
	step := func(v Verb, host string) string { return newStep(v, host, nil, nil).Name }
	want := map[string][]string{
		step(ProveTrust, "cp-1"): {step(EnsureNode, "cp-1")},
		step(ProveTrust, "w-1"):  nil,
		step(RollWorkloads, ""):  {step(ProveTrust, "cp-1"), step(ProveTrust, "w-1")},
		step(AwaitTokens, ""):    {step(RollWorkloads, "")},
	}
	check := func(s Situation) {
		t.Helper()
		found := 0
		for _, got := range Schedule(s) {
			if deps, ok := want[got.Name]; ok {
				found++
				if !slices.Equal(got.Deps, deps) {
					t.Errorf("%s waits for %q, want %q", got.Name, got.Deps, deps)
				}
			}
		}
		if found != len(want) {
			t.Errorf("got\n%s", listed(Schedule(s)))
		}
	}
	check(s)
	s.Changes = nil // nothing differs, and proofs are wanted all the same
	want[step(ProveTrust, "cp-1")] = nil
	check(s)
	s.Selected = []string{"cp-1"}
	if text := listed(Schedule(s)); strings.Contains(text, step(ProveTrust, "w-1")) {
		t.Errorf("what is not selected is proven:\n%s", text)
	}
}
