package diagnose

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// sample is a host's report; %s is the state of its kubelet.
const sample = `[facts]
now=1795780800.250000000
uptime=3600.5
memtotal=8000000
memavailable=4000000
swaps=0
pidmax=4194304
threads=500
net.ipv4.ip_forward=1
[units]
Id=containerd.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
Result=success
ExecMainStatus=0
NRestarts=0
StateChangeTimestamp=Fri 2026-11-27 11:00:00 UTC
Job=

Id=kubelet.service
Result=success
ExecMainStatus=0
NRestarts=4
LoadState=loaded
%s
UnitFileState=enabled
StateChangeTimestamp=Fri 2026-11-27 11:59:59 UTC

[log kubelet.service]
 1795780799.000000 h systemd[1]: kubelet.service: Scheduled restart job, restart counter is at 4.
 1795780799.100000 h kubelet[1]: Error: no such flag
 [end]
[disks]
ext4 100000000000 50000000000 1000000 900000 /
vfat 1000 500 - - /boot
[cni]
file=/etc/cni/net.d/10-flannel.conflist
type=flannel
type=portmap
plugin=flannel
plugin=portmap
[networks]
eth0 10.89.0.14/24
flannel.1 10.244.3.0/32
[servers]
/etc/kubernetes/kubelet.conf https://me:secret@10.0.0.9:6443
/etc/kubernetes/kube-proxy.conf https://127.0.0.1:6444
[keys]
missing  /var/lib/kubelet/pki/kubelet.key
[proxy]
rules=108
[drops]
-A INPUT -p tcp -m tcp --dport 22 -j DROP
[text routes]
 default via 10.89.0.1
[end]
`

const running, failed = "ActiveState=active\nSubState=running", "ActiveState=activating\nSubState=auto-restart"

func source(t *testing.T, report string) (Source, *hosttest.Memory) {
	t.Helper()
	in := fixture.Input(t)
	infra := &spec.Infrastructure{Machines: in.Machines, States: map[string]string{}, Failed: map[string]error{}}
	for _, m := range in.Machines {
		infra.States[m.Name] = spec.MachineRunning
	}
	h := hosttest.NewMemory("demo-worker-1")
	h.On("# diagnose", hosttest.Answer{Stdout: report})
	h.On("# read certificates", hosttest.Answer{Stdout: "[end]\n"})
	return Source{Input: in, Infra: infra, Hosts: map[string]host.Host{h.Name(): h}, Unreachable: map[string]error{
		"demo-cp-1": &host.UnreachableError{Host: "demo-cp-1", Address: "10.0.0.1:22", Last: &net.DNSError{Err: "no such host", Name: "cp"}},
		"demo-cp-2": &host.AuthError{Host: "demo-cp-2", Err: errors.New("no")},
		"demo-cp-3": &host.HostKeyError{Host: "demo-cp-3"},
	}}, h
}

func TestGatherReadsAHost(t *testing.T) {
	s, _ := source(t, fmt.Sprintf(sample, failed))
	g := Gather(t.Context(), s)
	h := g.Evidence.hostNamed("demo-worker-1")
	u := h.unitOn("kubelet.service")
	switch {
	case !h.Complete || !h.Reached():
		t.Errorf("the report was not read: %+v", h)
	case u.Why != "Error: no such flag" || u.Restarts != 1 || u.Sub != "auto-restart" || u.For.Seconds() != 1:
		t.Errorf("the unit is %+v", u)
	case len(h.Disks) != 2 || h.Disks[0].Free != 50000000000 || h.Disks[1].Inodes != 0 || h.Disks[1].Target != "/boot":
		t.Errorf("the disks are %+v", h.Disks)
	case h.Networks["flannel.1"].Addr().String() != "10.244.3.0":
		t.Errorf("the networks are %v", h.Networks)
	case len(h.Servers) != 1 || h.Servers[0].Is != "https://10.0.0.9:6443" || h.Servers[0].Want != "https://127.0.0.1:6444":
		t.Errorf("the servers are %+v", h.Servers)
	case len(h.Keys) != 1 || h.ProxyRules != 108 || len(h.Drops) != 1 || h.Uptime.Hours() < 1:
		t.Errorf("the host is %+v", h)
	case g.Texts["demo-worker-1/routes"] != "default via 10.89.0.1\n" || !strings.Contains(g.Logs["demo-worker-1/kubelet.service"], "no such flag"):
		t.Errorf("texts %v, logs %v", g.Texts, g.Logs)
	}
	for name, want := range map[string]Hop{"demo-cp-1": HopName, "demo-cp-2": HopAuth, "demo-cp-3": HopHostKey} {
		if got := g.Evidence.hostNamed(name).Hop; got != want {
			t.Errorf("the way to %s ends at %q, want %q", name, got, want)
		}
	}
	if got := outline(Diagnose(&g.Evidence)); !strings.Contains(got, "machine demo-cp-1") || !strings.Contains(got, "unit-kubelet.service demo-worker-1") {
		t.Error(got)
	}
}

