package converge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/hosttest"
)

// TestDelivery: what a host lacks is copied, nothing is put in place before it is to be, and then
// all of it is, with what leads to it; what was copied leaves nothing behind.
func TestDelivery(t *testing.T) {
	h := newRooted(t, "cp-1")
	r := bringing(t, artifacts(t), h)
	if err := r.deliverTo(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p, got := range h.tree(t, stack.ProgramDir) {
		if !strings.HasPrefix(p, deliveryDir+"/") {
			t.Errorf("%s is there (%.20s)", p, got)
		}
	}

	want := r.Desired.Hosts["cp-1"]
	changes := plan.Diff(r.Desired, r.Observed)
	if err := converge(t.Context(), h, want, stack.HostState{}, changes, true); err != nil {
		t.Fatal(err)
	}
	got := h.tree(t, stack.ProgramDir)
	if len(got) != 4 || got[someProgram] != "-rwxr-xr-x "+strings.Repeat("one", 1<<20) || got[otherProgram] != "-rwxr-xr-x two" ||
		got[someImage] != "-rw-r--r-- tar" || got[stack.ProgramDir+"bin/one"] != "Lrwxrwxrwx "+someProgram {
		t.Errorf("on the host is %.300q", got)
	}
	if _, err := os.Stat(h.below(deliveryDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where programs arrived is still there: %v", err)
	}
	if owned := h.tree(t, "/var/lib/slipway")[stack.OwnedFile]; !strings.HasSuffix(owned, string(want.Files[stack.OwnedFile].Content)) {
		t.Errorf("owned is %q", owned)
	}
	if n := h.sent["one"]; n == 0 || n > 1<<20 || h.times("# receive one") != 1 {
		t.Errorf("sent %v, %d times", h.sent, h.times("# receive one"))
	}
}

// TestOwnershipOfWhatIsPlaced: a run that is killed once programs are in place has not said that
// all else was there too.
func TestOwnershipOfWhatIsPlaced(t *testing.T) {
	h := newRooted(t, "cp-1")
	r := bringing(t, artifacts(t), h)
	if err := r.deliverTo(t.Context()); err != nil {
		t.Fatal(err)
	}
	changes := plan.Diff(r.Desired, r.Observed)
	have := stack.HostState{Owned: map[string]string{"/etc/of-before": "1"}}
	if err := placePrograms(t.Context(), h, r.Desired.Hosts["cp-1"], have, placing(changes, r.Desired.Hosts["cp-1"])); err != nil {
		t.Fatal(err)
	}
	owned := h.tree(t, "/var/lib/slipway")[stack.OwnedFile]
	for p, want := range map[string]bool{someProgram: true, otherProgram: true, "/etc/of-before": true, stack.ProgramDir + "bin/one": false} {
		if strings.Contains(owned, "\t"+p+"\n") != want {
			t.Errorf("%s: owned is %q", p, owned)
		}
	}
}

// TestPlacingTwice: a connection that is lost at the end has the step repeated. What is neither copied
// nor in place is an error.
func TestPlacingTwice(t *testing.T) {
	h := newRooted(t, "cp-1")
	r := bringing(t, artifacts(t), h)
	if err := r.deliverTo(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := r.Desired.Hosts["cp-1"]
	programs := placing(plan.Diff(r.Desired, r.Observed), want)
	for range 2 {
		if err := placePrograms(t.Context(), h, want, stack.HostState{}, programs); err != nil {
			t.Fatal(err)
		}
	}
	h.put(t, someProgram, "another")
	if err := placePrograms(t.Context(), h, want, stack.HostState{}, programs); err == nil {
		t.Error("another program counts as placed")
	}
}

// TestDeliveryThatIsCut continues where it was broken off: no byte is sent twice. What is spoilt is
// sent again, and what nobody wants is removed.
func TestDeliveryThatIsCut(t *testing.T) {
	h := newRooted(t, "cp-1")
	files := artifacts(t)
	files[otherProgram] = artifact(t, noise(4<<20), 0o755)
	r := bringing(t, files, h)
	broken := errors.New("the line is cut")
	h.change = func(title string, cmd *host.Cmd) {
		if title == "# receive two" {
			cmd.Stdin = io.MultiReader(io.LimitReader(cmd.Stdin, 2<<20), iotest.ErrReader(broken))
		}
	}
	if err := r.deliverTo(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	h.change = nil
	before := h.total()
	if n := len(h.read(t, partOf(t, h, files[otherProgram]))); n == 0 || n > 2<<20 {
		t.Errorf("of the one that was cut there are %d bytes", n)
	}
	for name, content := range map[string]string{
		"/of/an/earlier/bundle": "old", "/one/.new-1": "half", "/.parts/of-an-earlier-bundle": "old", "/two/v1/images/two.tar": "spoilt",
	} {
		h.put(t, deliveryDir+name, content)
	}
	if err := r.deliverTo(t.Context()); err != nil {
		t.Fatal(err)
	}
	packed := int64(len(h.read(t, partOf(t, h, files[otherProgram])))) // now whole
	// What the pipe held when it was cut never reached the host.
	if over := h.sent["two"] - packed; over < 0 || over > 256<<10 {
		t.Errorf("of %d bytes, %d were sent in all", packed, h.sent["two"])
	}
	if h.total() == before {
		t.Error("the second run sent nothing")
	}
	before = h.total()
	if err := r.deliverTo(t.Context()); err != nil || h.total() != before { // all is there
		t.Errorf("sent %d more: %v", h.total()-before, err)
	}
	got := maps.Clone(h.tree(t, stack.ProgramDir))
	maps.DeleteFunc(got, func(p, _ string) bool { return strings.HasPrefix(p, partsDir+"/") })
	want := []string{arriving(someProgram), arriving(otherProgram), arriving(someImage)}
	if at := slices.Sorted(maps.Keys(got)); !slices.Equal(at, slices.Sorted(slices.Values(want))) {
		t.Errorf("what an earlier run has left is still there: %q", at)
	}

	spoilt := strings.Repeat("x", int(packed))
	h.put(t, partOf(t, h, files[otherProgram]), spoilt)
	if err := os.Remove(h.below(arriving(otherProgram))); err != nil {
		t.Fatal(err)
	}
	if err := r.deliverTo(t.Context()); err != nil || h.total() != before+packed {
		t.Errorf("of what was spoilt, %d of %d bytes were sent again: %v", h.total()-before, packed, err)
	}
	if string(h.read(t, arriving(otherProgram))) != string(h.read(t, files[otherProgram].Local)) {
		t.Error("what has arrived is something else")
	}
}

// TestWhatIsThereIsNotSent: a program that only lacks its mode gets that, and one that is a link is
// replaced.
func TestWhatIsThereIsNotSent(t *testing.T) {
	h := newRooted(t, "cp-1")
	r := bringing(t, artifacts(t), h)
	want := r.Desired.Hosts["cp-1"]
	have := stack.HostState{Files: maps.Clone(want.Files), Owned: map[string]string{stack.OwnedFile: ""}}
	f := have.Files[someProgram]
	f.Mode = 0o600
	have.Files[someProgram] = f
	have.Files[otherProgram] = stack.File{Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: "/bundles/two"}
	r.Observed.Hosts["cp-1"] = have
	at := h.below(someProgram)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o750), os.WriteFile(at, []byte("one"), 0o600),
		os.MkdirAll(filepath.Dir(h.below(otherProgram)), 0o750), os.Symlink("/bundles/two", h.below(otherProgram))); err != nil {
		t.Fatal(err)
	}
	if err := r.deliverTo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := converge(t.Context(), h, want, have, plan.Diff(r.Desired, r.Observed), false); err != nil {
		t.Fatal(err)
	}
	got := h.tree(t, stack.ProgramDir)
	if got[someProgram] != "-rwxr-xr-x one" || got[otherProgram] != "-rwxr-xr-x two" || h.sent["one"] != 0 || h.sent["two"] == 0 {
		t.Errorf("sent %v, and on the host is %q", h.sent, got)
	}
}

func TestDeliveryToAFullDisk(t *testing.T) {
	h := newRooted(t, "cp-1")
	dir := h.below("/opt/slipway")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs a small disk: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, 0) }()
	r := bringing(t, artifacts(t), h)
	err := r.deliverTo(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cp-1: 0.0 GiB are free") || h.total() != 0 {
		t.Errorf("got %v, sent %v", err, h.sent)
	}
	if left := h.tree(t, stack.ProgramDir); len(left) != 0 {
		t.Errorf("it left %q", left)
	}
}

