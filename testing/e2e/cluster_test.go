package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const kubernetesVersion = "v1.36.3"

// cluster is a spec, the binary that makes it real, and what to expect of it.
type cluster struct {
	*tool
	name string
	file string // the spec
	spec clusterSpec
}

// clusterSpec is what the tests vary.
type clusterSpec struct {
	subnet                 string // of the machines; no two clusters may share one
	controlPlanes, workers int
	own                    int    // workers with a kernel of their own, only of a hostsCluster
	kubernetes             string // YAML under spec.kubernetes
	local                  string // YAML under spec.provider.local
	workerLabels           string // "key: value"
	extra                  string // YAML under spec
}

// port is that of the API: clusters that are made at the same time could choose the same one. Slipway chooses for the first.
func (s clusterSpec) port() string {
	address := netip.MustParsePrefix(s.subnet).Addr().As4()
	if address[2] == 1 {
		return ""
	}
	return fmt.Sprintf("      apiPort: %d\n", 16500+int(address[2]))
}

// newCluster writes a spec, and removes what became of it when the test ends.
func newCluster(t *testing.T, name string, spec clusterSpec) *cluster {
	t.Helper()
	dir := t.TempDir()
	if keep() {
		dir = filepath.Join(os.TempDir(), "slipway-e2e-kept", name)
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{tool: &tool{state: filepath.Join(dir, "state")}, name: name, file: filepath.Join(dir, name+".yaml")}
	c.write(t, spec)
	c.mustBeAbsent(t)
	t.Cleanup(func() { c.destroy(t) })
	return c
}

// keep says that a cluster whose test failed is to be left for looking at.
func keep() bool { return os.Getenv("SLIPWAY_E2E_KEEP") != "" }

func (c *cluster) write(t *testing.T, spec clusterSpec) {
	t.Helper()
	c.spec = spec
	text := fmt.Sprintf(`apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata:
  name: %s
spec:
  kubernetes:
    version: %s
%s  provider:
    local:
      subnet: %s
%s%s  nodePools:
  - name: cp
    role: control-plane
    replicas: %d
`, c.name, kubernetesVersion, spec.kubernetes, spec.subnet, spec.port(), spec.local, spec.controlPlanes)
	if spec.workers > 0 {
		text += fmt.Sprintf("  - name: worker\n    role: worker\n    replicas: %d\n    labels: {%s}\n", spec.workers, spec.workerLabels)
	}
	if err := os.WriteFile(c.file, []byte(text+spec.extra), 0o600); err != nil {
		t.Fatal(err)
	}
}

// nodes are the names of all nodes, control planes first.
func (c *cluster) nodes() []string {
	names := c.controlPlanes()
	for i := range c.spec.workers {
		names = append(names, fmt.Sprintf("%s-worker-%d", c.name, i+1))
	}
	for i := range c.spec.own {
		names = append(names, fmt.Sprintf("%s-own-%d", c.name, i+1))
	}
	return names
}

func (c *cluster) controlPlanes() []string {
	var names []string
	for i := range c.spec.controlPlanes {
		names = append(names, fmt.Sprintf("%s-cp-%d", c.name, i+1))
	}
	return names
}

// apply must succeed.
func (c *cluster) apply(t *testing.T) result {
	t.Helper()
	r := c.ok(t, "apply", "-f", c.file, "--yes")
	t.Logf("apply took %.1fs, slipway's peak memory was %d MB", r.elapsed.Seconds(), r.maxRSS>>20)
	return r
}

// applyFails wants a clear error: exit code 1, and each of words in what was printed.
func (c *cluster) applyFails(t *testing.T, words ...string) result {
	t.Helper()
	r := c.run(t, nil, "apply", "-f", c.file, "--yes")
	if r.code != 1 {
		t.Fatalf("want exit code 1: %v", r)
	}
	wantError(t, r, words...)
	return r
}

// wantError checks that the error, and not the whole log before it, has every word.
func wantError(t *testing.T, r result, words ...string) {
	t.Helper()
	_, message, found := strings.Cut("\n"+r.stderr, "\nError: ")
	if !found {
		t.Errorf("no line of stderr begins with %q: %v", "Error: ", r)
	}
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("the error does not say %q: %v", w, r)
		}
	}
}