// TestQuestion: a host is asked for what its components have, and no key is in the script.
func TestQuestion(t *testing.T) {
	s, h := source(t, fmt.Sprintf(sample, running))
	s.Only = []string{"demo-worker-1"}
	if g := Gather(t.Context(), s); len(g.Evidence.Hosts) != 1 {
		t.Errorf("with --only there are %d hosts", len(g.Evidence.Hosts))
	}
	var script string
	for _, r := range h.Ran() {
		if strings.HasPrefix(r.Script, "# diagnose") {
			script = r.Script
		}
	}
	for _, want := range []string{"kubelet.service", "MODE='nftables'", "LINES=0", "/var/lib/kubelet/pki/kubelet.key", "/etc/kubernetes/kubelet.conf"} {
		if !strings.Contains(script, want) {
			t.Errorf("the script lacks %s", want)
		}
	}
	if strings.Contains(script, "etcd.service") {
		t.Error("a worker is asked for etcd")
	}
	g := gathering{Source: s}
	key := s.Input.PKI.Material["kubelet@demo-worker-1"].Key.Reveal()
	sum := sha256.Sum256(key)
	if got := g.questionFor("demo-worker-1").keys["/var/lib/kubelet/pki/kubelet.key"]; got != hex.EncodeToString(sum[:]) {
		t.Errorf("the digest of the kubelet's key is %s", got)
	}
}

func TestHops(t *testing.T) {
	for _, row := range []struct {
		err  error
		want Hop
	}{
		{nil, HopNone},
		{&host.UnreachableError{Last: errors.New("i/o timeout")}, HopTCP},
		{&host.LostError{Host: "worker-1", Err: errors.New("EOF")}, HopTCP},
		{&host.AgentError{}, HopAuth},
		{&host.ExitError{Stderr: "sudo: a password is required"}, HopSudo},
		{&host.ExitError{Stderr: "sh: not found"}, HopShell},
		{&host.JumpError{Hop: 1, Of: 2, Err: &host.AuthError{Err: errors.New("no")}}, HopBastion},
		{&host.PassphraseError{}, HopAuth},
		{errors.New("what"), HopTCP},
	} {
		if got, said := hopOf("worker-1", row.err); got != row.want || (said == "") != (row.err == nil) || strings.HasPrefix(said, "worker-1: ") {
			t.Errorf("%v ends at %q (%s), want %q", row.err, got, said, row.want)
		}
	}
}

func TestMachinesThatDoNotRun(t *testing.T) {
	s, _ := source(t, "")
	s.Hosts, s.Unreachable = nil, map[string]error{}
	s.Infra.States["demo-cp-1"] = "exited"
	s.Infra.Failed["demo-cp-2"] = errors.New("altered")
	s.Infra.Machines = s.Infra.Machines[:3]
	s.Input.PKI = nil
	g := Gather(t.Context(), s)
	for name, want := range map[string]string{"demo-cp-1": "it is exited", "demo-cp-2": "altered", "demo-worker-1": "there is no such machine"} {
		if h := g.Evidence.hostNamed(name); h.Hop != HopMachine || h.Problem != want {
			t.Errorf("%s: %s: %s", name, h.Hop, h.Problem)
		}
	}
	if g.Evidence.API.Asked {
		t.Error("a cluster without a PKI was asked")
	}
}

// TestTruncated: a report that ends anywhere is read as far as it goes, and makes nothing seem wrong.
func TestTruncated(t *testing.T) {
	whole := strings.Replace(fmt.Sprintf(sample, running), "me:secret@10.0.0.9:6443", "127.0.0.1:6444", 1)
	for n := range len(whole) + 1 {
		e := well()
		h := &e.Hosts[3]
		h.Units, h.Disks, h.CNI = nil, nil, CNI{}
		r := parseReport(whole[:n])
		r.into(h, question{servers: map[string]string{"/etc/kubernetes/kubelet.conf": "https://127.0.0.1:6444"}})
		if h.Complete != (n == len(whole)) {
			t.Fatalf("after %d bytes: complete is %v", n, h.Complete)
		}
		report := Diagnose(e)
		if !report.Healthy {
			t.Fatalf("after %d bytes: %s", n, outline(report))
		}
		if !h.Complete && len(report.Unknown) == 0 {
			t.Fatalf("after %d bytes nothing is said to be unknown", n)
		}
	}
}

// TestCutOff: what a host has said before its connection ended counts.
func TestCutOff(t *testing.T) {
	s, h := source(t, "")
	h.On("# diagnose", hosttest.Answer{Stdout: fmt.Sprintf(sample, failed)[:1200], Err: &host.LostError{Host: "demo-worker-1", Err: errors.New("EOF")}})
	g := Gather(t.Context(), s)
	got := g.Evidence.hostNamed("demo-worker-1")
	if !got.Reached() || got.Complete || got.unitOn("kubelet.service") == nil {
		t.Errorf("the host is %+v", got)
	}
	h.On("# diagnose", hosttest.Answer{Err: &host.LostError{Host: "demo-worker-1", Err: errors.New("EOF")}})
	if got := Gather(t.Context(), s).Evidence.hostNamed("demo-worker-1"); got.Hop != HopTCP {
		t.Errorf("without a report the way ends at %q", got.Hop)
	}
}

