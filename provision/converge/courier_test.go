package converge

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/delivery"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

const asSlipway = "SLIPWAY_TEST_AS_SLIPWAY"

// TestMain lets this test binary be slipway on hosts.
func TestMain(m *testing.M) {
	if os.Getenv(asSlipway) == "" {
		os.Exit(m.Run())
	}
	args, err := os.Args[1:], error(nil)
	switch args[1] {
	case "serve":
		err = delivery.Serve(context.Background(), ".", os.Stdin, os.Stdout)
	case "fetch":
		var size int64
		if size, err = strconv.ParseInt(args[3], 10, 64); err == nil {
			err = delivery.Fetch(context.Background(), args[5], size, nil, os.Stdout)
		}
	default:
		err = delivery.Unpack(context.Background(), args[5], args[6], 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const slipwayPath = stack.ProgramDir + "slipway/v1/bin/slipway"

// fleet are hosts that get slipway and two programs from a run, as a test wants it.
type fleet struct {
	*Runner
	hosts map[string]*rooted
	names []string
	files map[string]stack.File

	mu   sync.Mutex
	told []string
}

func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("OpenSSH's client is missing (install openssh-client): %v", err)
		}
		t.Skipf("OpenSSH's client is missing: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{hosts: map[string]*rooted{}, files: map[string]stack.File{
		slipwayPath:  artifact(t, fmt.Sprintf("#!/bin/sh\n%s=yes exec %s \"$@\"\n", asSlipway, self), 0o755),
		someProgram:  artifact(t, noise(2<<20), 0o755),
		otherProgram: artifact(t, noise(3<<20), 0o755),
	}}
	var hosts []host.Host
	var machines []spec.Machine
	for i := range n {
		name := fmt.Sprintf("host-%d", i+1)
		f.names = append(f.names, name)
		f.hosts[name] = newRooted(t, name)
		hosts = append(hosts, f.hosts[name])
		machines = append(machines, spec.Machine{Name: name, Role: spec.ControlPlane, Address: netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)})})
	}
	f.Runner = bringing(t, f.files, hosts...)
	f.Input.Machines = machines
	f.Note = func(text string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, text)
	}
	return f
}

// deliver delivers to all hosts at once, and looks that all have all, and that nothing is left of
// how they got it.
func (f *fleet) deliver(t *testing.T) {
	t.Helper()
	if err := f.run(t); err != nil {
		t.Fatal(err)
	}
	for name, h := range f.hosts {
		for p, want := range f.files {
			if stack.Digest(h.read(t, arriving(p))) != want.Digest {
				t.Errorf("%s has another %s", name, p)
			}
		}
		if left, _ := filepath.Glob(h.root + "/keys.*"); len(left) > 0 {
			t.Errorf("keys are left: %q", left)
		}
	}
	for name, p := range f.courier.peers {
		if conn, err := net.DialTimeout("tcp", net.JoinHostPort(p.address, p.port), time.Second); err == nil {
			_ = conn.Close()
			t.Errorf("%s serves still", name)
		}
	}
}

func (f *fleet) run(t *testing.T) error {
	t.Helper()
	var steps []plan.Step
	for _, name := range f.names {
		steps = append(steps, plan.Step{Name: name, Host: name, Verb: plan.Deliver})
	}
	defer f.End()
	return dag.Run(t.Context(), f.Bind(steps), len(steps), nil)
}

// received is how often this computer sent a program, to all hosts.
func (f *fleet) received(program string) (n int) {
	for _, h := range f.hosts {
		n += h.times("# receive " + program)
	}
	return n
}

// before has a function called before scripts whose first line begins with words run.
func (f *fleet) before(words string, do func(on *rooted, title string, cmd *host.Cmd)) {
	for _, h := range f.hosts {
		h.change = func(title string, cmd *host.Cmd) {
			if strings.HasPrefix(title, words) {
				do(h, title, cmd)
			}
		}
	}
}

// TestDeliveryFromHostToHost: this computer sends each program once, and no key is part of a script.
func TestDeliveryFromHostToHost(t *testing.T) {
	f := newFleet(t, 5)
	f.before("# fetch", func(_ *rooted, _ string, cmd *host.Cmd) {
		if strings.Contains(cmd.Script, "PRIVATE") || strings.Contains(cmd.Script, string(f.courier.client.Private.Reveal())) {
			t.Error("a key is in a script, which everybody on the host can read")
		}
	})
	f.deliver(t)
	for _, program := range []string{"slipway", "one", "two"} {
		if n := f.received(program); n != 1 {
			t.Errorf("this computer sent %s %d times", program, n)
		}
	}
	if len(f.told) > 0 {
		t.Errorf("it told %q", f.told)
	}
}

