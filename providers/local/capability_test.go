package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const fullSet = 1<<len(capabilities) - 1

func TestCapAdd(t *testing.T) {
	if got := capAdd(fullSet, known("1.47")); got != nil {
		t.Errorf("with every capability: %v, want --privileged", got)
	}
	// Docker 20.10 cannot name the newest three: having the others is enough.
	if got := capAdd(1<<newNames-1, known("1.41")); got != nil {
		t.Errorf("with all that Docker 20.10 knows: %v, want --privileged", got)
	}
	got := capAdd(fullSet&^(1<<24), known("1.41"))
	if len(got) != newNames-1 || slices.Contains(got, "CAP_SYS_RESOURCE") || slices.Contains(got, "CAP_BPF") ||
		!slices.Contains(got, "CAP_SYS_ADMIN") {
		t.Errorf("without CAP_SYS_RESOURCE: %d, %v", len(got), got)
	}
	if got := capAdd(fullSet&^(1<<24), known("1.42")); !slices.Contains(got, "CAP_BPF") {
		t.Errorf("a newer Docker is not asked for CAP_BPF: %v", got)
	}
}

func TestCapabilityNumbers(t *testing.T) {
	// From include/uapi/linux/capability.h.
	for name, n := range map[string]int{"CHOWN": 0, "NET_ADMIN": 12, "SYS_ADMIN": 21, "SYS_RESOURCE": 24, "AUDIT_READ": 37, "CHECKPOINT_RESTORE": 40} {
		if capabilities[n] != name {
			t.Errorf("number %d is %s, want %s", n, capabilities[n], name)
		}
	}
}

func TestBoundingSet(t *testing.T) {
	got, err := boundingSet([]byte("Name:\tdockerd\nCapEff:\t0000000000000000\nCapBnd:\t000001fffeffffff\nCapAmb:\t0\n"))
	if err != nil || got != fullSet&^(1<<24) {
		t.Errorf("%x, %v", got, err)
	}
	for _, bad := range []string{"", "CapBnd:\tnonsense\n"} {
		if _, err := boundingSet([]byte(bad)); err == nil {
			t.Errorf("%q has a bounding set", bad)
		}
	}
}

func TestDaemonCaps(t *testing.T) {
	p := &Local{api: "1.47", proc: t.TempDir()}
	process := func(pid, comm, set string) {
		dir := filepath.Join(p.proc, pid)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"comm": comm + "\n", "status": "CapBnd:\t" + set + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	process("1", "systemd", "0000000000000000")
	if got := p.daemonCaps(); got != nil {
		t.Errorf("no dockerd to be seen: %v, want --privileged", got)
	}
	process("77", "dockerd", "000001fffeffffff")
	if got := p.daemonCaps(); len(got) != len(capabilities)-1 || strings.Contains(strings.Join(got, " "), "SYS_RESOURCE") {
		t.Errorf("dockerd without CAP_SYS_RESOURCE: %v", got)
	}
	process("77", "dockerd", "000001ffffffffff")
	if got := p.daemonCaps(); got != nil {
		t.Errorf("dockerd with everything: %v, want --privileged", got)
	}
}