// applyStoppedWhen starts apply, sends it a signal as soon as reached says so, and waits for its end.
func (c *cluster) applyStoppedWhen(t *testing.T, signal os.Signal, what string, reached func(ctx context.Context) error, more ...string) result {
	t.Helper()
	args := append([]string{"apply", "-f", c.file, "--yes"}, more...)
	cmd := c.command(t.Context(), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // stopped, or too early: told below
		close(ended)
	}()
	defer func() {
		_ = cmd.Process.Kill() // where the test has failed on the way
		<-ended
		if t.Failed() {
			t.Logf("the stopped apply printed:\n%s%s", &stdout, &stderr)
		}
	}()
	eventually(t, 5*time.Minute, what, func(ctx context.Context) error {
		select {
		case <-ended:
			t.Fatalf("apply ended (%v) before it could be stopped", cmd.ProcessState)
		default:
		}
		return reached(ctx)
	})
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatalf("send %v: %v", signal, err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("apply still runs 30 s after the signal %v", signal)
	}
	return result{args: args, stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// untilEnd kills a command as soon as what it prints on stderr has a line with all of words after the one with begin, or
// lets it come to its end where begin is empty.
func (c *cluster) untilEnd(t *testing.T, begin, word string, args ...string) result {
	t.Helper()
	cmd := c.command(t.Context(), args...)
	said := &watched{seen: make(chan struct{}), begin: begin, word: word}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the exit code is looked at
		close(ended)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	select {
	case <-said.seen:
		_ = cmd.Process.Kill()
		<-ended
	case <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		t.Fatalf("slipway %v did not end:\n%s", args, said.text.String())
	}
	r := result{args: args, stderr: said.text.String(), code: cmd.ProcessState.ExitCode()}
	c.checkNoSecrets(t, r)
	return r
}

// watched is output that is looked at while it comes.
type watched struct {
	text        bytes.Buffer
	begin, word string
	seen        chan struct{}
	done        bool
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if _, after, ok := strings.Cut(w.text.String(), w.begin); ok && w.begin != "" && !w.done && strings.Contains(after, w.word) {
		w.done = true
		close(w.seen)
	}
	return n, err
}

// ssh runs a script on a node through `slipway ssh`, fed on stdin.
func (c *cluster) ssh(t *testing.T, node, script string) result {
	t.Helper()
	return c.sshWith(t, []byte(script), node, "sh", "-s")
}

// sshWith runs a command on a node through `slipway ssh`. Machines with an emulated kernel answer slowly.
func (c *cluster) sshWith(t *testing.T, stdin []byte, node string, command ...string) result {
	t.Helper()
	return c.run(t, stdin, append([]string{"ssh", "-f", c.file, "--connect-timeout", "1m", node, "--"}, command...)...)
}

// sshOK is ssh for what must succeed; it returns what the script printed.
func (c *cluster) sshOK(t *testing.T, node, script string) string {
	t.Helper()
	r := c.ssh(t, node, script)
	if r.code != 0 {
		t.Fatalf("%s: %s\n%v", node, script, r)
	}
	return r.stdout
}

// docker runs the Docker client; it must succeed.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := dockerContext(context.WithoutCancel(t.Context()), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func dockerContext(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// leftovers lists every Docker object and process that carries the cluster's name.
func (c *cluster) leftovers(t *testing.T) []string {
	t.Helper()
	var found []string
	for kind, args := range map[string][]string{
		"container": {"ps", "-a", "--format", "{{.Names}}"},
		"network":   {"network", "ls", "--format", "{{.Name}}"},
		"volume":    {"volume", "ls", "--format", "{{.Name}}"},
	} {
		for name := range strings.FieldsSeq(docker(t, args...)) {
			if strings.Contains(name, c.name) {
				found = append(found, kind+" "+name)
			}
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprintf("/proc/%d/cmdline", os.Getpid())
	for _, p := range processes {
		line, err := os.ReadFile(p)
		if err == nil && p != self && strings.Contains(string(line), c.name) {
			found = append(found, "process "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	slices.Sort(found)
	return found
}

func (c *cluster) mustBeAbsent(t *testing.T) {
	t.Helper()
	if left := c.leftovers(t); len(left) > 0 {
		t.Fatalf("cluster %s exists already, perhaps from a run that was killed: %v; remove it first", c.name, left)
	}
}

// volumes are the ones that the cluster's containers use; most have no name of their own.
func (c *cluster) volumes(t *testing.T) []string {
	t.Helper()
	containers := strings.Fields(docker(t, "ps", "-aq", "--filter", "name="+c.name))
	if len(containers) == 0 {
		return nil
	}
	format := `{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}`
	return strings.Fields(docker(t, append([]string{"inspect", "--format", format}, containers...)...))
}

// destroy removes the cluster and checks that nothing of it is left.
func (c *cluster) destroy(t *testing.T) {
	t.Helper()
	if t.Failed() && keep() {
		t.Logf("kept; remove it with: SLIPWAY_STATE_DIR=%s %s destroy --yes -f %s", c.state, binary, c.file)
		return
	}
	volumes := c.volumes(t)
	cmd := c.command(context.WithoutCancel(t.Context()), "destroy", "-f", c.file, "--yes")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("slipway destroy: %v\n%s", err, out)
		c.removeByForce(t)
		return
	}
	if left := c.leftovers(t); len(left) > 0 {
		t.Errorf("destroy left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(c.state, c.name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("destroy left the state directory with its keys: %v", err)
	}
	now := strings.Fields(docker(t, "volume", "ls", "-q"))
	for _, v := range volumes {
		if slices.Contains(now, v) {
			t.Errorf("destroy left the volume %s", v)
		}
	}
}

// removeByForce spares the next run the leftovers of a destroy that failed.
func (c *cluster) removeByForce(t *testing.T) {
	t.Helper()
	for id := range strings.FieldsSeq(docker(t, "ps", "-aq", "--filter", "name="+c.name)) {
		docker(t, "rm", "-fv", id)
	}
	for id := range strings.FieldsSeq(docker(t, "network", "ls", "-q", "--filter", "name="+c.name)) {
		docker(t, "network", "rm", id)
	}
}