// spoil waits until a host has unpacked a program, and changes what it serves of it: in place, since
// the file is open.
func (r *rooted) spoil(t *testing.T, program stack.File) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(r.below(arriving(otherProgram))); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Error("it was never unpacked")
			return
		}
	}
	file, err := os.OpenFile(r.below(partOf(t, r, program)), os.O_RDWR, 0)
	if err == nil {
		_, err = file.WriteAt([]byte("spoilt"), 10)
		_ = file.Close()
	}
	if err != nil {
		t.Error(err)
	}
}

// TestPeerThatLies is named and not asked again, and the others get what they should.
func TestPeerThatLies(t *testing.T) {
	f := newFleet(t, 4)
	var liar string
	asked := 0
	var mu sync.Mutex
	f.before("# fetch two", func(_ *rooted, title string, _ *host.Cmd) {
		from := title[strings.LastIndex(title, " ")+1:]
		mu.Lock()
		defer mu.Unlock()
		if liar == "" {
			liar = from
			f.hosts[from].spoil(t, f.files[otherProgram])
		}
		if from == liar {
			asked++
		}
	})
	f.deliver(t)
	if !slices.ContainsFunc(f.told, func(s string) bool {
		return strings.HasPrefix(s, liar+" gave ") && strings.Contains(s, "with another content than it should have")
	}) {
		t.Errorf("%s lied, and it told %q", liar, f.told)
	}
	if asked > 2 { // two may ask at the same time
		t.Errorf("the liar was asked %d times", asked)
	}
}

// TestHostThatReachesNoPeer gets all from this computer, and that is told once; the others still
// help each other.
func TestHostThatReachesNoPeer(t *testing.T) {
	f := newFleet(t, 4)
	walled := f.hosts["host-2"]
	f.before("# fetch", func(on *rooted, _ string, cmd *host.Cmd) {
		if on == walled {
			cmd.Script = strings.Replace(cmd.Script, "ssh -F none", "ssh -F none -o HostName=127.0.2.1", 1)
		}
	})
	f.deliver(t)
	if fetched := f.hosts["host-1"].sent; len(fetched) == 3 && len(f.hosts["host-3"].sent) == 3 {
		t.Errorf("nobody helped: %v", fetched)
	}
	if len(f.told) > 1 || len(f.told) == 1 && !strings.HasPrefix(f.told[0], "host-2 does not reach the other machines") {
		t.Errorf("it told %q", f.told)
	}
	if len(walled.sent) != 3 {
		t.Errorf("it got only %v", walled.sent)
	}
}

// TestHostWithoutSSH gets all from this computer, and gives to others.
func TestHostWithoutSSH(t *testing.T) {
	f := newFleet(t, 2)
	f.before("# look what", func(on *rooted, _ string, cmd *host.Cmd) {
		if on == f.hosts["host-1"] {
			cmd.Script = strings.Replace(cmd.Script, "command -v ssh", "false", 1)
		}
	})
	f.deliver(t)
	if got := slices.Sorted(maps.Keys(f.hosts["host-1"].sent)); !slices.Equal(got, []string{"one", "slipway", "two"}) {
		t.Errorf("this computer sent it %q", got)
	}
}

// TestHostThatFailsHoldsNoOther: the others get what was on its way to it.
func TestHostThatFailsHoldsNoOther(t *testing.T) {
	f := newFleet(t, 3)
	sick := f.hosts["host-1"]
	f.before("# ", func(on *rooted, title string, cmd *host.Cmd) {
		if on == sick && (strings.HasPrefix(title, "# receive") || strings.HasPrefix(title, "# fetch")) {
			cmd.Script = "echo No space left on device >&2; exit 1"
		}
	})
	err := f.run(t)
	if err == nil || !strings.Contains(err.Error(), "host-1") || strings.Contains(err.Error(), "host-2") || strings.Contains(err.Error(), "host-3") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"host-2", "host-3"} {
		for p, want := range f.files {
			if stack.Digest(f.hosts[name].read(t, arriving(p))) != want.Digest {
				t.Errorf("%s has another %s", name, p)
			}
		}
	}
}

