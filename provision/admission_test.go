package provision

import (
	"slices"
	"strings"
	"testing"
)

func TestAdmissionPlugins(t *testing.T) {
	const own = "DenyServiceExternalIPs,EventRateLimit,NodeRestriction"
	for _, tc := range []struct {
		extra map[string]string
		want  string
	}{
		{nil, own},
		{map[string]string{"v": "2"}, own},
		{map[string]string{enablePlugins: "AlwaysPullImages"}, "AlwaysPullImages," + own},
		{map[string]string{enablePlugins: "NodeRestriction, AlwaysPullImages"}, "AlwaysPullImages," + own},
		{map[string]string{disablePlugins: "EventRateLimit,DenyServiceExternalIPs"}, "NodeRestriction"},
		{map[string]string{enablePlugins: "A", disablePlugins: "EventRateLimit"}, "A,DenyServiceExternalIPs,NodeRestriction"},
	} {
		if got := withAdmission(tc.extra)[enablePlugins]; got != tc.want {
			t.Errorf("extraArgs %v enable %s, want %s", tc.extra, got, tc.want)
		}
	}
}

// TestAdmissionIsMerged reads the command line that a host gets.
func TestAdmissionIsMerged(t *testing.T) {
	in := input(t)
	in.Cluster.Spec.Kubernetes.APIServer.ExtraArgs = map[string]string{enablePlugins: "AlwaysPullImages", disablePlugins: "EventRateLimit"}
	unit := string(desired(t, in).Hosts["demo-cp-1"].Files[unitDir+"kube-apiserver.service"].Content)
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
