package stack_test

import (
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

func TestAdmissionPlugins(t *testing.T) {
	const own = "DenyServiceExternalIPs,EventRateLimit,NodeRestriction"
	for _, tc := range []struct {
		extra map[string]string
		want  string
	}{
		{nil, own},
		{map[string]string{"v": "2"}, own},
		{map[string]string{stack.EnablePlugins: "AlwaysPullImages"}, "AlwaysPullImages," + own},
		{map[string]string{stack.EnablePlugins: "NodeRestriction, AlwaysPullImages"}, "AlwaysPullImages," + own},
		{map[string]string{stack.DisablePlugins: "EventRateLimit,DenyServiceExternalIPs"}, "NodeRestriction"},
		{map[string]string{stack.EnablePlugins: "A", stack.DisablePlugins: "EventRateLimit"}, "A,DenyServiceExternalIPs,NodeRestriction"},
	} {
		if got := stack.WithAdmission(tc.extra)[stack.EnablePlugins]; got != tc.want {
			t.Errorf("extraArgs %v enable %s, want %s", tc.extra, got, tc.want)
		}
	}
}

// TestAdmissionIsMerged reads the command line that a host gets.
func TestAdmissionIsMerged(t *testing.T) {
	in := fixture.Input(t)
	in.Cluster.Spec.Kubernetes.APIServer.ExtraArgs = map[string]string{stack.EnablePlugins: "AlwaysPullImages", stack.DisablePlugins: "EventRateLimit"}
	unit := string(fixture.Desired(t, in).Hosts["demo-cp-1"].Files[stack.UnitDir+"kube-apiserver.service"].Content)
	words := strings.Fields(unit)
	for _, want := range []string{
		"--enable-admission-plugins=AlwaysPullImages,DenyServiceExternalIPs,NodeRestriction", "--disable-admission-plugins=EventRateLimit",
		"--service-account-extend-token-expiration=false",
	} {
		if !slices.Contains(words, want) {
			t.Errorf("the API server is started without %s:\n%s", want, unit)
		}
	}
}