// TestRoomForADelivery: all hosts are copied to at the same time, so none may be filled, or the
// members of etcd would end together.
func TestRoomForADelivery(t *testing.T) {
	const size = 3<<20 + 3 + 3 + (3<<20)/packedShare + 1 + 1 // of the three artifacts, and compressed
	for free, fits := range map[int64]bool{0: false, size: false, size + room - 1: false, size + room: true} {
		h := newRooted(t, "cp-1")
		h.change = func(title string, cmd *host.Cmd) {
			if title == "# look how much can be copied" {
				cmd.Script = fmt.Sprintf("echo %d", free)
			}
		}
		err := bringing(t, artifacts(t), h).deliverTo(t.Context())
		if (h.total() > 0) != fits || (err == nil) != fits || err != nil && !strings.Contains(err.Error(), "nothing was copied") {
			t.Errorf("%d bytes free: sent %d, %v", free, h.total(), err)
		}
	}
}

// stuck answers nothing.
type stuck struct{ *hosttest.Memory }

func (stuck) Run(ctx context.Context, _ host.Cmd) (host.Result, error) {
	<-ctx.Done()
	return host.Result{}, context.Cause(ctx)
}

func TestDeliveryToAHostThatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := bringing(t, artifacts(t), stuck{hosttest.NewMemory("cp-1")}).deliverTo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "has not answered for 5m") || time.Since(began) != stallTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestBundleThatHasChangedMeanwhile(t *testing.T) {
	h := newRooted(t, "cp-1")
	r := bringing(t, artifacts(t), h)
	local := r.Desired.Hosts["cp-1"].Files[otherProgram].Local
	if err := os.WriteFile(local, []byte("TWO"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{nil, fs.ErrNotExist} {
		err := r.deliverTo(t.Context())
		if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), "the bundle has changed") || !strings.HasPrefix(err.Error(), "cp-1: ") {
			t.Errorf("got %v", err)
		}
		_ = os.Remove(local)
	}
}

