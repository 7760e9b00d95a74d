package preflight

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
)

// wire is a network in memory: what does not pass is in cut, as "FROM TO PORT".
type wire struct {
	s   *Situation
	cut map[string]WayState
}

// speaker is a host that answers the scripts of this package as the real ones do.
type speaker struct {
	host.Host
	name string
	wire *wire
	// dies ends the script after its first line.
	dies bool
}

func (h *speaker) Name() string { return h.name }

func (h *speaker) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	if strings.Contains(cmd.Script, "uname -r") {
		_, err := io.WriteString(cmd.Stdout, strings.NewReplacer("NAME", h.name, "ADDRESS", h.wire.address(h.name), "DIGIT", h.wire.address(h.name)[len("10.0.0."):]).Replace(report))
		return host.Result{}, err
	}
	lines := bufio.NewScanner(cmd.Stdin)
	_, _ = io.WriteString(cmd.Stdout, "rea") // output comes in any parts
	_, _ = io.WriteString(cmd.Stdout, "dy\n")
	if h.dies {
		return host.Result{}, errors.New("the connection was lost")
	}
	lines.Scan()
	_, targets, _ := strings.Cut(cmd.Script, "TARGETS='")
	targets, _, _ = strings.Cut(targets, "'\n")
	for target := range strings.SplitSeq(targets, "\n") {
		var protocol, address string
		var port, size int
		if _, err := fmt.Sscan(target, &protocol, &address, &port, &size); err != nil {
			return host.Result{}, fmt.Errorf("target %q: %w", target, err)
		}
		if protocol != TCP {
			continue
		}
		switch h.wire.state(h.name, h.wire.owner(address), port) {
		case Silent:
			_, _ = fmt.Fprintf(cmd.Stdout, "silent tcp %s %d\n", address, port)
		case Closed:
			_, _ = fmt.Fprintf(cmd.Stdout, "closed tcp %s %d Connection refused\n", address, port)
		default:
			_, _ = fmt.Fprintf(cmd.Stdout, "open tcp %s %d\n", address, port)
		}
	}
	_, _ = io.WriteString(cmd.Stdout, "tried\n")
	lines.Scan()
	for _, n := range h.wire.s.Nodes {
		state := h.wire.state(n.Name, h.name, vxlanPort)
		if n.Name == h.name || state == Silent {
			continue
		}
		_, _ = fmt.Fprintf(cmd.Stdout, "got short %s\n", n.Name)
		if state != Short {
			_, _ = fmt.Fprintf(cmd.Stdout, "got long %s\n", n.Name)
		}
	}
	_, _ = io.WriteString(cmd.Stdout, "[end]\n")
	return host.Result{}, nil
}

func (w *wire) state(from, to string, port int) WayState {
	return w.cut[fmt.Sprintf("%s %s %d", from, to, port)]
}

func (w *wire) owner(address string) string {
	i := slices.IndexFunc(w.s.Nodes, func(n Node) bool { return n.Address.String() == address })
	return w.s.Nodes[i].Name
}

func (w *wire) address(name string) string { return w.s.address(name).String() }

func (w *wire) hosts(dead ...string) map[string]host.Host {
	all := map[string]host.Host{}
	for _, n := range w.s.Nodes {
		all[n.Name] = &speaker{name: n.Name, wire: w, dies: slices.Contains(dead, n.Name)}
	}
	return all
}

func TestExchange(t *testing.T) {
	s := healthy(t)
	w := &wire{s: s, cut: map[string]WayState{
		"t-cp-1 t-worker-1 10250": Silent, "t-worker-2 t-cp-1 6443": Closed, "t-worker-1 t-worker-2 8472": Short, "t-worker-2 t-worker-1 8472": Silent,
	}}
	s.Ways = exchange(t.Context(), s, w.hosts())
	if len(s.Ways) != 10 {
		t.Errorf("want 10 ways: two of the API, two of the kubelets and six of the pod network; got %v", s.Ways)
	}
	for _, way := range s.Ways {
		want := w.state(way.From, way.To, way.Port)
		if want == "" {
			want = Open
		}
		if way.State != want {
			t.Errorf("want %s: %+v", want, way)
		}
	}
	if got := Evaluate(s, nil); len(got) != 4 {
		t.Errorf("want a finding for each way that is cut: %v", got)
	}
}

// TestExchangeWithoutAHost: what a host that went away would have said is not held against anyone.
func TestExchangeWithoutAHost(t *testing.T) {
	s := healthy(t)
	w := &wire{s: s, cut: map[string]WayState{"t-cp-1 t-worker-1 10250": Silent}}
	s.Ways = exchange(t.Context(), s, w.hosts("t-worker-2"))
	for _, way := range s.Ways {
		if untried := way.From == "t-worker-2" || way.To == "t-worker-2"; untried != (way.State == Untried) {
			t.Errorf("%+v", way)
		}
	}
	if got := Evaluate(s, nil); len(got) != 1 || got[0].Host != "t-worker-1" || got[0].Check != "ports-blocked" {
		t.Errorf("want only what was tried: %v", got)
	}
}

