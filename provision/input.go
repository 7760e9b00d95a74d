package provision

import (
	"net/netip"
	"path"
	"slices"
	"sort"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
)

// Input is all that desired state is computed from.
type Input struct {
	Cluster *spec.Cluster
	// UID of the cluster: see Identity.
	UID string
	// BeenUp says that the state knows that the cluster has been up, whatever the hosts show.
	BeenUp bool
	// RebuildEmpty says that a cluster whose data is gone begins again without it: nothing that records that it has been up
	// counts.
	RebuildEmpty bool
	// Generation is the one that hosts get, and Rebuilding one that was begun and has not been up: see Identity.
	Generation, Rebuilding string
	// AllowPluginChange says that the network plugin of a cluster that has been up may change.
	AllowPluginChange bool
	// Machines of Cluster.Nodes: of all, but for workers whose machines are not made yet and are left out.
	Machines []spec.Machine
	// Endpoint is where clients outside the cluster reach the API, "host:port".
	Endpoint string
	// Artifacts by name; images are "image/<name>".
	Artifacts map[string]Artifact
	// PKI is the table of certificates, fulfilled.
	PKI *certs.PKI
	// EncryptionKeys are for Secrets at rest: the first encrypts, all decrypt.
	EncryptionKeys []EncryptionKey
	// Facts by node name, observed. A node without facts gets the defaults of an ordinary machine.
	Facts map[string]Facts
	// Gone are the names of nodes whose machine does not exist at all, as the provider knows: nothing can run there. A machine
	// that merely cannot be reached is not among them.
	Gone []string
}

// Artifact is a program or an image of the bundle, as hosts see it.
type Artifact struct {
	Name, Component, Version string
	SHA256                   string
	// Mounted is its place below Machine.Artifacts.
	Mounted string
	// Identity of the file on this computer (bundle.Identity), empty if it is not here.
	Identity string
	// Image is the reference that the file gives once imported; empty for programs.
	Image string
}

// Path is where the artifact is found on a host.
func (a Artifact) Path() string {
	if a.Image != "" {
		return path.Join(programDir, a.Component, a.Version, "images", path.Base(a.Mounted))
	}
	return path.Join(programDir, a.Component, a.Version, "bin", a.Name)
}

// EncryptionKey is a key for Secrets at rest.
type EncryptionKey struct {
	// Name goes with all that the key encrypts; two keys of a cluster never have the same.
	Name string
	// Key is 32 bytes.
	Key secret.Bytes
}

// node is one node's view of the input: what the tables in files.go and units.go are functions of.
type node struct {
	*Input
	spec.Node
	machine spec.Machine
	facts   Facts
	certs   []certs.File
	*texts
}

// texts are what nodes have in common: most of a worker's files are those of every other, and are made and kept once.
type texts struct {
	made map[string][]byte // by path, where that is all that matters
	kept map[string]File   // by content
}

// file is regular, for content that other nodes may have as well.
func (t *texts) file(content []byte, secret bool, why string) File {
	f, ok := t.kept[string(content)]
	if !ok {
		f = regular(content, false, "")
		t.kept[string(content)] = f
	}
	f.Secret, f.Why = secret, why
	return f
}

// once gives what render does, and asks it only once for a path.
func (t *texts) once(path string, render func() ([]byte, error)) ([]byte, error) {
	if text, ok := t.made[path]; ok {
		return text, nil
	}
	text, err := render()
	if err == nil {
		t.made[path] = text
	}
	return text, err
}

func (in *Input) nodes() []node {
	machines := map[string]spec.Machine{}
	for _, m := range in.Machines {
		machines[m.Name] = m
	}
	var members []certs.Node
	for _, m := range in.Machines {
		members = append(members, certsNode(m))
	}
	files, shared := in.PKI.FilesOf(members), &texts{made: map[string][]byte{}, kept: map[string]File{}}
	var nodes []node
	for _, n := range in.Cluster.Nodes() {
		m, ok := machines[n.Name]
		if !ok {
			continue // it has no machine yet, and this run makes none
		}
		facts, ok := in.Facts[n.Name]
		if !ok {
			facts = Facts{CgroupV2: true, SysResource: true, ReadSearch: true, ConntrackWritable: true, ResolvConf: "/etc/resolv.conf"}
		}
		nodes = append(nodes, node{Input: in, Node: n, machine: m, facts: facts, certs: files[n.Name], texts: shared})
	}
	return nodes
}

func (n node) controlPlane() bool { return n.Role == spec.ControlPlane }

func (n node) flannel() bool { return n.Cluster.Spec.Network.Plugin == "flannel" }

// address is where other nodes reach this one.
func (n node) address() string { return n.machine.Address.String() }

// path of an artifact that the bundle must have.
func (n node) path(artifact string) string { return n.Artifacts[artifact].Path() }

// controlPlanes are the addresses of all API servers and etcd members, by node name.
func (in *Input) controlPlanes() []spec.Machine {
	var machines []spec.Machine
	for _, m := range in.Machines {
		if m.Role == spec.ControlPlane {
			machines = append(machines, m)
		}
	}
	return machines
}

// ours are the control planes that may speak for the cluster.
func (in *Input) ours() []spec.Machine {
	return slices.DeleteFunc(in.controlPlanes(), func(m spec.Machine) bool { return !in.speaks(m.Name) })
}

// speaks says whether a control plane may speak for the cluster: a host that is part of another one speaks for that, and one
// with the data of another beginning for what the cluster was.
func (in *Input) speaks(name string) bool {
	f := in.Facts[name]
	return !strange(*in, f) && (in.RebuildEmpty || !f.EtcdData || !otherGeneration(*in, f))
}

// APIServers are the "address:6443" of every control plane.
func (in *Input) APIServers() []string {
	var servers []string
	for _, m := range in.controlPlanes() {
		servers = append(servers, netip.AddrPortFrom(m.Address, apiPort).String())
	}
	return servers
}

// flags renders a command line from slipway's flags and the user's, whose win. Sorted, so that order never differs.
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

// quote makes a word safe in ExecStart= (systemd.service(5), "Command lines").
func quote(word string) string {
	word = strings.NewReplacer(`%`, `%%`, `$`, `$$`).Replace(word)
	if !strings.ContainsAny(word, " \t\n\"'\\;") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(word) + `"`
}
