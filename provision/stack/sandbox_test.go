package stack_test

import (
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
	"slipway.dev/slipway/testing/fixture"
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
		stack.KubeletService: {templates.Open, false, ""}, "containerd.service": {templates.Open, false, ""}, stack.ImagesService: {templates.Open, false, ""},
	}
	files := fixture.Desired(t, fixture.Input(t)).Hosts["demo-cp-1"].Files
	for _, row := range stack.Units() {
		want, ok := units[row.Name]
		if !ok {
			t.Errorf("%s: say here what it may do", row.Name)
		}
		text := string(files[stack.UnitDir+row.Name].Content)
		for directive, from := range map[string]templates.Sandbox{
			"NoNewPrivileges=yes": templates.Fenced, "ProtectHome=yes": templates.Fenced,
			"\nCapabilityBoundingSet=" + want.may + "\n": templates.Sealed, "ProtectSystem=full": templates.Sealed, "SystemCallFilter=@system-service": templates.Sealed,
		} {
			if got := strings.Contains(text, directive); got != (want.sandbox >= from) {
				t.Errorf("%s: %q is there: %t", row.Name, directive, got)
			}
		}
		if got := strings.Contains(text, "Slice=slipway.slice\n"); got != want.slice {
			t.Errorf("%s: in the slice of the stack: %t", row.Name, got)
		}
	}
	if !strings.Contains(string(files[stack.StackSliceFile].Content), "CPUWeight=1000") {
		t.Error("the slice of the stack has no weight")
	}
}
