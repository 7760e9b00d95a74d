package converge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/hosttest"
)

// rooted is this machine, with slipway's directories below another root. It counts what is sent, by
// path.
type rooted struct {
	host.Host
	root string
	sent map[string]int
	// cut, if set, is asked before a file is sent; it may break the content off.
	cut func(f *host.File)
}

func newRooted(t *testing.T) *rooted {
	return &rooted{Host: host.Local("cp-1"), root: t.TempDir(), sent: map[string]int{}}
}

func (r *rooted) below(text string) string {
	return strings.NewReplacer("/opt/slipway", r.root+"/opt/slipway", "/var/lib/slipway", r.root+"/var/lib/slipway").Replace(text)
}

func (r *rooted) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	cmd.Script = r.below(cmd.Script)
	if os.Getuid() != 0 {
		cmd.Script = strings.ReplaceAll(cmd.Script, "chown root:root --", "true")
	}
	if cmd.Stdin != nil {
		text, err := io.ReadAll(cmd.Stdin)
		if err != nil {
			return host.Result{}, err
		}
		cmd.Stdin = strings.NewReader(r.below(string(text)))
	}
	result, err := r.Host.Run(ctx, cmd)
	result.Stdout = bytes.ReplaceAll(result.Stdout, []byte(r.root), nil)
	return result, err
}

func (r *rooted) Write(ctx context.Context, files []host.File) error {
	var below []host.File
	for _, f := range files {
		r.sent[f.Path]++
		f.Path = r.below(f.Path)
		if r.cut != nil {
			r.cut(&f)
		}
		below = append(below, f)
	}
	return r.Host.Write(ctx, below)
}

// tree is what is below the root: mode, path and content, or target of a link.
func (r *rooted) tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(r.below(dir), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(p)
		if target, linkErr := os.Readlink(p); linkErr == nil {
			content, err = []byte(target), nil
		}
		all[strings.TrimPrefix(p, r.root)] = fmt.Sprintf("%v %s", info.Mode(), content)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

const (
	someProgram  = stack.ProgramDir + "one/v1/bin/one"
	otherProgram = stack.ProgramDir + "two/v1/bin/two"
	someImage    = stack.ProgramDir + "two/v1/images/two.tar"
)

// delivery is a runner of one host that does not see the bundle, with three artifacts: of three
// megabytes, and small ones.
func delivery(t *testing.T, h host.Host) *Runner {
	t.Helper()
	dir := t.TempDir()
	artifact := func(name, content string, mode fs.FileMode) stack.File {
		local := filepath.Join(dir, name)
		if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		sum := stack.Digest([]byte(content))
		return stack.File{Mode: mode, Owner: "root:root", Program: true, Digest: sum, Sum: sum, Local: local, Size: int64(len(content))}
	}
	link := stack.File{Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: someProgram, Content: []byte(someProgram)}
	files := map[string]stack.File{
		someProgram: artifact("one", strings.Repeat("one", 1<<20), 0o755), otherProgram: artifact("two", "two", 0o755), someImage: artifact("two.tar", "tar", 0o644),
		stack.ProgramDir + "bin/one": link,
	}
	files[stack.OwnedFile] = stack.Regular(stack.Ownership(files), false, "")
	return &Runner{View: View{
		Hosts:    map[string]host.Host{"cp-1": h},
		Desired:  stack.State{Hosts: map[string]stack.HostState{"cp-1": {Files: files}}},
		Observed: stack.State{Hosts: map[string]stack.HostState{"cp-1": {}}},
	}}
}

func (r *Runner) deliverTo(ctx context.Context) error {
	return r.deliver(ctx, plan.Step{Host: "cp-1", Verb: plan.Deliver})
}

// TestDelivery: what a host lacks is copied, nothing is put in place before it is to be, and then
// all of it is, with what leads to it; what was copied leaves nothing behind.
func TestDelivery(t *testing.T) {
	h := newRooted(t)
	r := delivery(t, h)
	var said []string
	r.Report = func(host, what string) { said = append(said, host+": "+what) }
	if err := r.deliverTo(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p, got := range h.tree(t, stack.ProgramDir) {
		if !strings.HasPrefix(p, deliveryDir+"/") {
			t.Errorf("%s is there (%.20s)", p, got)
		}
	}
	if !slices.ContainsFunc(said, func(s string) bool {
		return strings.HasPrefix(s, "cp-1: copying one, ") && strings.HasSuffix(s, " of 3 MB")
	}) {
		t.Errorf("it said %q", said)
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
	if n := h.sent[arriving(someProgram)]; n != 1 || h.sent[someProgram] != 0 {
		t.Errorf("sent %v", h.sent)
	}
}

// TestOwnershipOfWhatIsPlaced: a run that is killed once programs are in place has not said that
// all else was there too.
func TestOwnershipOfWhatIsPlaced(t *testing.T) {
	h := newRooted(t)
	r := delivery(t, h)
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

// TestDeliveryThatIsCut leaves nothing that is half written, and the next one sends only what has
// not arrived whole.
func TestDeliveryThatIsCut(t *testing.T) {
	h := newRooted(t)
	r := delivery(t, h)
	broken := errors.New("the line is cut")
	h.cut = func(f *host.File) {
		if open := f.Open; strings.HasSuffix(f.Path, "/two/v1/bin/two") {
			f.Open = func() (io.ReadCloser, error) {
				content, err := open()
				return half{content, broken}, err
			}
		}
	}
	if err := r.deliverTo(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	arrived := slices.Collect(maps.Keys(h.tree(t, stack.ProgramDir)))
	if !slices.Equal(arrived, []string{arriving(someProgram)}) {
		t.Errorf("after the cut there is %q", arrived)
	}
	h.cut = nil
	for name, content := range map[string]string{someImage: "spoilt", "/of/an/earlier/bundle": "old", "/one/.slipway-new-X/one": "half"} {
		at := h.below(path.Join(deliveryDir, strings.TrimPrefix(name, stack.ProgramDir)))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o750), os.WriteFile(at, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.deliverTo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.deliverTo(t.Context()); err != nil { // all is there
		t.Fatal(err)
	}
	want := map[string]int{arriving(someProgram): 1, arriving(otherProgram): 2, arriving(someImage): 1}
	if !maps.Equal(h.sent, want) {
		t.Errorf("sent %v, want %v", h.sent, want)
	}
	got := slices.Sorted(maps.Keys(h.tree(t, stack.ProgramDir)))
	if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("what an earlier run has left is still there: %q", got)
	}
}

// half is content that breaks off.
type half struct {
	io.ReadCloser
	err error
}

func (h half) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p[:1])
	if err == nil {
		err = h.err
	}
	return n, err
}

// TestWhatIsThereIsNotSent: a program that only lacks its mode gets that, and one that is a link is
// replaced.
func TestWhatIsThereIsNotSent(t *testing.T) {
	h := newRooted(t)
	r := delivery(t, h)
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
	if got[someProgram] != "-rwxr-xr-x one" || got[otherProgram] != "-rwxr-xr-x two" || h.sent[arriving(someProgram)] != 0 || h.sent[arriving(otherProgram)] != 1 {
		t.Errorf("sent %v, and on the host is %q", h.sent, got)
	}
}

func TestDeliveryToAFullDisk(t *testing.T) {
	h := newRooted(t)
	dir := h.below("/opt/slipway")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs a small disk: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, 0) }()
	r := delivery(t, h)
	err := r.deliverTo(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cp-1: 0.0 GiB are free") || len(h.sent) != 0 {
		t.Errorf("got %v, sent %v", err, h.sent)
	}
	err = r.copyProgram(t.Context(), "cp-1", someProgram, r.Desired.Hosts["cp-1"].Files[someProgram])
	if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "cp-1: ") || strings.Count(err.Error(), "No space left on device") != 1 {
		t.Errorf("got %v", err)
	}
	if left := h.tree(t, stack.ProgramDir); len(left) != 0 {
		t.Errorf("it left %q", left)
	}
}

