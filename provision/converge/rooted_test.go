package converge

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// rooted is this machine, with slipway's directories below another root. It counts the bytes that
// this computer sends, by what the script says that it receives.
type rooted struct {
	host.Host
	root string

	mu   sync.Mutex
	sent map[string]int64
	ran  []string // first lines of scripts
	// change, if set, may change a command before it runs.
	change func(title string, cmd *host.Cmd)
}

func newRooted(t *testing.T, name string) *rooted {
	return &rooted{Host: host.Local(name), root: t.TempDir(), sent: map[string]int64{}}
}

func (r *rooted) below(text string) string {
	return strings.NewReplacer("/opt/slipway", r.root+"/opt/slipway", "/var/lib/slipway", r.root+"/var/lib/slipway",
		keysDir, r.root+"/keys.").Replace(text)
}

func (r *rooted) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	title, _, _ := strings.Cut(cmd.Script, "\n")
	cmd.Script = r.below(cmd.Script)
	if os.Getuid() != 0 {
		cmd.Script = strings.ReplaceAll(cmd.Script, "chown root:root --", "true")
	}
	what, receives := strings.CutPrefix(title, "# receive ")
	switch {
	case receives:
		cmd.Stdin = &counted{cmd.Stdin, func(n int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent[what] += int64(n)
		}}
	case cmd.Stdin != nil && strings.HasPrefix(title, "# look"):
		text, err := io.ReadAll(cmd.Stdin)
		if err != nil {
			return host.Result{}, err
		}
		cmd.Stdin = strings.NewReader(r.below(string(text)))
	}
	r.mu.Lock()
	r.ran = append(r.ran, title)
	change := r.change
	r.mu.Unlock()
	if change != nil {
		change(title, &cmd)
	}
	result, err := r.Host.Run(ctx, cmd)
	result.Stdout = bytes.ReplaceAll(result.Stdout, []byte(r.root), nil)
	return result, err
}

type counted struct {
	io.Reader
	count func(n int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.count(n)
	return n, err
}

func (r *rooted) Write(ctx context.Context, files []host.File) error {
	var below []host.File
	for _, f := range files {
		f.Path = r.below(f.Path)
		below = append(below, f)
	}
	return r.Host.Write(ctx, below)
}

// total is how many bytes this computer has sent to the host.
func (r *rooted) total() (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sent := range r.sent {
		n += sent
	}
	return n
}

// times is how often a script with this first line has run.
func (r *rooted) times(title string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.ran {
		if t == title {
			n++
		}
	}
	return n
}

func (r *rooted) read(t *testing.T, p string) []byte {
	t.Helper()
	content, err := os.ReadFile(r.below(p))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func (r *rooted) put(t *testing.T, p, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(r.below(p)), 0o750), os.WriteFile(r.below(p), []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// partOf is the path of what has arrived of a program, compressed.
func partOf(t *testing.T, h *rooted, f stack.File) string {
	t.Helper()
	for p := range h.tree(t, partsDir) {
		if strings.HasPrefix(p, partsDir+"/"+f.Digest+".") {
			return p
		}
	}
	t.Fatalf("nothing has arrived of %s", f.Local)
	return ""
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

// noise is content that does not compress.
func noise(size int) string {
	data := make([]byte, size)
	_, _ = rand.Read(data)
	return string(data)
}

// artifact is a program with content, on this computer.
func artifact(t *testing.T, content string, mode fs.FileMode) stack.File {
	t.Helper()
	local := filepath.Join(t.TempDir(), "artifact")
	if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := stack.Digest([]byte(content))
	return stack.File{Mode: mode, Owner: "root:root", Program: true, Digest: sum, Sum: sum, Local: local, Size: int64(len(content))}
}

// artifacts are a program of three megabytes that compress well, and small ones.
func artifacts(t *testing.T) map[string]stack.File {
	t.Helper()
	link := stack.File{Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: someProgram, Content: []byte(someProgram)}
	files := map[string]stack.File{
		someProgram: artifact(t, strings.Repeat("one", 1<<20), 0o755), otherProgram: artifact(t, "two", 0o755), someImage: artifact(t, "tar", 0o644),
		stack.ProgramDir + "bin/one": link,
	}
	files[stack.OwnedFile] = stack.Regular(stack.Ownership(files), false, "")
	return files
}

// bringing is a runner of hosts that do not see the bundle and lack files.
func bringing(t *testing.T, files map[string]stack.File, hosts ...host.Host) *Runner {
	t.Helper()
	r := &Runner{Packed: t.TempDir(), View: View{
		Hosts: map[string]host.Host{}, Desired: stack.State{Hosts: map[string]stack.HostState{}},
		Observed: stack.State{Hosts: map[string]stack.HostState{}},
	}}
	for _, h := range hosts {
		r.Hosts[h.Name()], r.Desired.Hosts[h.Name()], r.Observed.Hosts[h.Name()] = h, stack.HostState{Files: files}, stack.HostState{}
	}
	return r
}

// deliverTo is a run of its own that delivers to cp-1.
func (r *Runner) deliverTo(ctx context.Context) error {
	r.courier = nil
	defer r.End()
	return r.deliver(ctx, plan.Step{Host: "cp-1", Verb: plan.Deliver})
}