// TestScript runs the real script on this computer, which may have no systemd: it comes to its end
// all the same.
func TestScript(t *testing.T) {
	q := question{units: []string{"kubelet.service"}, configs: []string{"/etc/hostname"}, servers: map[string]string{"/no/such": "x"}, keys: map[string]string{"/no/such.key": "x"}}
	for _, lines := range []int{0, 100} {
		cmd := exec.CommandContext(t.Context(), "sh", "-s")
		cmd.Stdin = strings.NewReader(q.script(lines))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		r := parseReport(string(out))
		if !r.complete || secondsOf(r.facts["now"]).IsZero() || r.facts["memtotal"] == "" || r.facts["pidmax"] == "" || r.facts["threads"] == "" {
			t.Errorf("the report is %s", out)
		}
		if got := r.lines["keys"]; len(got) != 1 || got[0] != "missing  /no/such.key" {
			t.Errorf("the keys are %q", got)
		}
		var h Host
		if r.into(&h, q); len(h.Disks) == 0 || h.Disks[0].Size == 0 {
			t.Errorf("the disks are %+v", h.Disks)
		}
		if _, has := r.texts["mounts"]; has != (lines > 0) {
			t.Errorf("with %d lines there are texts: %v", lines, has)
		}
	}
}

// TestQuery speaks with a DNS server over TCP.
func TestQuery(t *testing.T) {
	here, there := net.Pipe()
	defer func() { _ = here.Close() }()
	go func() {
		defer func() { _ = there.Close() }()
		question := make([]byte, 512)
		n, err := there.Read(question)
		if err != nil {
			return
		}
		answer := append([]byte{}, question[2:n]...)
		answer[2], answer[3] = 0x80, 0x03 // a response, NXDOMAIN
		_, _ = there.Write(append([]byte{0, byte(len(answer))}, answer...))
	}()
	code, err := query(here, "kubernetes.default.svc.cluster.local.")
	if err != nil || code.String() != "RCodeNameError" {
		t.Errorf("got %v, %v", code, err)
	}
}

// dialer answers for some addresses.
type dialer map[string]error

func (d dialer) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	if err, ok := d[address]; ok && err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	_ = there.Close()
	return here, nil
}

type reachable struct {
	*hosttest.Memory
	dialer
}

func TestPaths(t *testing.T) {
	s, _ := source(t, "")
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	g := gathering{Source: s, Gathered: Gathered{Evidence: *well()}}
	for i, m := range s.Input.Machines {
		g.Evidence.Hosts[i].Name = m.Name
		g.Hosts[m.Name] = reachable{hosttest.NewMemory(m.Name), dialer{"10.89.0.11:10250": errors.New("no answer"), "10.89.0.12:10250": refused}}
	}
	// One node has a pod, one has an address, and one lets only some connections in.
	g.Evidence.API.Targets = map[string]netip.AddrPort{"demo-cp-1": netip.MustParseAddrPort("10.244.0.7:8080")}
	for i := 1; i < 4; i++ {
		g.Evidence.Hosts[i].Networks = map[string]netip.Prefix{"flannel.1": netip.MustParsePrefix("10.244.1.0/32")}
	}
	g.Evidence.Hosts[3].Drops = []string{"-P INPUT DROP"}
	cut, got := map[string]bool{}, map[PathKind]int{}
	for _, p := range g.paths(t.Context()) {
		got[p.Kind]++
		if p.Kind == PodNetwork && p.Address != map[string]string{"demo-cp-1": "10.244.0.7:8080"}[p.To] && p.Address != "10.244.1.0:10250" {
			t.Errorf("the pods of %s are tried at %s", p.To, p.Address)
		}
		if p.cut() {
			cut[p.To] = true
		}
	}
	if got[NodeNetwork] != 9 || got[PodNetwork] != 9 || got[ToAPI] != 12 || got[ToEtcd] != 6 {
		t.Errorf("tried %v", got)
	}
	if len(cut) != 1 || !cut["demo-cp-1"] {
		t.Errorf("cut are %v: a connection that is refused has arrived", cut)
	}
	if n := len(partners(0, 1000)); n != nextNodes {
		t.Errorf("of 1000 nodes each tries %d", n)
	}
}

func TestUnitsAreAllExpected(t *testing.T) {
	var known []string
	for _, row := range unitTable {
		known = append(known, row.unit)
	}
	for _, u := range stack.Units() {
		if !strings.Contains(strings.Join(known, " "), u.Name) {
			t.Errorf("there is no rule for %s", u.Name)
		}
	}
}
