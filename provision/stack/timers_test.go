package stack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// TestObserveTimers: the service of a timer is not asked about, for it is not active in between.
func TestObserveTimers(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\necho \"asked=$*\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ paths, want string }{
		{"etcd.service kubelet.service", "etcd.service kubelet.service"},
		{"etcd.service a.service a.timer b.timer", "etcd.service a.timer b.timer"},
		{"a.timer", "a.timer"},
	} {
		paths := stack.UnitDir + strings.ReplaceAll(tt.paths, " ", "\n"+stack.UnitDir) + "\n/etc/other.service"
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "PATHS='"+paths+"'\nSYSCTLS=\nMODULES=\nACCOUNTS=\n"+templates.ObserveScript())
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		_, units, _ := strings.Cut(string(out), "[units]\nasked=show ")
		units, _, _ = strings.Cut(units, "\n")
		got := strings.Fields(units)[2:] // after -p and the properties
		slices.Sort(got)
		want := strings.Fields(tt.want)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: asked about %v, want %v", tt.paths, got, want)
		}
	}
}
