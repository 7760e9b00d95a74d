package hosts

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/providers/hosts/sshconfig"
	"slipway.dev/slipway/provision/spec"
)

// clusterOf parses a spec with the given provider and pools.
func clusterOf(t *testing.T, provider, pools string) *spec.Cluster {
	t.Helper()
	c, err := spec.Parse("test.yaml", []byte(`apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {hosts: `+provider+`}
  nodePools:
`+pools))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// opened opens the provider with an ssh_config and files below a home directory.
func opened(t *testing.T, c *spec.Cluster, o Options, files map[string]string) (*Hosts, string) {
	t.Helper()
	home := t.TempDir()
	for name, text := range files {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "HOME", home)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.SSHConfig = sshconfig.Files{User: filepath.Join(home, ".ssh", "config"), Home: home, LocalUser: "me"}
	o.Path = func(p string) (string, error) { return filepath.Join(home, strings.TrimPrefix(p, "~/")), nil }
	p, err := Open(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return p, home
}

const private = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"

// TestEntry: what the host, its pool and the provider say has precedence in this order, then comes ssh_config, then the defaults.
func TestEntry(t *testing.T) {
	c := clusterOf(t, "{ssh: {user: admin, jumps: [jump-1, 'ops@jump-2:2200'], trustOnFirstUse: true}}", `
  - name: cp
    role: control-plane
    ssh: {port: 2022}
    hosts: [{address: 192.0.2.1, name: a, privateAddress: 10.0.0.1, ssh: {identityFiles: [key], knownHostsFiles: [known], agent: none}}]
  - name: worker
    role: worker
    hosts:
    - {address: alias, name: b, privateAddress: 10.0.0.2, ssh: {jumps: [none]}}
    - {address: 192.0.2.3, name: c, privateAddress: 10.0.0.3, ssh: {user: root, port: 22}}
`)
	p, home := opened(t, c, Options{Known: spec.KnownHosts{HostKeys: map[string]string{"192.0.2.3:22": "ssh-ed25519 AAAA"}}}, map[string]string{
		"key": private, "key.pub": "ssh-ed25519 AAAA me\n", ".ssh/id_ed25519": private, ".ssh/hop": private,
		".ssh/config": "Host alias\n HostName real.example\n Port 2222\n UserKnownHostsFile ~/.ssh/other\n HostKeyAlias same\n IdentitiesOnly yes\n IdentityAgent ~/agent\n" +
			"Host jump-1\n HostName 198.51.100.1\n User jumper\n IdentityFile ~/.ssh/hop\n ProxyJump before\nHost jump-2\n Port 1\n",
	})
	infra, err := p.Find(t.Context())
	if err != nil || len(infra.Failed) > 0 {
		t.Fatalf("%v, %v", err, infra.Failed)
	}
	own := spec.Identity{Name: filepath.Join(home, ".ssh/id_ed25519"), Private: []byte(private)}
	key := spec.Identity{Name: filepath.Join(home, "key"), Private: []byte(private), Public: "ssh-ed25519 AAAA me"}
	jumps := func(with spec.SSH) []spec.SSH {
		before, first, second := with, with, with
		before.Address, before.User = "before:22", "admin"
		first.Address, first.User = "198.51.100.1:22", "jumper"
		second.Address, second.User = "jump-2:2200", "ops"
		return []spec.SSH{before, first, second}
	}
	strict := spec.SSH{
		Identities: []spec.Identity{key}, IdentitiesOnly: true, KnownHosts: []string{filepath.Join(home, "known")}, Agent: "none", TrustOnFirstUse: true,
	}
	strict.Jumps = jumps(strict)
	strict.Address, strict.User = "192.0.2.1:2022", "admin"
	loose := spec.SSH{Identities: []spec.Identity{own}, TrustOnFirstUse: true}
	loose.Jumps = jumps(loose)
	loose.Jumps[1].Identities = []spec.Identity{{Name: filepath.Join(home, ".ssh/hop"), Private: []byte(private)}}
	loose.Address, loose.User, loose.HostKeys = "192.0.2.3:22", "root", []string{"ssh-ed25519 AAAA"}
	loose.Jumps[0].User = "root" // as the machine
	alias := spec.SSH{
		Address: "real.example:2022", User: "admin", Identities: []spec.Identity{own}, IdentitiesOnly: true, TrustOnFirstUse: true, HostKeyAlias: "same",
		Agent: filepath.Join(home, "agent"), KnownHosts: []string{filepath.Join(home, ".ssh/other"), "/etc/ssh/ssh_known_hosts"},
	}
	alias.Address = "real.example:2222"
	for i, want := range []spec.SSH{strict, alias, loose} {
		if got := infra.Machines[i].SSH; !reflect.DeepEqual(got, want) {
			t.Errorf("machine %d:\ngot  %+v\nwant %+v", i, got, want)
		}
	}
	if infra.Endpoint != "192.0.2.1:6443" || !slices.Equal(infra.ExtraSANs, []string{"192.0.2.1"}) {
		t.Errorf("endpoint %s, SANs %s", infra.Endpoint, infra.ExtraSANs)
	}
	if m := infra.Machines[0]; m.Name != "a" || m.Role != spec.ControlPlane || m.Pool != "cp" || m.Address != netip.MustParseAddr("10.0.0.1") || m.Artifacts != "" {
		t.Errorf("machine %+v", m)
	}
}

// TestEntryFails: a machine whose way is unknown fails alone.
func TestEntryFails(t *testing.T) {
	c := clusterOf(t, "{}", `
  - {name: cp, role: control-plane, hosts: [{address: good, name: a, privateAddress: 10.0.0.1}]}
  - name: worker
    role: worker
    hosts:
    - {address: command, name: b, privateAddress: 10.0.0.2}
    - {address: loop, name: c, privateAddress: 10.0.0.3}
    - {address: d, name: d, privateAddress: 10.0.0.4, ssh: {identityFiles: [missing]}}
    - {address: command, name: e, privateAddress: 10.0.0.5, ssh: {port: 2, jumps: [good]}}
`)
	p, _ := opened(t, c, Options{}, map[string]string{
		".ssh/config": "Host command\n ProxyCommand touch HOME/ran\nHost loop\n ProxyJump one\nHost one\n ProxyJump two\nHost two\n ProxyJump one\n",
	})
	infra, err := p.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"b": "ProxyCommand for it, which slipway does not run", "c": "leads back to itself", "d": "identityFiles: open",
	} {
		if err := infra.Failed[name]; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(infra.Failed) != 3 || len(infra.Machines) != 5 {
		t.Errorf("%d machines, failed: %v", len(infra.Machines), infra.Failed)
	}
}

// selves answers for machines by the name that they are asked under; machines without an answer do not answer.
func selves(asked *[]string, answers map[string]spec.Self) func(context.Context, []spec.Machine) (map[string]spec.Self, map[string]error) {
	return func(_ context.Context, machines []spec.Machine) (map[string]spec.Self, map[string]error) {
		found, failed := map[string]spec.Self{}, map[string]error{}
		for _, m := range machines {
			*asked = append(*asked, m.Name)
			if self, ok := answers[m.Name]; ok {
				found[m.Name] = self
			} else {
				failed[m.Name] = errors.New("silence")
			}
		}
		return found, failed
	}
}

func addresses(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// TestResolve: only machines of which something is unknown are asked, and what the state records does not change.
func TestResolve(t *testing.T) {
	const pools = `
  - {name: cp, role: control-plane, hosts: [{address: 192.0.2.1}]}
  - name: worker
    role: worker
    hosts: [{address: 192.0.2.2, name: given}, {address: 192.0.2.3, name: b, privateAddress: 10.0.0.3}, {address: 192.0.2.4}, {address: gone}]
`
	c := clusterOf(t, "{}", pools)
	var asked []string
	o := Options{
		Known: spec.KnownHosts{Hosts: map[string]spec.KnownHost{"192.0.2.4": {Name: "recorded", Address: netip.MustParseAddr("10.0.0.4")}}},
		Introduce: selves(&asked, map[string]spec.Self{
			"192.0.2.1": {HostName: "own", Addresses: addresses("192.0.2.1", "10.0.0.1", "10.244.3.1")},
			"given":     {HostName: "other", Addresses: addresses("192.0.2.2", "10.0.0.2", "10.9.0.2")},
		}),
	}
	p, _ := opened(t, c, o, nil)
	if err := p.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.Sort(asked); !slices.Equal(asked, []string{"192.0.2.1", "given", "gone"}) {
		t.Errorf("asked %v", asked)
	}
	infra, err := p.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range infra.Machines {
		got[m.Name] = m.Address.String()
	}
	// Of several private addresses, that of SSH is taken.
	if want := map[string]string{"own": "10.0.0.1", "given": "192.0.2.2", "b": "10.0.0.3", "recorded": "10.0.0.4"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := infra.Failed["demo-worker-4"]; err == nil || err.Error() != "silence" || len(infra.Failed) != 1 {
		t.Errorf("failed: %v", infra.Failed)
	}
	known := p.Record().Hosts
	if len(known) != 4 || known["192.0.2.1"] != (spec.KnownHost{Name: "own", Address: netip.MustParseAddr("10.0.0.1")}) {
		t.Errorf("recorded %v", known)
	}
	// Once recorded, nothing is asked, and the names stay.
	asked = nil
	o.Known = p.Record()
	again, _ := opened(t, clusterOf(t, "{}", strings.Replace(pools, ", {address: gone}", "", 1)), o, nil)
	if err := again.Resolve(t.Context()); err != nil || asked != nil {
		t.Errorf("asked %v, %v", asked, err)
	}
}

// TestNewcomersThatSayWhatOthersAre do not stop the others.
func TestNewcomersThatSayWhatOthersAre(t *testing.T) {
	c := clusterOf(t, "{}", `
  - {name: cp, role: control-plane, hosts: [{address: 192.0.2.1, name: a, privateAddress: 10.0.0.1}]}
  - {name: worker, role: worker, hosts: [{address: 192.0.2.2}, {address: 192.0.2.3}, {address: 192.0.2.4}]}
`)
	var asked []string
	o := Options{
		Known: spec.KnownHosts{Hosts: map[string]spec.KnownHost{"192.0.2.2": {Name: "b", Address: netip.MustParseAddr("10.0.0.2")}}},
		Introduce: selves(&asked, map[string]spec.Self{
			"192.0.2.3": {HostName: "a", Addresses: addresses("10.0.0.3")}, "192.0.2.4": {HostName: "c", Addresses: addresses("10.0.0.2")},
		}),
	}
	p, _ := opened(t, c, o, nil)
	if err := p.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	infra, err := p.Find(t.Context())
	if err != nil || len(infra.Running()) != 2 || len(infra.Failed) != 2 {
		t.Errorf("%d run, failed are %v: %v", len(infra.Running()), infra.Failed, err)
	}
	for name, says := range map[string]string{
		"demo-worker-2": "192.0.2.3: the machine's own name is a, which is that of 192.0.2.1", "demo-worker-3": "has the address 10.0.0.2, which is that of 192.0.2.2",
	} {
		if err := infra.Failed[name]; err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if known := p.Record().Hosts; len(known) != 2 {
		t.Errorf("recorded %v", known)
	}
}

// TestResolveRefuses: machines that cannot be told apart, and nodes that would become others.
func TestResolveRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		pools     string
		answers   map[string]spec.Self
		known     map[string]spec.KnownHost
		addresses map[string]netip.Addr
		want      string
	}{
		"same name": {
			pools:   "[{address: 192.0.2.1}, {address: 192.0.2.2}, {address: 192.0.2.3, name: x}]",
			answers: map[string]spec.Self{"192.0.2.1": {HostName: "debian", Addresses: addresses("192.0.2.1")}, "192.0.2.2": {HostName: "debian", Addresses: addresses("192.0.2.2")}, "x": {HostName: "debian", Addresses: addresses("192.0.2.3")}},
			want:    "192.0.2.1 and 192.0.2.2 both have the name debian",
		},
		"one machine twice": {
			pools:   "[{address: 192.0.2.1, name: a}, {address: b.example, name: b}, {address: c, name: c, privateAddress: 10.0.0.9}]",
			answers: map[string]spec.Self{"a": {HostName: "a", Addresses: addresses("192.0.2.1")}, "b": {HostName: "a", Addresses: addresses("192.0.2.1")}},
			want:    "192.0.2.1 and b.example both have the address 192.0.2.1",
		},
		"renamed": {
			pools: "[{address: 192.0.2.1, name: b, privateAddress: 10.0.0.1}]", known: map[string]spec.KnownHost{"192.0.2.1": {Name: "a", Address: netip.MustParseAddr("10.0.0.1")}},
			addresses: map[string]netip.Addr{"a": netip.MustParseAddr("10.0.0.1")}, want: "is the node a, and the spec names it b: nodes cannot be renamed",
		},
		"moved": {
			pools:     "[{address: 192.0.2.1, name: a, privateAddress: 10.0.0.2}]",
			addresses: map[string]netip.Addr{"a": netip.MustParseAddr("10.0.0.1")}, want: "control plane a has the address 10.0.0.1, and the spec says 10.0.0.2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			c := clusterOf(t, "{}", "  - {name: cp, role: control-plane, hosts: "+tt.pools+"}\n")
			p, _ := opened(t, c, Options{Known: spec.KnownHosts{Hosts: tt.known}, Addresses: tt.addresses, Introduce: selves(&asked, tt.answers)}, nil)
			err := p.Resolve(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasSuffix(err.Error(), "\nNothing was changed") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	c := clusterOf(t, "{}", "  - {name: cp, role: control-plane, hosts: [{address: a}]}\n")
	for name, tt := range map[string]struct{ have, ssh, want, err string }{
		"only public":              {have: "203.0.113.1", ssh: "203.0.113.1", want: "203.0.113.1"},
		"behind NAT":               {have: "10.0.0.1", ssh: "203.0.113.1", want: "10.0.0.1"},
		"both":                     {have: "203.0.113.1 10.0.0.1", ssh: "203.0.113.1", want: "10.0.0.1"},
		"shared address space":     {have: "203.0.113.1 100.64.0.1", ssh: "203.0.113.1", want: "100.64.0.1"},
		"several private":          {have: "10.0.0.1 192.168.0.1", ssh: "192.168.0.1", want: "192.168.0.1"},
		"several, reached by name": {have: "10.0.0.1 192.168.0.1", ssh: "a.example", err: "several addresses (10.0.0.1, 192.168.0.1)"},
		"pods' and Services'":      {have: "10.0.0.1 10.244.0.1 10.96.0.1", ssh: "a.example", want: "10.0.0.1"},
		"none":                     {ssh: "192.0.2.1", err: "no IPv4 address"},
	} {
		var have []netip.Addr
		if tt.have != "" {
			have = addresses(strings.Fields(tt.have)...)
		}
		got, err := choose(have, tt.ssh, c)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "privateAddress") {
				t.Errorf("%s: got %v, %v", name, got, err)
			}
		case err != nil || got.String() != tt.want:
			t.Errorf("%s: got %v, %v, want %s", name, got, err, tt.want)
		}
	}
}

// TestNeverRemoves: no machine is removed, whatever is asked.
func TestNeverRemoves(t *testing.T) {
	p, _ := opened(t, clusterOf(t, "{}", "  - {name: cp, role: control-plane, hosts: [{address: a, name: a, privateAddress: 10.0.0.1}]}\n"), Options{}, nil)
	for _, err := range []error{p.Destroy(t.Context(), nil), p.Remove(t.Context(), []string{"a"}, nil), p.Kept()} {
		if err == nil || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("got %v", err)
		}
	}
	if changes, err := p.Plan(t.Context(), []string{"a"}); err != nil || changes != nil {
		t.Errorf("plans %v, %v", changes, err)
	}
}

// TestNotes: what is left out of ssh_config is noted once, however many machines it is about.
func TestNotes(t *testing.T) {
	p, home := opened(t, clusterOf(t, "{}", `
  - {name: cp, role: control-plane, hosts: [{address: a, name: a, privateAddress: 10.0.0.1}, {address: b, name: b, privateAddress: 10.0.0.2}, {address: c, name: c, privateAddress: 10.0.0.3}]}
`), Options{}, map[string]string{".ssh/config": "Match exec true\n  User x\n"})
	if _, err := p.Find(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(home, ".ssh", "config") + ":1: the block of Match exec is left out"}; !slices.Equal(p.Notes(), want) {
		t.Errorf("got %q, want %q", p.Notes(), want)
	}
}
