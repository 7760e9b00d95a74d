package stack

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
)

// Input is everything that desired state is computed from.
type Input struct {
	Cluster *spec.Cluster
	// UID of the cluster: see Identity.
	UID string
	// BeenUp means that the state records that the cluster has been up, whatever the hosts show.
	BeenUp bool
	// RebuildEmpty means that a cluster whose data is gone starts again without it: records that it
	// has been up do not count.
	RebuildEmpty bool
	// Generation is the current generation, and Rebuilding one that was begun and has not been up:
	// see Identity.
	Generation, Rebuilding string
	// AllowPluginChange means that the network plugin of a cluster that has been up may change.
	AllowPluginChange bool
	// Machines of Cluster.Nodes, except for workers whose machines do not exist yet and are left
	// out.
	Machines []spec.Machine
	// Endpoint is where clients outside the cluster reach the API, "host:port".
	Endpoint string
	// Artifacts for every architecture of the machines.
	Artifacts Sets
	// PKI is the table of certificates with all certificates issued.
	PKI *certs.PKI
	// EncryptionKeys are for Secrets at rest: the first encrypts, all decrypt.
	EncryptionKeys []EncryptionKey
	// Facts are observed, by node name. A node without facts gets the defaults of an ordinary
	// machine.
	Facts map[string]Facts
	// Gone are the names of nodes whose machine does not exist according to the provider: nothing
	// can run there. A machine that only cannot be reached is not among them.
	Gone []string
}

// Artifact is a program or an image of the bundle, as hosts see it.
type Artifact struct {
	Name, Component, Version string
	SHA256                   string
	// Mounted is its path below Machine.Artifacts.
	Mounted string
	// Identity of the file on this computer (bundle.Identity), empty if it is not here.
	Identity string
	// Local is the path of that file, and Size its bytes: for machines without a mount of the bundle.
	Local string `json:"-"`
	Size  int64  `json:"-"`
	// Image is the reference of the imported file; empty for programs.
	Image string
}

// Same reports whether both are the same on hosts, wherever this computer has them.
func (a Artifact) Same(b Artifact) bool {
	a.Local, a.Size = b.Local, b.Size
	return a == b
}

// Path is the artifact's path on a host.
func (a Artifact) Path() string {
	if a.Image != "" {
		return path.Join(ProgramDir, a.Component, a.Version, "images", path.Base(a.Mounted))
	}
	return path.Join(ProgramDir, a.Component, a.Version, "bin", a.Name)
}

// EncryptionKey is a key for Secrets at rest.
type EncryptionKey struct {
	// Name is stored with all data that the key encrypts; two keys of a cluster never have the
	// same.
	Name string
	// Key is 32 bytes.
	Key secret.Bytes
}

// Node is one node's view of the input: components are functions of it.
type Node struct {
	*Input
	spec.Node
	machine spec.Machine
	facts   Facts
	set     Set // the artifacts for its machine
	certs   []certs.File
	// components that the node has.
	components []Component
	*texts
}

// texts are contents that nodes share: most of a worker's files are those of every other, and are
// made and stored once. It is safe for concurrent use.
type texts struct {
	mu       sync.Mutex
	made     map[string][]byte          // by all that the content depends on
	kept     map[string]File            // by content
	programs map[string]map[string]File // by what they depend on: see Node.programs
}

func newTexts() *texts {
	return &texts{made: map[string][]byte{}, kept: map[string]File{}, programs: map[string]map[string]File{}}
}

// file returns a regular file, for content that other nodes may share.
func (t *texts) file(content []byte, secret bool, why string) File {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.kept[string(content)]
	if !ok {
		f = Regular(content, false, "")
		t.kept[string(content)] = f
	}
	f.Secret, f.Why = secret, why
	return f
}

// once returns the result of render, and calls it only once for a key, which is all that the result
// depends on: a path, if the content is the same on every node.
func (t *texts) once(key string, render func() ([]byte, error)) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text, ok := t.made[key]; ok {
		return text, nil
	}
	text, err := render()
	if err == nil {
		t.made[key] = text
	}
	return text, err
}

