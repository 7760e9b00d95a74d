package converge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
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
	row     stack.Endpoint
	version uint16
	taken   map[string][]byte
	// named is whom it names to clients in the handshake, where that is not whom it takes.
	named []byte
	down  bool
	// ahead is by how much its clock is.
	ahead time.Duration
}

func (c component) now() time.Time { return time.Now().Add(c.ahead) }

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
	_, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{CurrentTime: c.now(), Roots: poolOf(c.taken[authority]), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
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
	if config.Time = c.now; c.kind == "etcd" {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, poolOf(c.taken[c.row.Client])
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
func rotating(t *testing.T) (trust, drop stack.Input, old, both, next map[string][]byte) {
	t.Helper()
	first := fixture.Input(t)
	stored := fixture.Beginning(t, first, plan.Authorities)
	trust = fixture.InStage(t, first, stored, certs.Begin(plan.Authorities, time.Now()))
	last := trust.PKI.Rotation
	for last.Stage != certs.Drop {
		last = last.Next(time.Now())
	}
	drop = fixture.InStage(t, first, stored, last)
	old, both, next = map[string][]byte{}, map[string][]byte{}, map[string][]byte{}
	for _, name := range plan.Authorities {
		old[name], next[name] = stored[name].Cert, stored[certs.NextName(name)].Cert
		both[name] = slices.Concat(old[name], next[name])
	}
	return trust, drop, old, both, next
}

// node1 serves all endpoints of demo-cp-1 as components that take clients, but for those that other says.
func node1(t *testing.T, in stack.Input, version uint16, taken, named map[string][]byte, other func(*component)) *Runner {
	t.Helper()
	const name = "demo-cp-1"
	n := stack.CertsNode(in.Machines[0])
	h := served{hosttest.NewMemory(name), map[string]string{}}
	for _, row := range stack.Endpoints() {
		if row.Cert == "" {
			continue // of a port that has another row
		}
		c := component{kind: kindOf(row.Unit), row: row, version: version, taken: taken, named: named[row.Client]}
		if other != nil {
			other(&c)
		}
		h.at[row.Address(n)] = c.start(t, leafOf(in.PKI, row.Cert, name))
	}
	return &Runner{View: View{Input: in, Hosts: map[string]host.Host{name: h}}}
}

// soon is a step of demo-cp-1 that ends before long.
func soon(t *testing.T, r *Runner, do func(*Runner, context.Context, plan.Step) error, wait time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return do(r, ctx, plan.Step{Host: "demo-cp-1"})
}

// enough is for what comes to its end, brief for what does not.
const (
	enough = 30 * time.Second
	brief  = 400 * time.Millisecond
)

// fails wants a step of demo-cp-1 to go on waiting, and to say why. A machine that is busy gets more time to find out.
func fails(t *testing.T, what string, r *Runner, do func(*Runner, context.Context, plan.Step) error, wants ...string) {
	t.Helper()
	for wait := brief; ; wait *= 3 {
		err := soon(t, r, do, wait)
		if err == nil {
			t.Errorf("%s: it ended, want an error: %q", what, wants)
			return
		}
		if !slices.ContainsFunc(wants, func(want string) bool { return !strings.Contains(err.Error(), want) }) {
			return
		}
		if wait > enough/3 {
			t.Errorf("%s: %v, want %q", what, err, wants)
			return
		}
	}
}

var tlsVersions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// Trust is proven where every endpoint takes clients of the new authorities, and refusal where none takes those of the old:
// a single endpoint that lags keeps the whole host from it, whoever it is.
func TestProofsWantEveryEndpoint(t *testing.T) {
	t.Parallel()
	trust, drop, old, both, next := rotating(t)
	for version, v := range tlsVersions {
		t.Run(version, func(t *testing.T) {
			if err := soon(t, node1(t, trust, v, both, old, nil), (*Runner).proveTrust, enough); err != nil {
				t.Errorf("trust, where all do: %v", err)
			}
			if err := soon(t, node1(t, drop, v, next, old, nil), (*Runner).proveRefusal, enough); err != nil {
				t.Errorf("refusal, where all do: %v", err)
			}
			for _, row := range stack.Endpoints() {
				if row.Client == "" {
					continue
				}
				lags := func(with map[string][]byte) func(*component) {
					return func(c *component) {
						if c.row.Address(stack.CertsNode(trust.Machines[0])) != row.Address(stack.CertsNode(trust.Machines[0])) {
							return
						}
						taken := map[string][]byte{}
						for name := range c.taken {
							taken[name] = c.taken[name]
						}
						taken[row.Client] = with[row.Client]
						c.taken = taken
					}
				}
				t.Run(fmt.Sprintf("%s %d %s", row.Unit, row.Port, row.Client), func(t *testing.T) {
					t.Parallel()
					where := row.Unit + " on demo-cp-1"
					fails(t, "trust, where it takes the old alone", node1(t, trust, v, both, old, lags(old)), (*Runner).proveTrust,
						where, "does not trust the new CA yet", "it refused the client")
					fails(t, "refusal, where it takes the old still", node1(t, drop, v, next, old, lags(both)), (*Runner).proveRefusal,
						where, "is not proven to refuse", "it accepted the client: ")
				})
			}
		})
	}
}

// An endpoint that has no answer, or is not there, has proven neither.
func TestAnEndpointThatDoesNotAnswerProvesNothing(t *testing.T) {
	t.Parallel()
	trust, drop, old, both, next := rotating(t)
	down := func(c *component) { c.down = c.row.Unit == "kube-scheduler.service" }
	const said = "127.0.0.1:10259/metrics: 503"
	fails(t, "trust", node1(t, trust, tls.VersionTLS13, both, old, down), (*Runner).proveTrust, said)
	fails(t, "refusal", node1(t, drop, tls.VersionTLS13, next, old, down), (*Runner).proveRefusal, said)
	gone := node1(t, drop, tls.VersionTLS13, next, old, nil)
	delete(gone.Hosts["demo-cp-1"].(served).at, "127.0.0.1:10257")
	fails(t, "where it is not there", gone, (*Runner).proveRefusal, "connection refused")
	gone.Hosts["demo-cp-1"] = hosttest.NewMemory("demo-cp-1")
	fails(t, "without a network", gone, (*Runner).proveRefusal, "cannot reach its network")
	// A server that is an impostor has not refused: its certificate is of nobody who is trusted.
	impostor := node1(t, drop, tls.VersionTLS13, next, old, nil)
	impostor.Input.PKI = fixture.Input(t).PKI
	impostor.Input.PKI.Rotation, impostor.Input.PKI.Other = drop.PKI.Rotation, drop.PKI.Other
	fails(t, "of a server that is not trusted", impostor, (*Runner).proveRefusal, "unknown authority")
}

// An endpoint that refuses everybody has not refused an authority, and it is said that it does; a host whose clock is wrong
// is asked with certificates of its own time.
func TestWhoTakesNobodyRefusesNoAuthority(t *testing.T) {
	t.Parallel()
	trust, drop, old, both, next := rotating(t)
	for _, row := range stack.Endpoints() {
		if row.Client == "" {
			continue
		}
		t.Run(fmt.Sprintf("%s %d %s", row.Unit, row.Port, row.Client), func(t *testing.T) {
			t.Parallel()
			nobody := func(c *component) {
				if c.row.Port == row.Port {
					taken := maps.Clone(c.taken)
					taken[row.Client] = nil
					c.taken = taken
				}
			}
			const said = "it also refused a client of the CA in use: "
			fails(t, "trust", node1(t, trust, tls.VersionTLS13, both, old, nobody), (*Runner).proveTrust, row.Unit, "it refused the client: ", said)
			fails(t, "refusal", node1(t, drop, tls.VersionTLS13, next, old, nobody), (*Runner).proveRefusal, row.Unit, "is not proven to refuse", said)
		})
	}
	ahead := func(c *component) { c.ahead = 2 * time.Hour }
	known := func(r *Runner) *Runner {
		now := time.Now()
		clock := stack.Clock{Read: now.Add(2 * time.Hour).Truncate(time.Second), Sent: now, Returned: now.Add(time.Second)}
		r.Observed = stack.State{Hosts: map[string]stack.HostState{"demo-cp-1": {Facts: stack.Facts{Clock: clock}}}}
		return r
	}
	for version, v := range tlsVersions {
		fails(t, "trust by a wrong clock, "+version, node1(t, trust, v, both, old, ahead), (*Runner).proveTrust, "clocks of the host")
		fails(t, "refusal by a wrong clock, "+version, node1(t, drop, v, next, old, ahead), (*Runner).proveRefusal, "clocks of the host")
		if err := soon(t, known(node1(t, trust, v, both, old, ahead)), (*Runner).proveTrust, enough); err != nil {
			t.Errorf("trust by a clock that is known, %s: %v", version, err)
		}
		if err := soon(t, known(node1(t, drop, v, next, old, ahead)), (*Runner).proveRefusal, enough); err != nil {
			t.Errorf("refusal by a clock that is known, %s: %v", version, err)
		}
		fails(t, "refusal by a clock that is known, where it takes both, "+version, known(node1(t, drop, v, both, old, ahead)), (*Runner).proveRefusal, "it accepted the client")
	}
}

// Where the key of the authority in use is elsewhere, the cluster's own clients have to be taken.
func TestRefusalIsProvenWithClientsThatThereAre(t *testing.T) {
	_, drop, old, _, next := rotating(t)
	pki := *drop.PKI
	pki.Material = maps.Clone(pki.Material)
	for _, name := range plan.Authorities {
		pki.Material[name] = certs.Item{Cert: pki.Material[name].Cert}
	}
	drop.PKI = &pki
	if err := soon(t, node1(t, drop, tls.VersionTLS13, next, old, nil), (*Runner).proveRefusal, enough); err != nil {
		t.Error(err)
	}
	fails(t, "where nobody is taken", node1(t, drop, tls.VersionTLS13, nil, old, nil), (*Runner).proveRefusal, "of the CA in use")
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
	if err := soon(t, r, (*Runner).proveTrust, enough); err != nil {
		t.Errorf("error %v", err)
	}
}

// An endpoint serves what is in its file, or the step goes on waiting; every one of a host does.
func TestAwaitServedWantsWhatIsInTheFiles(t *testing.T) {
	in := fixture.Input(t)
	anybody := func(c *component) { c.kind = "delegating" } // to whom it shows itself
	r := node1(t, in, 0, nil, nil, anybody)
	r.Desired = fixture.Desired(t, in)
	if err := soon(t, r, (*Runner).awaitServed, enough); err != nil {
		t.Error(err)
	}
	other := fixture.Input(t)
	for _, row := range stack.Endpoints() {
		if row.Cert == "" {
			continue
		}
		t.Run(fmt.Sprint(row.Unit, row.Port), func(t *testing.T) {
			t.Parallel()
			r := node1(t, in, 0, nil, nil, anybody)
			r.Desired = fixture.Desired(t, in)
			h, address := r.Hosts["demo-cp-1"].(served), row.Address(stack.CertsNode(in.Machines[0]))
			right := h.at[address]
			h.at[address] = component{kind: "delegating", row: row}.start(t, leafOf(other.PKI, row.Cert, "demo-cp-1"))
			fails(t, "where it serves another", r, (*Runner).awaitServed, row.Unit+" on demo-cp-1: "+address+" does not serve its certificate", "it serves serial")
			h.at[address] = right
			if err := soon(t, r, (*Runner).awaitServed, enough); err != nil {
				t.Error(err)
			}
		})
	}
}
