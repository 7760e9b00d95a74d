package diagnose

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// well is the evidence of a cluster of three control planes and a worker that is well.
func well() *Evidence {
	e := &Evidence{Cluster: "demo", Version: "v1.36.3", Taken: noon, API: API{Asked: true}, Etcd: Etcd{Asked: true}}
	for i, name := range []string{"cp-1", "cp-2", "cp-3", "worker-1"} {
		h := Host{
			Name: name, Role: spec.ControlPlane, Address: netip.AddrFrom4([4]byte{10, 89, 0, byte(11 + i)}), Complete: true, Uptime: time.Hour, ProxyRules: 100,
			Facts:    map[string]string{"memtotal": "8000000", "memavailable": "4000000", "swaps": "0", "pidmax": "4194304", "threads": "500", "net.ipv4.ip_forward": "1"},
			Disks:    []Disk{{Target: "/", Type: "ext4", Size: 1e11, Free: 5e10, Inodes: 1e6, FreeInodes: 9e5}},
			CNI:      CNI{Files: []string{"/etc/cni/net.d/10-flannel.conflist"}, Types: []string{"flannel", "portmap"}, Plugins: []string{"bridge", "flannel", "portmap"}},
			DNSAsked: true,
		}
		if name == "worker-1" {
			h.Role = spec.Worker
		}
		for _, row := range unitTable {
			onlyControlPlanes := row.unit == stack.EtcdService || row.unit == stack.APIServerService || strings.HasPrefix(row.unit, "kube-c") || strings.HasPrefix(row.unit, "kube-s")
			if h.Role == spec.ControlPlane || !onlyControlPlanes {
				h.Units = append(h.Units, Unit{Name: row.unit, Load: "loaded", Active: "active", Sub: "running", File: "enabled", Result: "success", For: time.Hour})
				h.Health = append(h.Health, Health{Unit: row.unit, URL: "http://127.0.0.1/healthz"})
			}
		}
		e.Hosts = append(e.Hosts, h)
		e.API.Nodes = append(e.API.Nodes, Node{Name: name, Version: "v1.36.3", Ready: true})
		e.API.Leases = append(e.API.Leases, Lease{Namespace: nodeLeases, Name: name, Duration: 40 * time.Second})
		if h.Role == spec.ControlPlane {
			e.API.Servers = append(e.API.Servers, APIServer{Host: name})
			e.Etcd.Members = append(e.Etcd.Members, Member{
				Name: name, ID: fmt.Sprint(i), Cluster: "c1", Known: true, Expected: true, Answers: true, Leader: i == 0, DBSize: 1e6, Quota: 8 << 30, Fsync: time.Millisecond,
			})
		}
		for _, other := range []string{"cp-1", "cp-2", "cp-3", "worker-1"} {
			if other != name {
				e.Paths = append(e.Paths, Path{Kind: NodeNetwork, From: name, To: other, Address: "10.89.0.1:10250"}, Path{Kind: PodNetwork, From: name, To: other, Address: "10.244.0.0:10250"})
			}
			if other != "worker-1" {
				e.Paths = append(e.Paths, Path{Kind: ToAPI, From: name, To: other, Address: "10.89.0.1:6443"})
			}
		}
		e.Certificates = append(e.Certificates, Certificate{Use: certs.Use{
			Host: name, Place: certs.InFile, Location: "/var/lib/kubelet/pki/kubelet.crt", Name: "kubelet@" + name, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(1000 * time.Hour),
		}})
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		e.API.Leases = append(e.API.Leases, Lease{Namespace: "kube-system", Name: name, Holder: "cp-1_1", Duration: 15 * time.Second})
	}
	e.API.DNS = DNS{Exists: true, Want: 2, Ready: 2, Endpoints: 2, Nodes: []string{"cp-1", "worker-1"}}
	return e
}

func (h *Host) set(unit string, change func(u *Unit)) {
	change(h.unitOn(unit))
}

func stopped(u *Unit) { u.Active, u.Sub = "inactive", "dead" }

// failPaths lets attempts between two nodes fail, in both directions; "" is any node.
func (e *Evidence) failPaths(a, b string, kinds ...PathKind) {
	for i := range e.Paths {
		p := &e.Paths[i]
		ends := p.From == a && (b == "" || p.To == b) || p.To == a && (b == "" || p.From == b)
		if ends && slices.Contains(kinds, p.Kind) {
			p.Error = "no answer within 4s"
		}
	}
}