// TestWhatArrivesSpoilt is removed and sent once more; then the error says so.
func TestWhatArrivesSpoilt(t *testing.T) {
	h := newRooted(t, "cp-1")
	r := bringing(t, artifacts(t), h)
	h.change = func(title string, cmd *host.Cmd) {
		if title == "# receive one" {
			cmd.Stdin = &spoiling{cmd.Stdin}
		}
	}
	err := r.deliverTo(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "cp-1: ") || !strings.Contains(err.Error(), "it arrived with another content: its SHA-256 is not ") {
		t.Errorf("got %v", err)
	}
	if _, there := h.tree(t, deliveryDir)[arriving(someProgram)]; h.times("# receive one") != 2 || there {
		t.Errorf("received %d times, arrived: %t", h.times("# receive one"), there)
	}
}

// spoiling changes what is read.
type spoiling struct{ io.Reader }

func (s *spoiling) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if n > 0 {
		p[0] ^= 1
	}
	return n, err
}

// deaf takes nothing of what is sent to it.
type deaf struct{ *hosttest.Memory }

func (d deaf) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if !strings.HasPrefix(cmd.Script, "# receive ") {
		return d.Memory.Run(ctx, cmd)
	}
	<-ctx.Done()
	return host.Result{}, context.Cause(ctx)
}

func TestDeliveryToAHostThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := bringing(t, artifacts(t), deaf{hosttest.NewMemory("cp-1")}).deliverTo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "taken nothing for 5m") {
			t.Errorf("got %v", err)
		}
	})
}
