package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
	"slipway.dev/slipway/testing/fixture"
)

// A component is one value: no other line knows of this one.
func TestAComponentIsOneValue(t *testing.T) {
	in := fixture.Input(t)
	observed := observedAs(t, in)
	const config, program, unit = "/etc/vpn/vpn.yaml", "vpnd", "vpn.service"
	in.Artifacts["amd64"][program] = stack.Artifact{Name: program, Component: "vpn", Version: "v2", SHA256: "1", Mounted: "d1/bin/vpnd"}
	key, wanted, without := "one", true, in.PKI
	with(t, stack.Component{
		Name: "vpn", On: func(stack.Node) bool { return wanted },
		Unit: &stack.Service{
			Name: unit, Text: func(stack.Node) templates.Unit {
				return templates.Unit{Description: "A network", Type: "simple", Exec: "/usr/bin/true"}
			},
			Programs: []string{program}, Files: []string{config}, Issuers: []string{certs.KubernetesCA},
			Disturbs: "connections go on", Ends: "pods lose their network",
		},
		Files:    []stack.ConfigFile{{Path: config, Render: func(stack.Node) ([]byte, error) { return []byte(key), nil }}},
		Programs: []string{program},
		Commands: []stack.Command{{Name: program, At: "/usr/local/bin/vpnd"}},
		Certs:    []certs.Client{{Name: "vpn", CA: certs.KubernetesCA, CommonName: "system:vpn"}},
	})
	var err error
	in.PKI, _, err = certs.Ensure(t.Context(), in.PKI.Material, certs.Table(stack.CertInputs(in.Cluster, in.Machines, nil)), fixture.TestPolicy, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	scheduled := func(observed stack.State) ([]string, []Disruption) {
		s := Situation{Machines: in.Machines, Alive: true, Changes: Diff(fixture.Desired(t, in), observed)}
		var all []string
		steps := Schedule(s)
		for _, step := range steps {
			for _, c := range step.Changes {
				if c.Host == "demo-worker-1" && strings.Contains(c.Name, "vpn") {
					all = append(all, fmt.Sprintf("%s: %s %s %s", step.Verb, string(c.Action), c.Kind, c.Name))
				}
			}
		}
		slices.Sort(all)
		return all, Disruptions(s, steps)
	}
	expect := func(when string, observed stack.State, disturbs string, want ...string) {
		t.Helper()
		got, disruptions := scheduled(observed)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant:\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		said := ""
		for _, d := range disruptions {
			said += d.What + ": " + d.Effect
		}
		if said != disturbs {
			t.Errorf("%s disturbs %q, want %q", when, said, disturbs)
		}
	}
	expect("it comes", observed, "",
		"apply: + file /etc/kubernetes/pki/vpn.crt", "apply: + file /etc/kubernetes/pki/vpn.key", "apply: + file /etc/systemd/system/vpn.service",
		"apply: + file /etc/vpn/vpn.yaml", "apply: + file /usr/local/bin/vpnd", "apply: + program /opt/slipway/vpn/v2/bin/vpnd", "apply: + unit vpn.service")
	observed = observedAs(t, in)
	expect("it is there", observed, "")
	key = "two"
	expect("its file changes", observed, "vpn restarts: connections go on",
		"apply: ^ unit vpn.service", "apply: ~ file /etc/systemd/system/vpn.service", "apply: ~ file /etc/vpn/vpn.yaml")
	wanted, key, in.PKI = false, "one", without
	expect("it goes", observed, "vpn stops permanently: pods lose their network",
		"apply: - file /etc/kubernetes/pki/vpn.crt", "apply: - file /etc/kubernetes/pki/vpn.key", "apply: - file /etc/systemd/system/vpn.service",
		"apply: - file /etc/vpn/vpn.yaml", "apply: - file /usr/local/bin/vpnd", "apply: - program /opt/slipway/vpn/v2/bin/vpnd", "apply: - unit vpn.service")
	wanted = true
	asked, err := stack.Query(in)
	if _, ok := asked.Hosts["demo-worker-1"].Files[config]; !ok || err != nil {
		t.Errorf("hosts are not asked about its file, %v", err)
	}
}

// A cluster of another plugin has flannel's certificate from an older slipway: it leaves, and nothing else happens.
func TestUnusedCertificateLeavesQuietly(t *testing.T) {
	before := fixture.WithPlugin(t, fixture.Input(t), "none") // whose PKI is that of flannel, too
	now := before
	var err error
	now.PKI, _, err = certs.Ensure(t.Context(), before.PKI.Material, certs.Table(stack.CertInputs(now.Cluster, now.Machines, nil)), fixture.TestPolicy, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	observed := observedAs(t, before)
	observed.Nodes = nil // which are not Ready without a network
	s := Situation{Machines: now.Machines, Alive: true, Changes: Diff(fixture.Desired(t, now), observed)}
	got := map[string]int{}
	for _, c := range s.Changes {
		got[string(c.Action)+" "+c.Name]++
	}
	want := map[string]int{"- /etc/kubernetes/pki/flannel.crt": 4, "- /etc/kubernetes/pki/flannel.key": 4, "~ " + stack.OwnedFile: 4}
	if !maps.Equal(got, want) {
		t.Errorf("changes are %v, want %v", got, want)
	}
	if d := Disruptions(s, Schedule(s)); len(d) > 0 {
		t.Errorf("it disturbs %v", d)
	}
}

// with adds a component to the stack for as long as a test runs.
func with(t *testing.T, c stack.Component) {
	t.Helper()
	before := stack.Components
	stack.Components = append(slices.Clip(before), c)
	t.Cleanup(func() { stack.Components = before })
}