// measured is a host whose df prints a number; it counts what it is sent.
type measured struct {
	*hosttest.Memory
	free int64
	sent int
}

func (m *measured) Run(context.Context, host.Cmd) (host.Result, error) {
	return host.Result{Stdout: fmt.Appendln(nil, m.free)}, nil
}

func (m *measured) Write(context.Context, []host.File) error {
	m.sent++
	return nil
}

// TestRoomForADelivery: all hosts are copied to at the same time, so none may be filled, or the
// members of etcd would end together.
func TestRoomForADelivery(t *testing.T) {
	const size = 3<<20 + 3 + 3 // of the three artifacts
	for free, sent := range map[int64]int{0: 0, size: 0, size + room - 1: 0, size + room: 3} {
		h := &measured{Memory: hosttest.NewMemory("cp-1"), free: free}
		err := delivery(t, h).deliverTo(t.Context())
		if h.sent != sent || (err == nil) != (sent > 0) || err != nil && !strings.Contains(err.Error(), "nothing was copied") {
			t.Errorf("%d bytes free: sent %d, %v", free, h.sent, err)
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
		err := delivery(t, stuck{hosttest.NewMemory("cp-1")}).deliverTo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "has not answered for 5m") || time.Since(began) != stallTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestBundleThatHasChangedMeanwhile(t *testing.T) {
	h := newRooted(t)
	r := delivery(t, h)
	local := r.Desired.Hosts["cp-1"].Files[otherProgram].Local
	if err := os.WriteFile(local, []byte("TWO"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.deliverTo(t.Context()); err == nil || !strings.Contains(err.Error(), "arrived with another content") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(local); err != nil {
		t.Fatal(err)
	}
	if err := r.deliverTo(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// deaf takes nothing of what is written to it.
type deaf struct{ *hosttest.Memory }

func (deaf) Write(ctx context.Context, _ []host.File) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestDeliveryToAHostThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := delivery(t, deaf{hosttest.NewMemory("cp-1")}).deliverTo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "taken nothing for 5m") {
			t.Errorf("got %v", err)
		}
	})
}
