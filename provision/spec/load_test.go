package spec

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const minimal = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {local: {}}
  nodePools:
  - {name: cp, role: control-plane, replicas: 3}
  - {name: worker, role: worker, replicas: 1, labels: {}, taints: []}
`

func mustParse(t *testing.T, data string) *Cluster {
	t.Helper()
	c, err := Parse("cluster.yaml", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	yes := true
	want := &Cluster{
		APIVersion: APIVersion, Kind: Kind, Metadata: Metadata{Name: "demo"},
		Spec: ClusterSpec{
			Kubernetes: Kubernetes{Version: "v1.36.3"},
			Provider:   Provider{Local: &LocalProvider{Subnet: "10.89.0.0/24"}},
			NodePools: []NodePool{
				{Name: "cp", Role: ControlPlane, Replicas: 3},
				{Name: "worker", Role: Worker, Replicas: 1},
			},
			Network: Network{
				PodSubnet: "10.244.0.0/16", ServiceSubnet: "10.96.0.0/12", DNSDomain: "cluster.local",
				Plugin: "flannel", FlannelBackend: "vxlan", ProxyMode: "nftables",
			},
			PKI:           PKI{CAValidity: "30y", LeafValidity: "10y", KeyAlgorithm: "ECDSA-P256"},
			PodSecurity:   PodSecurity{Enforce: "privileged", Warn: "baseline", Audit: "baseline"},
			AllowCgroupV1: &yes,
		},
	}
	if got := mustParse(t, minimal); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := mustParse(t, minimal+"  network: {plugin: none}\n").Spec.Network.FlannelBackend; got != "" {
		t.Errorf("flannelBackend %q with plugin: none", got)
	}
	if *mustParse(t, minimal+"  allowCgroupV1: false\n").Spec.AllowCgroupV1 {
		t.Error("allowCgroupV1: false was overridden by its default")
	}
	hosts := Cluster{Spec: ClusterSpec{Provider: Provider{Hosts: &HostsProvider{}}}}
	setDefaults(&hosts)
	if *hosts.Spec.AllowCgroupV1 {
		t.Errorf("defaults of the hosts provider: %+v", hosts.Spec.Provider.Hosts)
	}
}

func TestAccessors(t *testing.T) {
	c := mustParse(t, minimal)
	n := c.Spec.Network
	for _, tc := range []struct{ what, got, want string }{
		{"Pods", n.Pods().String(), "10.244.0.0/16"},
		{"Services", n.Services().String(), "10.96.0.0/12"},
		{"APIServiceIP", n.APIServiceIP().String(), "10.96.0.1"},
		{"DNSServiceIP", n.DNSServiceIP().String(), "10.96.0.10"},
		{"local Network", c.Spec.Provider.Local.Network().String(), "10.89.0.0/24"},
		{"CADuration", c.Spec.PKI.CADuration().String(), (30 * year).String()},
		{"LeafDuration", c.Spec.PKI.LeafDuration().String(), (10 * year).String()},
		{"AdminDuration", c.Spec.PKI.AdminDuration().String(), (10 * year).String()},
		{"CSRDuration", c.Spec.PKI.CSRDuration().String(), (10 * year).String()},
		{"AdminDuration of its own", PKI{LeafValidity: "10y", AdminValidity: "1y"}.AdminDuration().String(), year.String()},
		{"CSRDuration of its own", PKI{LeafValidity: "10y", CSRValidity: "90d"}.CSRDuration().String(), (90 * day).String()},
		{"an unloaded network", Network{}.DNSServiceIP().String(), netip.Addr{}.String()},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s, want %s", tc.what, tc.got, tc.want)
		}
	}
}

func TestNodes(t *testing.T) {
	c := mustParse(t, strings.Replace(minimal, "  - {name: cp", "  - {name: first, role: worker, replicas: 2, labels: {a: b}, proxyMode: ipvs}\n  - {name: cp", 1))
	var names []string
	for _, n := range c.Nodes() {
		names = append(names, n.Name)
	}
	want := []string{"demo-cp-1", "demo-cp-2", "demo-cp-3", "demo-first-1", "demo-first-2", "demo-worker-1"}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	if n := c.Nodes()[4]; n.Index != 2 || n.Pool != "first" || n.Role != Worker || n.Labels["a"] != "b" || n.ProxyMode != "ipvs" {
		t.Errorf("%+v", n)
	}
	if n := c.Nodes()[5]; n.ProxyMode != "nftables" {
		t.Errorf("a pool without a mode has %q", n.ProxyMode)
	}
	if got := c.ControlPlanes(); !reflect.DeepEqual(got, c.Nodes()[:3]) {
		t.Errorf("control planes %+v", got)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	c := mustParse(t, `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: &name demo}
