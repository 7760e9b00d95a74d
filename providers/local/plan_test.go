package local

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"slipway.dev/slipway/provision/spec"
)

// dockerWith is a Docker daemon that has these containers, volumes and networks, and nothing else.
func dockerWith(t *testing.T, containers []container.Summary, volumes []volume.Volume, networks ...network.Summary) {
	t.Helper()
	fakeDocker(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.47")
		w.Header().Set("Ostype", "linux")
		w.Header().Set("Content-Type", "application/json")
		var answer any
		switch _, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); path {
		case "containers/json":
			answer = containers
		case "networks":
			answer = append([]network.Summary{}, networks...)
		case "volumes":
			answer = map[string]any{"Volumes": volumes}
		default:
			return
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
}

// containers are the machines of p, as they run.
func (p *Local) containers(t *testing.T, user keyPair) []container.Summary {
	t.Helper()
	var all []container.Summary
	for i, n := range p.nodes {
		host, err := ensureKey(p.keyDir(), n.Name)
		if err != nil {
			t.Fatal(err)
		}
		m := machine{node: n, host: host, user: user, address: netip.AddrFrom4([4]byte{10, 88, 77, byte(machineOffset + i)}), sshPort: firstSSHPort + i}
		all = append(all, container.Summary{ID: n.Name, Names: []string{"/" + n.Name}, State: container.StateRunning, Labels: p.machineConfig("image", m).Labels})
	}
	return all
}

// One machine with which nothing can be done is named, and the others are found and made.
func TestOneBadMachineStopsNoOther(t *testing.T) {
	uid := "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11"
	without := func(label string) func(*container.Summary) {
		return func(c *container.Summary) { delete(c.Labels, label) }
	}
	for name, tt := range map[string]struct {
		damage    func(*container.Summary)
		addresses map[string]netip.Addr
		listed    bool // among the machines
		found     bool // to be bad by looking alone
		want      string
	}{
		"no address":             {damage: without(labelAddress), found: true, want: labelAddress},
		"the state has it":       {damage: without(labelAddress), addresses: map[string]netip.Addr{"demo-cp-2": netip.MustParseAddr("10.88.77.12")}, listed: true, found: true, want: labelAddress},
		"no port":                {damage: without(labelSSHPort), listed: true, found: true, want: labelSSHPort},
		"no role":                {damage: without(labelRole), listed: true, found: true, want: labelRole},
		"other keys":             {damage: func(c *container.Summary) { c.Labels[labelKeys] = "x" }, listed: true, want: "other SSH keys"},
		"bundles somewhere else": {damage: func(c *container.Summary) { c.Labels[labelBundles] = "/elsewhere" }, listed: true, want: "SLIPWAY_CACHE_DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			p, user := opened(t, 3, Options{UID: uid, Addresses: tt.addresses})
			var err error
			containers := p.containers(t, user)
			tt.damage(&containers[1])
			dockerWith(t, containers, nil)
			if p.docker, err = newDocker(); err != nil {
				t.Fatal(err)
			}
			infra, err := p.Find(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range infra.Machines {
				got = append(got, fmt.Sprintf("%s %s %s", m.Name, m.Role, m.Address))
			}
			want := []string{"demo-cp-1 control-plane 10.88.77.11", "demo-cp-2 control-plane 10.88.77.12", "demo-cp-3 control-plane 10.88.77.13"}
			if !tt.listed {
				want = []string{want[0], want[2]}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || infra.States["demo-cp-2"] != "running" || (infra.Failed["demo-cp-2"] != nil) != tt.found || len(infra.Failed) > 1 {
				t.Errorf("found %q, states %v, failed %v", got, infra.States, infra.Failed)
			}
			inv, err := p.inventory(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			plans, failed, err := p.plan(inv, user, every(p))
			if err != nil || len(plans) != 2 || plans[0].node.Name != "demo-cp-1" || plans[1].node.Name != "demo-cp-3" {
				t.Errorf("planned %+v, %v", plans, err)
			}
			if err := failed["demo-cp-2"]; len(failed) != 1 || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("failed %v, want %q", failed, tt.want)
			}
		})
	}
}

// opened is the provider of so many control planes, with directories of its own, and the key that logs in.
func opened(t *testing.T, controlPlanes int, o Options) (*Local, keyPair) {
	t.Helper()
	o.StateDir, o.CacheDir = t.TempDir(), t.TempDir()
	p, err := Open(testCluster("demo", controlPlanes, 0), o)
	if err != nil {
		t.Fatal(err)
	}
	user, err := ensureKey(p.keyDir(), userKey)
	if err != nil {
		t.Fatal(err)
	}
	return p, user
}

// A disk of which there are two, and a key that is damaged, are one machine's trouble as well.
func TestOneMachineThatCannotBeMade(t *testing.T) {
	p := open(t)
	p.nodes = testCluster("demo", 3, 0).Nodes()
	if err := writeSecret(filepath.Join(p.keyDir(), "demo-cp-3"), []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	disks := map[string][]volume.Volume{"demo-cp-2": {{Name: "one"}, {Name: "two"}}}
	plans, failed, err := p.plan(&inventory{ports: map[int]bool{}, disks: disks}, keyPair{}, every(p))
	if err != nil || len(plans) != 1 || plans[0].node.Name != "demo-cp-1" || len(failed) != 2 ||
		!strings.Contains(failed["demo-cp-2"].Error(), "2 disks") || !strings.Contains(failed["demo-cp-3"].Error(), "damaged") {
		t.Errorf("planned %+v, failed %v, %v", plans, failed, err)
	}
}

// A UID that only the spec says makes nothing the cluster's, until a machine that carries it has the cluster's keys as well.
func TestAClaimedUIDHasToBeBorneOut(t *testing.T) {
	const uid = "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11"
	for name, tt := range map[string]struct {
		claimed, keys bool
		mine          bool
	}{
		"recorded, other keys": {mine: true},
		"claimed, other keys":  {claimed: true},
		"claimed, our keys":    {claimed: true, keys: true, mine: true},
	} {
		t.Run(name, func(t *testing.T) {
			p, user := opened(t, 2, Options{UID: uid, Claimed: tt.claimed})
			var err error
			containers := p.containers(t, user)
			containers[1].Labels[labelKeys] = "those of before"
			if !tt.keys {
				containers[0].Labels[labelKeys] = "another's"
			}
			labels := map[string]string{labelCluster: "demo", labelUID: uid, labelMachine: "demo-cp-1"}
			dockerWith(t, containers, []volume.Volume{{Name: "disk", Labels: labels}})
			if p.docker, err = newDocker(); err != nil {
				t.Fatal(err)
			}
			inv, err := p.inventory(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if mine := len(inv.machines) == 2 && len(inv.disks) == 1 && len(inv.foreign) == 0; mine != tt.mine || !mine && len(inv.foreign) != 3 {
				t.Errorf("machines %v, disks %v, foreign %v", inv.machines, inv.disks, inv.foreign)
			}
		})
	}
}

// TestPlan: what Ensure would make besides machines is known before, and why.
func TestPlan(t *testing.T) {
	uid := "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11"
	p, user := opened(t, 1, Options{UID: uid, Slipway: "/bundles/self/slipway"})
	config, _, _, err := p.balancerSpec("image", 16443)
	if err != nil {
		t.Fatal(err)
	}
	balancer := func(state container.ContainerState, labels map[string]string) container.Summary {
		return container.Summary{ID: "b", Names: []string{"/demo-balancer"}, State: state, Status: "Exited (137) 2 minutes ago", Labels: labels}
	}
	other := maps.Clone(config.Labels)
	other[labelBalancer] = "0000"
	missing := spec.ResourceChange{Kind: "network", Name: "slipway-demo", Reason: "does not exist"} // the fake has none
	for name, tt := range map[string]struct {
		balancer []container.Summary
		exists   bool
		reason   string
	}{
		"none":            {nil, false, "does not exist"},
		"down":            {[]container.Summary{balancer(container.StateExited, config.Labels)}, true, "is exited (137) 2 minutes ago"},
		"another":         {[]container.Summary{balancer(container.StateRunning, other)}, true, "was started by another slipway, or with other settings"},
		"as it should be": {[]container.Summary{balancer(container.StateRunning, config.Labels)}, true, ""},
	} {
		dockerWith(t, append(p.containers(t, user), tt.balancer...), nil)
		if p.docker, err = newDocker(); err != nil {
			t.Fatal(err)
		}
		want := []spec.ResourceChange{missing}
		if tt.reason != "" {
			want = append(want, spec.ResourceChange{Kind: "balancer", Name: "demo-balancer", Exists: tt.exists, Reason: tt.reason})
		}
		if got, err := p.Plan(t.Context(), nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
		down := ""
		if tt.reason == "does not exist" || strings.HasPrefix(tt.reason, "is exited") {
			down = "balancer demo-balancer " + tt.reason
		}
		if infra, err := p.Find(t.Context()); err != nil || infra.EndpointDown != down {
			t.Errorf("%s: the endpoint is down since %q, %v, want %q", name, infra.EndpointDown, err, down)
		}
	}
}

// TestPlanRefusesWhatCannotChange: settings that machines were made with are also compared when all of
// them run; a machine that alone differs does not stop the others.
func TestPlanRefusesWhatCannotChange(t *testing.T) {
	p, user := opened(t, 3, Options{UID: "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11"})
	for name, tt := range map[string]struct {
		copied, elsewhere int // machines that get copies, or have another cache mounted
		want              string
	}{
		"as made":           {},
		"one gets copies":   {copied: 1},
		"all get copies":    {copied: 3, want: "machine demo-cp-1 was made with spec.provider.local.bundle: copy"},
		"another cache":     {elsewhere: 3, want: "point SLIPWAY_CACHE_DIR back"},
		"one another cache": {elsewhere: 1},
	} {
		containers := p.containers(t, user)
		for i := range tt.copied {
			containers[i].Labels[labelBundles] = ""
		}
		for i := range tt.elsewhere {
			containers[i].Labels[labelBundles] = "/elsewhere"
		}
		dockerWith(t, containers, nil)
		var err error
		if p.docker, err = newDocker(); err != nil {
			t.Fatal(err)
		}
		_, err = p.Plan(t.Context(), nil)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	other := network.Summary{Network: network.Network{
		Name: "slipway-demo", Labels: map[string]string{labelCluster: "demo", labelUID: p.o.UID},
		IPAM: network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.99.0.0/24")}}},
	}}
	dockerWith(t, p.containers(t, user), nil, other)
	var err error
	if p.docker, err = newDocker(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Plan(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "a subnet cannot change") {
		t.Errorf("another subnet: %v", err)
	}
}
