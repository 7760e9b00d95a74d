package converge

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/provision/stack"
)

// evictions are a kubelet's disk signals, with their defaults (k8s.io/kubernetes,
// pkg/kubelet/eviction). /var has both file systems.
var evictions = map[string]string{"nodefs.available": "10%", "imagefs.available": "15%"}

// scarce is how little free disk space causes a warning even if kubelets accept it.
const scarce = 2 << 30

// evictsBelow returns how much of /var has to be free, in bytes, so that a kubelet with this
// configuration does not report DiskPressure; 0 is no threshold. A threshold that the kubelet would
// reject is ignored here.
func evictsBelow(config []byte, size int64) int64 {
	var kubelet struct {
		EvictionHard  map[string]string `json:"evictionHard"`
		MergeDefaults bool              `json:"mergeDefaultEvictionSettings"`
	}
	if err := yaml.Unmarshal(config, &kubelet); err != nil {
		return 0
	}
	var most int64
	for signal, value := range evictions {
		if set, ok := kubelet.EvictionHard[signal]; ok || len(kubelet.EvictionHard) > 0 && !kubelet.MergeDefaults {
			value = set
		}
		most = max(most, threshold(value, size))
	}
	return most
}

// threshold is a number of bytes, or a percentage of size.
func threshold(value string, size int64) int64 {
	if number, ok := strings.CutSuffix(value, "%"); ok {
		var percent float64
		if _, err := fmt.Sscanf(number, "%g", &percent); err != nil {
			return 0
		}
		return int64(math.Round(percent / 100 * float64(size)))
	}
	quantity, err := resource.ParseQuantity(value)
	if err != nil {
		return 0
	}
	return quantity.Value()
}

// fullDisks returns the hosts whose kubelet will report DiskPressure, as far as observed.
func (v *View) fullDisks() []string {
	var hosts []string
	for _, name := range slices.Sorted(maps.Keys(v.Observed.Hosts)) {
		facts := v.Observed.Hosts[name].Facts
		if facts.DiskBytes == 0 { // unknown
			continue
		}
		if facts.FreeBytes < evictsBelow(v.Desired.Hosts[name].Files[stack.KubeletFile].Content, facts.DiskBytes) {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

// warnOfDisks warns of disks that are too full for pods, or nearly full.
func (v *View) warnOfDisks() {
	full := v.fullDisks()
	for _, name := range slices.Sorted(maps.Keys(v.Observed.Hosts)) {
		facts := v.Observed.Hosts[name].Facts
		switch {
		case facts.DiskBytes == 0: // unknown
		case slices.Contains(full, name):
			v.report(name, fmt.Sprintf("warning: only %s of /var are free: its kubelet reports DiskPressure below %s, accepts no pods and evicts those that "+
				"run there; free space, or set evictionHard in spec.kubernetes.kubelet.configPatch", gib(facts.FreeBytes),
				gib(evictsBelow(v.Desired.Hosts[name].Files[stack.KubeletFile].Content, facts.DiskBytes))))
		case facts.FreeBytes < scarce:
			v.report(name, fmt.Sprintf("warning: only %s of /var are free", gib(facts.FreeBytes)))
		}
	}
}

func gib(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }
