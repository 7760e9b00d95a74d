package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/stack"
)

func TestItemsOfAreInTheOrderOfTheTable(t *testing.T) {
	for words, want := range map[string]string{
		"":                           "",
		"all":                        "ca etcd/ca front-proxy-ca sa",
		"etcd all":                   "ca etcd/ca front-proxy-ca sa",
		"service-account kubernetes": "ca sa",
		"etcd etcd":                  "etcd/ca",
		"front-proxy":                "front-proxy-ca",
	} {
		if got, err := rotate.Items(strings.Fields(words)); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %v, %v, want %s", words, got, err, want)
		}
	}
	for _, words := range []string{"zzz all ca", "ca kubernetes zzz"} {
		const want = `there is no CA ca, zzz: name kubernetes, etcd, front-proxy, service-account, or all`
		if got, err := rotate.Items(strings.Fields(words)); err == nil || err.Error() != want || got != nil {
			t.Errorf("%q: got %v, %v", words, got, err)
		}
	}
}

func TestRenewalsAreTheLeavesThatPatternsName(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.1")
	requests := certs.Table(certs.Inputs{ClusterName: "demo", DNSDomain: "cluster.local", APIServiceIP: address, Nodes: []certs.Node{
		{Name: "cp-1", Address: address, ControlPlane: true}, {Name: "w-1", Address: address},
	}})
	var leaves, controlPlane []string
	for _, q := range requests {
		if q.Kind == certs.Leaf {
			leaves = append(leaves, q.Name)
		}
		if q.Node == "cp-1" {
			controlPlane = append(controlPlane, q.Name)
		}
	}
	for _, tt := range []struct {
		patterns string
		want     []string
	}{
		{"", nil},
		{"*", leaves},
		{"* admin", leaves},
		{"kubelet", []string{"kubelet@cp-1", "kubelet@w-1"}},
		{"kubelet@w-1", []string{"kubelet@w-1"}},
		{"kubelet@w-1 kubelet", []string{"kubelet@w-1", "kubelet@cp-1"}},
		{"etcd/*", []string{"etcd/server@cp-1", "etcd/peer@cp-1", "etcd/healthcheck-client@cp-1"}},
		{"*@cp-1", controlPlane}, // those with a slash, too
		{"*server", []string{"apiserver@cp-1", "etcd/server@cp-1", "controller-manager-server@cp-1", "scheduler-server@cp-1"}},
	} {
		if got, err := keys.Renewals(strings.Fields(tt.patterns), requests); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.patterns, got, err, tt.want)
		}
	}
	for pattern, want := range map[string]string{
		"ca":          "ca is a CA or a key",
		"sa":          "sa is a CA or a key",
		"etcd/ca":     "etcd/ca is a CA or a key",
		"kubelet@x":   `there is no certificate "kubelet@x"`,
		"kubelet[":    `there is no certificate "kubelet["`,
		"kube":        `there is no certificate "kube"`,
		"*@elsewhere": `there is no certificate "*@elsewhere"`,
	} {
		if got, err := keys.Renewals([]string{"admin", pattern}, requests); err == nil || got != nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %s", pattern, got, err, want)
		}
	}
}

// Before a renewal it is said how long it takes, and after one that waited for servers only what is not proven.
func TestRenewalSaysHowLongItTakesAndWhatIsNotProven(t *testing.T) {
	renewed := func(host, path string) plan.Change {
		return plan.Change{Host: host, Kind: plan.FileChange, Action: plan.Update, Name: path}
	}
	clients := []plan.Change{
		renewed("demo-cp-1", stack.PKIDir+"/scheduler.crt"), renewed("demo-cp-2", stack.PKIDir+"/apiserver.crt"), renewed("demo-w-1", stack.PKIDir+"/kube-proxy.crt"),
	}
	for _, test := range []struct {
		changes        []plan.Change
		prove          plan.Proving
		before, others string
		after          []string
	}{
		{clients, plan.ProveClients, "then up to 5 minutes until all clients", "later", nil},
		{clients, plan.ProveNothing, "up to 5 minutes later", "then up to", []string{"Not proven", "demo-cp-1, demo-w-1 present", "`slipway certs status -f prod.yaml`"}},
		{clients[1:2], plan.ProveClients, "takes seconds", "minutes", nil},
		{clients[1:2], plan.ProveNothing, "takes seconds", "minutes", nil},
	} {
		r := renewRun{applyRun: applyRun{work: work{app: &app{file: "prod.yaml"}}}}
		r.Prove = test.prove
		if got := r.forecast(&plan.Plan{Changes: test.changes}); !strings.Contains(got, test.before) || strings.Contains(got, test.others) {
			t.Errorf("before: %q", got)
		}
		got := r.unproven()
		if (got == "") != (test.after == nil) {
			t.Errorf("after: %q", got)
		}
		for _, want := range test.after {
			if !strings.Contains(got, want) {
				t.Errorf("after: %q lacks %q", got, want)
			}
		}
	}
}