// outline is a report in short: "rule host: symptom host(symptom host); info rule".
func outline(r *Report) string {
	var one func(f Finding) string
	one = func(f Finding) string {
		text := strings.TrimSpace(f.Rule + " " + f.Host)
		var below []string
		for _, s := range f.Explains {
			below = append(below, one(s))
		}
		if len(below) > 0 {
			text += "(" + strings.Join(below, ", ") + ")"
		}
		return text
	}
	var all []string
	for _, f := range r.Findings {
		all = append(all, one(f))
	}
	for _, f := range r.Infos {
		all = append(all, "info "+one(f))
	}
	return strings.Join(all, "; ")
}

func pods(p Pod, n int) []Pod {
	var all []Pod
	for i := range n {
		p.Name = fmt.Sprintf("web-%d", i)
		all = append(all, p)
	}
	return all
}

// cert changes the certificate of worker-1.
func (e *Evidence) cert(change func(c *Certificate)) { change(&e.Certificates[3]) }

var no = false

func TestRules(t *testing.T) {
	if got := outline(Diagnose(well())); got != "" {
		t.Errorf("of a cluster that is well: %s", got)
	}
	seen := map[string]bool{}
	for _, row := range ills {
		t.Run(row.name, func(t *testing.T) {
			e := well()
			row.do(e)
			r := Diagnose(e)
			got := outline(r)
			if got != row.want {
				t.Errorf("\n got %s\nwant %s", got, row.want)
			}
			for name := range strings.FieldsFuncSeq(got, func(c rune) bool { return strings.ContainsRune(" ();,", c) }) {
				seen[name] = true
			}
			if r.Healthy != (len(r.Findings) == 0) {
				t.Error("the report is at odds with itself")
			}
			all := slices.Concat(r.Findings, r.Infos)
			if len(all) == 0 {
				return
			}
			f := all[0]
			for _, word := range row.says {
				if !strings.Contains(f.What+f.Evidence+f.Remedy.Text, word) {
					t.Errorf("%q is not in %+v", word, f)
				}
			}
			if !slices.ContainsFunc(f.Remedy.Commands, func(c string) bool { return strings.Contains(c, row.remedy) }) && row.remedy != "" {
				t.Errorf("the remedy has %q, want %q", f.Remedy.Commands, row.remedy)
			}
			for _, f := range all {
				if f.What == "" || f.More == "" || strings.Contains(f.What+f.Evidence, "\n") {
					t.Errorf("it lacks something: %+v", f)
				}
			}
		})
	}
	for _, rule := range Rules {
		if !seen[rule.Name] {
			t.Errorf("no row finds %s", rule.Name)
		}
	}
}

// TestNothingIsKnown: evidence of a cluster that nobody answered for is no reason to fail.
func TestNothingIsKnown(t *testing.T) {
	for name, e := range map[string]*Evidence{
		"nothing": {}, "an API that was asked": {API: API{Asked: true, Error: "no"}}, "etcd": {Etcd: Etcd{Asked: true, Error: "no"}},
	} {
		if r := Diagnose(e); name == "nothing" && !r.Healthy {
			t.Errorf("%s: %s", name, outline(r))
		}
	}
}

// TestOnly: of nodes that were not asked for nothing is said.
func TestOnly(t *testing.T) {
	e := well()
	e.API.Nodes[3].Ready, e.API.Nodes[3].Cordoned = false, true
	e.API.Pods = pods(Pod{Namespace: "default", Owner: "Pod/web", Reason: "CrashLoopBackOff", Node: "worker-1"}, 1)
	e.Hosts = e.Hosts[:1]
	e.Drift = map[string][]string{"worker-1": {"x"}}
	if got := outline(Diagnose(e)); got != "" {
		t.Error(got)
	}
}

// TestExplanations: each name is of a rule that comes later, so there is no cycle.
func TestExplanations(t *testing.T) {
	at := map[string]int{}
	for i, r := range Rules {
		if _, twice := at[r.Name]; twice {
			t.Errorf("two rules are called %s", r.Name)
		}
		at[r.Name] = i
	}
	for i, r := range Rules {
		for _, name := range r.Explains {
			if j, ok := at[name]; !ok {
				t.Errorf("%s explains %s, which does not exist", r.Name, name)
			} else if j <= i {
				t.Errorf("%s explains %s, which comes before it", r.Name, name)
			}
		}
	}
}

// TestDocs: docs/diagnose.md lists the rules as they are; -update rewrites its table.
func TestDocs(t *testing.T) {
	const file, begin, end = "../../docs/diagnose.md", "<!-- rules -->\n", "<!-- /rules -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("\n| name | finds | |\n|---|---|---|\n")
	for _, r := range Rules {
		kind := ""
		if r.Info {
			kind = "remark"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", r.Name, r.Title, kind)
	}
	table.WriteString("\n")
	before, rest, ok := strings.Cut(string(text), begin)
	was, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s lacks its marks", file)
	}
	if was == table.String() {
		return
	}
	if !fixture.Update() {
		t.Fatalf("%s does not list the rules as they are: run the test with -update", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
