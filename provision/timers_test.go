package provision

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/templates"
)

const metricsDir = "/var/lib/prometheus/node exporter"

func TestExpiryMetricsTimer(t *testing.T) {
	in := input(t)
	without := desired(t, in)
	in.Cluster.Spec.PKI.ExpiryMetrics.Directory = metricsDir
	with := desired(t, in)
	asked, err := Asked(in)
	if err != nil {
		t.Fatal(err)
	}
	const timer, service = "slipway-certificates.timer", "slipway-certificates.service"
	var text strings.Builder
	for _, name := range []string{"demo-cp-1", "demo-worker-1"} {
		want := with.Hosts[name]
		if got, expected := slices.Sorted(maps.Keys(asked.Hosts[name].Files)), slices.Sorted(maps.Keys(want.Files)); !slices.Equal(got, expected) {
			t.Errorf("%s: asked about %v, wanted are %v", name, got, expected)
		}
		if u := want.Units[timer]; !u.Enabled || !u.Active || u.Inputs != "" {
			t.Errorf("%s: the timer should be %+v", name, u)
		}
		if _, there := want.Units[service]; there {
			t.Errorf("%s: the service of a timer is not active in between", name)
		}
		for _, unit := range []string{service, timer} {
			text.WriteString("== " + name + " " + unit + "\n" + string(want.Files[unitDir+unit].Content))
		}
	}
	golden(t, "timers.golden", text.String())

	// On, off, and nothing in between. What is observed of a timer has no inputs.
	none := State{Hosts: map[string]HostState{}}
	owned := func(s State) State {
		for name, h := range s.Hosts {
			h.Owned = map[string]string{}
			for p, f := range h.Files {
				h.Owned[p] = f.Digest
			}
			s.Hosts[name] = h
		}
		return s
	}
	with, without = owned(with), owned(without)
	about := func(desired, observed State) string {
		var all []string
		for _, c := range Diff(desired, observed) {
			if c.Host == "demo-worker-1" && c.Kind == UnitChange && strings.Contains(c.Name, "certificates") {
				all = append(all, string(c.Action)+" "+c.Name)
			}
		}
		return strings.Join(all, ", ")
	}
	for _, tt := range []struct {
		what              string
		desired, observed State
		want              string
	}{
		{"first", with, none, "+ " + timer},
		{"turned on", with, without, "+ " + timer},
		{"as it is", with, with, ""},
		{"turned off", without, with, "- " + timer},
	} {
		if got := about(tt.desired, tt.observed); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

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
		paths := unitDir + strings.ReplaceAll(tt.paths, " ", "\n"+unitDir) + "\n/etc/other.service"
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
