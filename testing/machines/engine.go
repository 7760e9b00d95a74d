package machines

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// label is on everything in the engine that a fleet is made of; its value is the fleet's name.
const label = "dev.slipway.test.machines"

// docker runs the Docker client and returns what it printed, without the last newline.
func docker(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w: %s%s", args[0], err, stdout.String(), stderr.String())
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// must is docker for what must succeed, even where the test is being cancelled.
func must(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	out, err := docker(ctx, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sysResource is CAP_SYS_RESOURCE: include/uapi/linux/capability.h.
const sysResource = 24

// privileges make of a container a computer. --privileged is refused where the engine itself lacks
// CAP_SYS_RESOURCE, as in some virtual machines; then this is everything else that it includes. The
// engine is taken to have the capabilities that this process could have.
func privileges() []string {
	status, _ := os.ReadFile("/proc/self/status")
	m := regexp.MustCompile(`(?m)^CapBnd:\s+([0-9a-f]+)$`).FindSubmatch(status)
	if m == nil {
		return []string{"--privileged"} // no Linux: the engine is in a virtual machine of its own
	}
	bounding, err := strconv.ParseUint(string(m[1]), 16, 64)
	if err != nil || bounding&(1<<sysResource) != 0 {
		return []string{"--privileged"}
	}
	return []string{
		"--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
		"--security-opt=systempaths=unconfined", "--device-cgroup-rule=a *:* rwm",
	}
}

// removeAll removes the containers, with their disks, and the networks of one fleet, and nothing
// else.
func removeAll(t testing.TB, fleet string) {
	t.Helper()
	filter := "label=" + label + "=" + fleet
	if ids := strings.Fields(must(t, nil, "ps", "-aq", "--filter", filter)); len(ids) > 0 {
		must(t, nil, append([]string{"rm", "-fv"}, ids...)...)
	}
	if ids := strings.Fields(must(t, nil, "network", "ls", "-q", "--filter", filter)); len(ids) > 0 {
		must(t, nil, append([]string{"network", "rm"}, ids...)...)
	}
}

// eventually calls check until it returns nil, and fails the test with its last error when limit has
// passed.
func eventually(t testing.TB, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not so after %v; last seen: %v", what, limit, err)
		case <-tick.C:
		}
	}
}
