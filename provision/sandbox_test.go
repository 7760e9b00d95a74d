package provision

import (
	"strings"
	"testing"

	"slipway.dev/slipway/templates"
)

// What reads its configuration and answers on the network is sealed; what starts containers is open, since they would
// inherit what it is kept from; and what pods must not starve is in a slice of its own.
func TestUnitsAreSandboxed(t *testing.T) {
	units := map[string]struct {
		sandbox templates.Sandbox
		slice   bool
		may     string // the only capability
	}{
		"etcd.service": {templates.Sealed, true, "CAP_DAC_READ_SEARCH"}, "kube-apiserver.service": {templates.Sealed, true, "CAP_DAC_OVERRIDE"},
		"kube-controller-manager.service": {templates.Sealed, true, "CAP_DAC_OVERRIDE"}, "kube-scheduler.service": {templates.Sealed, true, "CAP_DAC_OVERRIDE"},
		"slipway-balancer.service": {templates.Sealed, true, "CAP_DAC_OVERRIDE"},
		"kube-proxy.service":       {templates.Fenced, true, ""}, "flanneld.service": {templates.Fenced, true, ""},
		kubeletService: {templates.Open, false, ""}, "containerd.service": {templates.Open, false, ""}, imagesService: {templates.Open, false, ""},
	}
	files := desired(t, input(t)).Hosts["demo-cp-1"].Files
	for _, row := range unitTable {
		want, ok := units[row.name]
		if !ok {
			t.Errorf("%s: say here what it may do", row.name)
		}
		text := string(files[unitDir+row.name].Content)
		for directive, from := range map[string]templates.Sandbox{
			"NoNewPrivileges=yes": templates.Fenced, "ProtectHome=yes": templates.Fenced,
			"\nCapabilityBoundingSet=" + want.may + "\n": templates.Sealed, "ProtectSystem=full": templates.Sealed, "SystemCallFilter=@system-service": templates.Sealed,
		} {
			if got := strings.Contains(text, directive); got != (want.sandbox >= from) {
				t.Errorf("%s: %q is there: %t", row.name, directive, got)
			}
		}
		if got := strings.Contains(text, "Slice=slipway.slice\n"); got != want.slice {
			t.Errorf("%s: in the slice of the stack: %t", row.name, got)
		}
	}
	if !strings.Contains(string(files[stackSliceFile].Content), "CPUWeight=1000") {
		t.Error("the slice of the stack has no weight")
	}
}