spec:
  kubernetes:
    version: v1.36.3
    kubelet: {configPatch: &patch {a: {b: [1, 2.5, null, true, x]}}}
    proxy:
      configPatch: {<<: *patch, c: d}
  provider: {local: {}}
  nodePools:
  - &pool {name: *name, role: control-plane, replicas: 3, labels: &labels {a: b}}
  - {<<: *pool, name: worker, role: worker}
  - <<: [{labels: *labels, replicas: 2}, *pool]
    name: other
    role: worker
`)
	patch := map[string]any{"a": map[string]any{"b": []any{int64(1), 2.5, nil, true, "x"}}}
	if got := c.Spec.Kubernetes.Kubelet.ConfigPatch; !reflect.DeepEqual(got, patch) {
		t.Errorf("patch %#v", got)
	}
	if got := c.Spec.Kubernetes.Proxy.ConfigPatch; got["c"] != "d" || !reflect.DeepEqual(got["a"], patch["a"]) {
		t.Errorf("merged patch %#v", got)
	}
	want := []NodePool{
		{Name: "demo", Role: ControlPlane, Replicas: 3, Labels: map[string]string{"a": "b"}},
		{Name: "worker", Role: Worker, Replicas: 3, Labels: map[string]string{"a": "b"}},
		{Name: "other", Role: Worker, Replicas: 2, Labels: map[string]string{"a": "b"}},
	}
	if !reflect.DeepEqual(c.Spec.NodePools, want) {
		t.Errorf("pools %+v", c.Spec.NodePools)
	}
}

func TestOtherWaysToWriteIt(t *testing.T) {
	want := mustParse(t, minimal)
	for name, data := range map[string]string{
		"CRLF":               strings.ReplaceAll(minimal, "\n", "\r\n"),
		"document markers":   "---\n" + minimal + "---\n",
		"end marker":         minimal + "...\n",
		"comments":           "# a\n" + strings.ReplaceAll(minimal, "\n", " # c\n"),
		"empty optional":     minimal + "  network: {}\n  etcd: {extraArgs: {}}\n",
		"quoted":             strings.Replace(minimal, "v1.36.3", `"v1.36.3"`, 1),
		"block scalar":       strings.Replace(minimal, "{version: v1.36.3}", "\n    version: >-\n      v1.36.3", 1),
		"no newline at end":  strings.TrimSuffix(minimal, "\n"),
		"explicit key":       strings.Replace(minimal, "kind: Cluster", "? kind\n: Cluster", 1),
		"indented sequences": strings.ReplaceAll(minimal, "\n  - ", "\n      - "),
	} {
		t.Run(name, func(t *testing.T) {
			if got := mustParse(t, data); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestWholeFile has mistakes that leave nothing to decode.
func TestWholeFile(t *testing.T) {
	for _, tc := range []struct {
		name, data      string
		line, column    int
		message, remedy string
	}{
		{"empty", "", 1, 1, "empty", "slipway init"},
		{"comments only", "# nothing\n---\n# here\n", 1, 1, "empty", "slipway init"},
		{"a list", "- a\n", 1, 1, "must be a mapping, not a list", "apiVersion"},
		{"a word", "hello\n", 1, 1, "must be a mapping, not a string", "apiVersion"},
		{"tab", "spec:\n  a: b\n\tc: d\n", 3, 1, "a tab in the indentation", "replace the tab with spaces"},
		{"unclosed brace", "a: {b: c\nd: e\n", 2, 1, "not YAML", "quotes"},
		{"unclosed quote", "a: 1\nb: \"c\nd: e\n", 2, 4, "not YAML", "quotes"},
		{"colon", "a: b: c\n", 1, 4, "not YAML", "colons"},
		{"two documents", minimal + "---\n" + minimal, 11, 1, "holds 2 YAML documents", "a separate file"},
		{"Latin-1", "kind: Cluster\nname: Schl\xf6\n", 2, 11, "not in UTF-8: byte 0xf6", "save the file as UTF-8"},
		{"UTF-16", "\xff\xfek\x00i\x00", 1, 1, "UTF-16", "save the file as UTF-8"},
		{"byte order mark", "\xef\xbb\xbfkind: Cluster\n", 1, 1, "byte order mark", "save the file as UTF-8"},
		{"control character", "kind: Clu\x07ster\n", 1, 10, "control character U+0007", "remove"},
		{"too large", strings.Repeat("# x\n", maxSize/4+1), 1, 1, "at most 524288", "right file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := mistakes(t, tc.data)[0]
			if d.Line != tc.line || d.Column != tc.column {
				t.Errorf("at %d:%d, want %d:%d\n%v", d.Line, d.Column, tc.line, tc.column, d)
			}
			if !strings.Contains(d.Message, tc.message) || !strings.Contains(d.Remedy, tc.remedy) {
				t.Errorf("%q, remedy %q; want %q and %q in them", d.Message, d.Remedy, tc.message, tc.remedy)
			}
		})
	}
}

// TestAliasesAreBounded feeds the "billion laughs": a small file whose aliases stand for an
// enormous value.
func TestAliasesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(strings.Replace(minimal, "kubernetes: {version: v1.36.3}", "kubernetes:\n    version: v1.36.3\n    kubelet:\n      configPatch:\n        a: &a [x, x, x, x, x, x, x, x, x, x]\nLAUGHS", 1))
	var laughs strings.Builder
	for i := 'b'; i < 'j'; i++ {
		item := "*" + string(i-1)
		laughs.WriteString("        " + string(i) + ": &" + string(i) + " [" + item + strings.Repeat(", "+item, 9) + "]\n")
	}
	start := time.Now()
	errs := mistakes(t, strings.Replace(b.String(), "LAUGHS", laughs.String(), 1))
	if len(errs) != 1 || !strings.Contains(errs[0].Message, "aliases expand it") {
		t.Errorf("%v", errs)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestManyMistakes wants all of them at once, in the order of the file, and exactly as people see
// them.
func TestManyMistakes(t *testing.T) {
	data, err := os.ReadFile("testdata/many.yaml")
	if err != nil {
		t.Fatal(err)
	}
	errs := mistakes(t, string(data))
	if len(errs) < 15 {
		t.Errorf("%d mistakes, the file has more", len(errs))
	}
	for i, d := range errs {
		if d.Remedy == "" || d.Message == "" || d.Source == "" {
			t.Errorf("incomplete: %+v", d)
		}
		if i > 0 && (position{errs[i-1].Line, errs[i-1].Column}).after(position{d.Line, d.Column}) {
			t.Errorf("%d:%d comes after %d:%d", d.Line, d.Column, errs[i-1].Line, errs[i-1].Column)
		}
	}
	golden(t, "testdata/many.txt", []byte(errs.Error()+"\n"))
}

func TestCaretStandsBelowItsPlace(t *testing.T) {
	d := Diagnostic{File: "f", Line: 1, Column: 5, Message: "m", Remedy: "r", Source: "\tä: xyz"}
	if got, want := d.String(), "f:1:5: m\n    \tä: xyz\n    \t   ^\n    r"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLoad(t *testing.T) {
	for _, path := range exampleFiles(t) {
		if _, err := Load(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	path := filepath.Join(t.TempDir(), "cluster.yaml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "slipway init") {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(path, []byte("kind: Clutser\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs Errors
	if _, err := Load(path); !errors.As(err, &errs) || errs[0].File != path {
		t.Errorf("a bad file: %v", err)
	}
}

// TestStarter wants the starters to say what the defaults are, in their comments too.
func TestStarter(t *testing.T) {
	for _, provider := range Starters() {
		starter := string(Starter("demo", provider))
		got := mustParse(t, starter)
		if provider == "local" {
			if want := mustParse(t, minimal); !reflect.DeepEqual(got, want) {
				t.Errorf("the starter gives %+v", got)
			}
		}
		full := starter
		for _, section := range []string{"network:", "controlPlane:", "pki:", "podSecurity:"} {
			full = uncomment(full, section)
		}
		if full == starter {
			t.Errorf("%s: no section was uncommented", provider)
		}
		if of := mustParse(t, full); !reflect.DeepEqual(of, got) {
			t.Errorf("%s: with its comments taken off, the starter gives %+v", provider, of)
		}
	}
}

// uncomment takes the comment sign off a section of the starter.
func uncomment(yaml, section string) string {
	lines, on := strings.Split(yaml, "\n"), false
	for i, line := range lines {
		text, commented := strings.CutPrefix(line, "  # ")
		on = commented && (on || strings.HasPrefix(text, section))
		if on {
			lines[i] = "  " + text
		}
	}
	return strings.Join(lines, "\n")
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"30y": 30 * year, "90d": 90 * day, "12h": 12 * time.Hour, "1y30d": year + 30*day, "1y1d1h": year + day + time.Hour,
		"292y": 292 * year, "0h": 0, "6m": 6 * time.Minute, "1h30m": 90 * time.Minute,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "y", "10", "1y2", "1.5y", "-1y", "1y6m", "6m1d", "6w", "1ä", "300y", "200y200y", "99999999999y", " 1y", "1y "} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q: %v, want an error", s, got)
		}
	}
}

// TestChecks has a mistake that only the caller knows of reported beside others, at its field.
func TestChecks(t *testing.T) {
	data := strings.Replace(minimal, "nodePools:", "pki: {authorities: {etcd: {certFile: e.crt, keyFile: 1}}, leafValidity: 1s}\n  nodePools:", 1)
	var seen *Cluster
	_, err := Parse("f", []byte(data), func(c *Cluster) []Mistake {
		seen = c
		const etcd = "spec.pki.authorities.etcd"
		return []Mistake{{etcd + ".certFile", "is missing", "make it"}, {etcd + ".keyFile", "was judged already", ""}, {etcd, "is odd", "none"}}
	})
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 4 {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{"spec.pki.authorities.etcd: is odd", "spec.pki.authorities.etcd.certFile: is missing", "keyFile: must be a string", "the unknown unit 's'"} {
		if !strings.Contains(errs[i].String(), want) {
			t.Errorf("mistake %d is %v, wanted %q", i, errs[i], want)
		}
	}
	if at := errs[1]; seen.Spec.PKI.Authorities.Etcd.CertFile != "e.crt" || data[strings.Index(data, "e.crt"):][:5] != at.Source[at.Column-1:][:5] {
		t.Errorf("the mistake is at %d:%d", at.Line, at.Column)
	}
}

func TestReservedLabels(t *testing.T) {
	for key, reserved := range map[string]bool{
		"team": false, "example.com/team": false, "topology.kubernetes.io/zone": false, "node.kubernetes.io/instance-type": false,
		"gpu.node.kubernetes.io/a": false, "kubelet.kubernetes.io/a": false, "notkubernetes.io/a": false,
		"node-role.kubernetes.io/worker": true, "kubernetes.io/hostname": true, "kubernetes.io/arch": true, "k8s.io/a": true,
		"node-restriction.kubernetes.io/a": true, "x.k8s.io/a": true, "slipway.dev/a": true,
	} {
		if got := reservedLabel(key) != ""; got != reserved {
			t.Errorf("%s: reserved %v", key, got)
		}
	}
}

func TestClosest(t *testing.T) {
	known := []string{"podSubnet", "serviceSubnet", "plugin", "proxyMode"}
	for word, want := range map[string]string{
		"podSubent": "podSubnet", "PODSUBNET": "podSubnet", "podNetwork": "", "proxymod": "proxyMode", "plugni": "plugin",
		"x": "", "": "", "completelyDifferent": "", strings.Repeat("podSubnet", 1000): "",
	} {
		if got := Closest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

// TestListedHosts: hosts that are listed elsewhere are judged like those of the file, and an empty list empties no pool.
func TestListedHosts(t *testing.T) {
	const text = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {hosts: {}}
  nodePools:
  - {name: cp, role: control-plane, hostsFrom: {command: [list, cp]}}
  - {name: worker, role: worker, hosts: [{address: w}]}
`
	for name, tt := range map[string]struct {
		hosts []PoolHost
		err   error
		want  string // of the mistake; empty for none
	}{
		"three":          {hosts: []PoolHost{{Address: "a"}, {Address: "b"}, {Address: "c"}}},
		"none":           {want: "spec.nodePools[0].hostsFrom: no machine is listed there"},
		"an even number": {hosts: []PoolHost{{Address: "a"}, {Address: "b"}}, want: "spec.nodePools[0].hosts: 2 control-plane nodes"},
		"no address":     {hosts: []PoolHost{{Address: "w"}}, want: "spec.nodePools[1].hosts[0].address: w is already the address of spec.nodePools[0].hosts[0]"},
		"a failure":      {err: errors.New("exit status 1"), want: "spec.nodePools[0].hostsFrom: the machines of the pool could not be listed: exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseListed("test.yaml", []byte(text), func(from HostsFrom) ([]PoolHost, error) {
				if !slices.Equal(from.Command, []string{"list", "cp"}) {
					t.Errorf("asked for %+v", from)
				}
				return tt.hosts, tt.err
			})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), "test.yaml:") || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(c.ControlPlanes()) != 3 || c.Spec.NodePools[0].HostsFrom != nil {
				t.Errorf("got %+v", c.Spec.NodePools[0])
			}
		})
	}
	if c, err := Parse("test.yaml", []byte(text)); err != nil || len(c.Nodes()) != 1 {
		t.Errorf("without a list: %v", err)
	}
}