// Nodes returns the nodes that have a machine, in the order of the spec.
func (in *Input) Nodes() []Node {
	machines := map[string]spec.Machine{}
	for _, m := range in.Machines {
		machines[m.Name] = m
	}
	var members []certs.Node
	for _, m := range in.Machines {
		members = append(members, CertsNode(m))
	}
	files, shared := in.PKI.FilesOf(members), newTexts()
	var nodes []Node
	for _, n := range in.Cluster.Nodes() {
		m, ok := machines[n.Name]
		if !ok {
			continue // it has no machine yet, and this run creates none
		}
		facts, ok := in.Facts[n.Name]
		if !ok {
			facts = Facts{CgroupV2: true, SysResource: true, ReadSearch: true, ConntrackWritable: true, ResolvConf: "/etc/resolv.conf"}
		}
		node := Node{Input: in, Node: n, machine: m, facts: facts, certs: files[n.Name], texts: shared}
		node.set = in.Artifacts.For(node.arch())
		for _, c := range Components {
			if c.On(node) {
				node.components = append(node.components, c)
			}
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// ControlPlane reports whether the node runs an API server and an etcd member.
func (n Node) ControlPlane() bool { return n.Role == spec.ControlPlane }

// Address is where other nodes reach this one.
func (n Node) address() string { return n.machine.Address.String() }

// arch is the architecture of the machine: what was observed, or else what is recorded of it.
func (n Node) arch() string { return cmp.Or(n.facts.Arch, n.machine.Arch) }

// Path of an artifact that the bundle must have.
func (n Node) path(artifact string) string { return n.set[artifact].Path() }

// ControlPlanes returns the addresses of all API servers and etcd members, by node name.
func (in *Input) ControlPlanes() []spec.Machine {
	var machines []spec.Machine
	for _, m := range in.Machines {
		if m.Role == spec.ControlPlane {
			machines = append(machines, m)
		}
	}
	return machines
}

// Ours returns the control planes that may speak for the cluster.
func (in *Input) Ours() []spec.Machine {
	return slices.DeleteFunc(in.ControlPlanes(), func(m spec.Machine) bool { return !in.Speaks(m.Name) })
}

// Speaks reports whether a control plane may speak for the cluster: a host that is part of another
// cluster speaks for that one, and a host with data of another generation for the cluster of that
// generation.
func (in *Input) Speaks(name string) bool {
	f := in.Facts[name]
	return !Strange(*in, f) && (in.RebuildEmpty || !f.EtcdData || !OtherGeneration(*in, f))
}

// APIServers returns the "address:6443" of every control plane.
func (in *Input) APIServers() []string {
	var servers []string
	for _, m := range in.ControlPlanes() {
		servers = append(servers, netip.AddrPortFrom(m.Address, APIPort).String())
	}
	return servers
}

// flags renders a command line from slipway's flags and the user's, which take precedence. It is
// sorted, so that the order never differs.
func flags(own, extra map[string]string) []string {
	merged := map[string]string{}
	for _, m := range []map[string]string{own, extra} {
		for k, v := range m {
			merged[k] = v
		}
	}
	args := make([]string, 0, len(merged))
	for k, v := range merged {
		args = append(args, quote("--"+k+"="+v))
	}
	sort.Strings(args)
	return args
}

// Of a unit file, what has a meaning in every word, and what has one in quotes.
var (
	specifiers = strings.NewReplacer(`%`, `%%`, `$`, `$$`)
	escapes    = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`)
)

// quote quotes a word for ExecStart= (systemd.service(5), "Command lines").
func quote(word string) string {
	word = specifiers.Replace(word)
	if !strings.ContainsAny(word, " \t\n\"'\\;") {
		return word
	}
	return `"` + escapes.Replace(word) + `"`
}

// OtherGeneration reports whether a host was set up for another generation of the cluster than this
// one.
func OtherGeneration(in Input, f Facts) bool { return f.Generation != in.Generation }

// Strange reports whether a host is part of another cluster.
func Strange(in Input, f Facts) bool { return f.ClusterUID != "" && f.ClusterUID != in.UID }

// Adopt takes the generation of most control planes' data if the state is older than the first
// rebuild: it was restored from a backup, and its keys are still the cluster's. A generation that
// the state records only as begun must have been up.
func (in *Input) Adopt(observed State) (adopted bool) {
	if in.Generation != "" || in.RebuildEmpty {
		return false
	}
	with, beenUp := map[string]int{}, map[string]bool{}
	for _, m := range in.ControlPlanes() {
		if f := observed.Hosts[m.Name].Facts; f.EtcdData && !Strange(*in, f) {
			with[f.Generation]++
			beenUp[f.Generation] = beenUp[f.Generation] || f.Initialized
		}
	}
	for generation, n := range with {
		if generation != "" && n > len(in.ControlPlanes())/2 && (generation != in.Rebuilding || beenUp[generation]) {
			in.Generation = generation
			return true
		}
	}
	return false
}