// TestExchangeWithMembers: only ways from or to new machines are tried, and a node's own servers are
// used.
func TestExchangeWithMembers(t *testing.T) {
	s := healthy(t)
	for _, i := range []int{0, 1} {
		s.Nodes[i].Facts.Owned = []string{"/etc/systemd/system/kubelet.service"}
	}
	w := &wire{s: s, cut: map[string]WayState{"t-worker-2 t-cp-1 6443": Closed}}
	s.Ways = exchange(t.Context(), s, w.hosts())
	for _, way := range s.Ways {
		if way.From != "t-worker-2" && way.To != "t-worker-2" {
			t.Errorf("tried between nodes: %+v", way)
		}
		if way.Protocol == UDP && way.To != "t-worker-2" {
			t.Errorf("the kernel of a node has the port: %+v", way)
		}
		if way.Port == 6443 && way.State != Untried {
			t.Errorf("an API server that does not run is no affair of the network: %+v", way)
		}
	}
	s.Nodes[2].Facts.Owned = s.Nodes[0].Facts.Owned
	if ways := exchange(t.Context(), s, nil); ways != nil {
		t.Errorf("without a new machine nothing is tried: %v", ways)
	}
}

func TestTargetsOfManyWorkers(t *testing.T) {
	s := healthy(t)
	for i := range 100 {
		n := s.Nodes[1]
		n.Name = fmt.Sprintf("t-worker-%d", i+3)
		s.Nodes = append(s.Nodes, n)
	}
	of := map[string]int{}
	for _, target := range s.targets(5) {
		of[target.port.Protocol]++
	}
	if of[TCP] != 1 || of[UDP] < neighbours || of[UDP] > neighbours+1 {
		t.Errorf("a worker tries the API and %d others: %v", neighbours, of)
	}
	if got := len(s.targets(0)); got != 2*(len(s.Nodes)-1) {
		t.Errorf("a control plane tries the kubelet and the pod network of all %d others, not %d ways", len(s.Nodes)-1, got)
	}
}

func TestRun(t *testing.T) {
	s := healthy(t)
	w := &wire{s: s, cut: map[string]WayState{"t-cp-1 t-worker-1 10250": Silent, "t-cp-1 t-worker-2 10250": Silent}}
	in := Input{Cluster: s.Cluster}
	for _, n := range s.Nodes {
		in.Machines = append(in.Machines, spec.Machine{Name: n.Name, Role: n.Role, Address: n.Address, Artifacts: "/mnt"})
	}
	hosts := w.hosts()
	r, err := Run(t.Context(), in, hosts)
	if err != nil || len(r.Unread) != 0 || len(r.Nodes) != 3 || len(r.Findings) != 2 || r.Findings[0].Host != "t-worker-1" || r.Findings[1].Host != "t-worker-2" {
		t.Errorf("want a finding on each worker: %+v, %v", r, err)
	}
	in.Judged = []string{"t-worker-2"}
	if r, err = Run(t.Context(), in, hosts); err != nil || len(r.Findings) != 1 || r.Findings[0].Host != "t-worker-2" {
		t.Errorf("want only the finding on t-worker-2: %+v, %v", r, err)
	}
	in.Ignore = []string{"ports-blocked", "mtu"}
	if r, err = Run(t.Context(), in, hosts); err != nil || len(r.Findings) != 0 {
		t.Errorf("want nothing: %+v, %v", r, err)
	}
	hosts["t-worker-2"] = &broken{name: "t-worker-2"}
	if r, err = Run(t.Context(), in, hosts); err != nil || len(r.Nodes) != 2 || r.Unread["t-worker-2"] == nil {
		t.Errorf("want t-worker-2 unread, and the others judged: %+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Run(ctx, in, hosts); !errors.Is(err, context.Canceled) {
		t.Errorf("want the end of the context: %v", err)
	}
}

// broken is a host whose report ends in the middle.
type broken struct {
	host.Host
	name string
}

func (h *broken) Name() string { return h.name }

func (h *broken) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	_, err := io.WriteString(cmd.Stdout, report[:500])
	return host.Result{}, err
}

// TestScripts runs the scripts on this machine, which takes the part of three, on three addresses.
func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("systemd-socket-activate"); err != nil {
		t.Skip("needs systemd-socket-activate")
	}
	s := healthy(t)
	hosts, in := map[string]host.Host{}, Input{Cluster: s.Cluster}
	for i, n := range s.Nodes {
		hosts[n.Name] = host.Local(n.Name)
		n.Address = netip.AddrFrom4([4]byte{127, 7, byte(os.Getpid() % 250), byte(i + 1)})
		in.Machines = append(in.Machines, spec.Machine{Name: n.Name, Role: n.Role, Address: n.Address, SharedDisk: true})
	}
	facts, err := gather(t.Context(), hosts["t-cp-1"], in, &Node{Name: "t-cp-1", Role: spec.ControlPlane, SharedDisk: true, Address: in.Machines[0].Address})
	if err != nil {
		t.Fatal(err)
	}
	if facts.Kernel == "" || facts.Machine == "" || facts.CPUs == 0 || facts.MemoryKB == 0 || len(facts.Disks) != len(dirs) || len(facts.Addresses) == 0 ||
		facts.Clock.IsZero() || len(facts.Sysctls) != len(limits) || len(facts.Controllers) == 0 {
		t.Errorf("facts are missing: %+v", facts)
	}
	facts.Owned, facts.Listeners, facts.Interface = nil, nil, "lo"
	for i := range s.Nodes {
		s.Nodes[i].Address, s.Nodes[i].Facts = in.Machines[i].Address, facts
	}
	s.Ways = exchange(t.Context(), s, hosts)
	if len(s.Ways) != 10 {
		t.Errorf("want 10 ways, got %v", s.Ways)
	}
	for _, way := range s.Ways {
		if way.State != Open {
			t.Errorf("nothing is in its way on the loopback interface: %+v", way)
		}
	}
}