// losing is a host whose connection is lost the first time that something arrives, and then made again.
type losing struct {
	*rooted
	once sync.Once
}

func (h *losing) Connect(context.Context) error { return nil }

func (h *losing) Run(ctx context.Context, cmd host.Cmd) (r host.Result, err error) {
	if strings.HasPrefix(cmd.Script, "# receive") || strings.HasPrefix(cmd.Script, "# fetch") {
		h.once.Do(func() { err = &host.LostError{Host: h.Name(), Err: io.EOF} })
	}
	if err != nil {
		return r, err
	}
	return h.rooted.Run(ctx, cmd)
}

// TestDeliveryThatIsRepeatedEndsNoOther: who comes last gets all from the others, which serve until then.
func TestDeliveryThatIsRepeatedEndsNoOther(t *testing.T) {
	f := newFleet(t, 3)
	f.Hosts["host-1"] = &losing{rooted: f.hosts["host-1"]}
	var done sync.WaitGroup
	done.Add(2)
	f.before("# look what was", func(on *rooted, _ string, _ *host.Cmd) {
		if on == f.hosts["host-3"] {
			done.Wait()
		}
	})
	var steps []plan.Step
	for _, name := range f.names {
		steps = append(steps, plan.Step{Name: name, Host: name, Verb: plan.Deliver})
	}
	defer f.End()
	err := dag.Run(t.Context(), f.Bind(steps), len(steps), func(e dag.Event) {
		if e.Type != dag.Started && e.Step.Host != "host-3" {
			done.Done()
		}
	})
	if n := f.hosts["host-3"].total(); err != nil || n != 0 {
		t.Errorf("this computer sent %d bytes to the last: %v", n, err)
	}
}

// TestNextRunGoesOn: what a run has left on hosts, compressed, they give to others in the next.
func TestNextRunGoesOn(t *testing.T) {
	f := newFleet(t, 1)
	f.deliver(t)
	g := newFleet(t, 3)
	g.hosts["host-1"] = f.hosts["host-1"]
	g.Runner = bringing(t, f.files, f.hosts["host-1"], g.hosts["host-2"], g.hosts["host-3"])
	g.Input.Machines = []spec.Machine{
		{Name: "host-1", Role: spec.ControlPlane, Address: netip.MustParseAddr("127.0.1.1")},
		{Name: "host-2", Role: spec.ControlPlane, Address: netip.MustParseAddr("127.0.1.2")},
		{Name: "host-3", Role: spec.ControlPlane, Address: netip.MustParseAddr("127.0.1.3")},
	}
	g.files = f.files
	// The first is on the board before others ask.
	g.before("# look what was", func(on *rooted, _ string, _ *host.Cmd) {
		for deadline := time.Now().Add(time.Minute); on != f.hosts["host-1"] && f.hosts["host-1"].times("# serve programs to other hosts") == 0; {
			if time.Now().After(deadline) {
				t.Error("the first never served")
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	g.deliver(t)
	if n := g.hosts["host-2"].total() + g.hosts["host-3"].total(); n != 0 {
		t.Errorf("this computer sent %d bytes to those that the first could help", n)
	}
}

func TestTextOfProgress(t *testing.T) {
	const mb = 1 << 20
	p := newProgress(nil)
	began := time.Now()
	if got := p.text(began); got != "" {
		t.Errorf("nothing to copy: %q", got)
	}
	p.expect("a", 100*mb)
	p.expect("b", 52*mb)
	stop := p.from("demo-cp-1")
	p.at("a", 8*mb)
	if got := p.text(began); got != "copying programs: 8 of 152 MB from demo-cp-1" {
		t.Errorf("got %q", got)
	}
	p.at("a", 38*mb)
	stopToo := p.from(delivery.Operator)
	if got := p.text(began.Add(3 * time.Second)); got != "copying programs: 38 of 152 MB from demo-cp-1 and this computer, 10 MB/s, 11s left" {
		t.Errorf("got %q", got)
	}
	stop()
	stopToo()
	stop = p.unpacking()
	if got := p.text(began.Add(4 * time.Second)); got != "copying programs: 38 of 152 MB, unpacks" {
		t.Errorf("got %q", got)
	}
	stop()
	p.at("b", 60*mb) // more than expected
	if got := p.text(began.Add(4 * time.Second)); got != "copying programs: 90 of 152 MB, waits until another machine has the next" {
		t.Errorf("got %q", got)
	}
}
