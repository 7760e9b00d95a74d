package converge

import (
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

func TestEvictsBelow(t *testing.T) {
	const disk = 1000 << 20
	for config, want := range map[string]int64{
		"kind: KubeletConfiguration":                                                           disk * 15 / 100,
		"evictionHard: {nodefs.available: 0%, imagefs.available: 0%}":                          0,
		"evictionHard: {memory.available: 100Mi}":                                              0,
		"evictionHard: {memory.available: 100Mi}\nmergeDefaultEvictionSettings: true":          disk * 15 / 100,
		"evictionHard: {nodefs.available: 99%, imagefs.available: 0%}":                         disk * 99 / 100,
		"evictionHard: {nodefs.available: 1Gi}":                                                1 << 30,
		"evictionHard: {nodefs.available: much}":                                               0,
		"evictionHard: [what the kubelet refuses]":                                             0,
		"evictionHard: {nodefs.available: 1.5%}\nmergeDefaultEvictionSettings: false\nx: true": disk * 15 / 1000,
	} {
		if got := evictsBelow([]byte(config), disk); got != want {
			t.Errorf("%s: %d, want %d", config, got, want)
		}
	}
}

// A kubelet that shares its disk does not mind how full that is; another one is going to report pressure, and that is said.
func TestWarnOfDisks(t *testing.T) {
	in := fixture.Input(t) // whose first machine shares its disk
	r := &View{Input: in, Desired: fixture.Desired(t, in), Observed: stack.State{Hosts: map[string]stack.HostState{}}}
	warned := map[string]string{}
	r.Report = func(host, what string) { warned[host] = what }
	for name, facts := range map[string]stack.Facts{
		"demo-cp-1":     {FreeBytes: 14 << 30, DiskBytes: 100 << 30},
		"demo-cp-2":     {FreeBytes: 14 << 30, DiskBytes: 100 << 30},
		"demo-cp-3":     {FreeBytes: 16 << 30, DiskBytes: 100 << 30},
		"demo-worker-1": {FreeBytes: 14 << 30}, // whose size is not known
	} {
		r.Observed.Hosts[name] = stack.HostState{Facts: facts}
	}
	if got := r.fullDisks(); !slices.Equal(got, []string{"demo-cp-2"}) {
		t.Errorf("full are %q", got)
	}
	r.warnOfDisks()
	if len(warned) != 1 || !strings.Contains(warned["demo-cp-2"], "only 14.0 GiB of /var are free: its kubelet reports DiskPressure below 15.0 GiB") {
		t.Errorf("warned of %q", warned)
	}
	r.Observed.Hosts["demo-cp-1"] = stack.HostState{Facts: stack.Facts{FreeBytes: 1 << 30, DiskBytes: 100 << 30}}
	if r.warnOfDisks(); warned["demo-cp-1"] == "" {
		t.Error("a disk that is nearly full is not spoken of where kubelets do not mind")
	}
}
