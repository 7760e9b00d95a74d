package stack

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/templates"
)

// Query returns a state with the keys of Desired's, and without contents: it names what has to be observed. Contents of
// files depend on facts, which are not known before; the list of files does not, except for the programs: those are of the
// architecture that is recorded, and none if there are no artifacts yet.
func Query(in Input) (State, error) {
	state, same := State{Hosts: map[string]HostState{}}, map[string]HostState{}
	for _, n := range in.Nodes() {
		host, err := n.query(same)
		if err != nil {
			return State{}, fmt.Errorf("desired state of %s: %w", n.Name, err)
		}
		state.Hosts[n.Name] = host
	}
	return state, nil
}

// query shares its result with other nodes of which the same is asked.
func (n Node) query(same map[string]HostState) (HostState, error) {
	var paths []string
	for _, f := range n.certs {
		paths = append(paths, f.Path)
	}
	for _, c := range n.components {
		paths = append(paths, c.paths(n)...)
	}
	if n.ControlPlane() {
		paths = append(paths, InitializedFile)
	}
	paths = append(paths, OwnedFile)
	modules, accounts := n.moduleNames(), n.accounts()
	key := strings.Join(slices.Concat([]string{n.programsKey()}, paths, []string{""}, modules, []string{""}, accounts), "\n")
	if host, ok := same[key]; ok {
		return host, nil
	}
	files := map[string]File{}
	if len(n.Artifacts) > 0 {
		programs, err := n.programs()
		if err != nil {
			return HostState{}, err
		}
		files = maps.Clone(programs)
	}
	for _, path := range paths {
		files[path] = File{}
	}
	same[key] = HostState{Files: files, Sysctls: sysctlTable, Modules: all(modules), Accounts: all(accounts)}
	return same[key], nil
}

// paths returns the component's files on a node, without programs and certificates.
func (c Component) paths(n Node) []string {
	var paths []string
	for _, f := range c.Files {
		if narrowed(f.On, n) {
			paths = append(paths, f.Path)
		}
	}
	for _, k := range c.Kubeconfigs {
		paths = append(paths, k.path())
	}
	for _, k := range c.Embedded {
		paths = append(paths, k.path())
	}
	if c.Unit != nil {
		paths = append(paths, UnitDir+c.Unit.Name)
	}
	if c.Timer != nil {
		paths = append(paths, UnitDir+c.Timer.program(), UnitDir+c.Timer.timer())
	}
	return paths
}

// Desired computes the desired state of every host. It is pure: equal inputs return equal states.
func Desired(in Input) (State, error) {
	state := State{Hosts: map[string]HostState{}, Nodes: map[string]kube.Node{}, Members: map[string]Member{}}
	nodes := in.Nodes()
	hosts, errs := make([]HostState, len(nodes)), make([]error, len(nodes))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, n := range nodes {
		group.Go(func() error {
			hosts[i], errs[i] = n.desired()
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by node
	for i, n := range nodes {
		if errs[i] != nil {
			return State{}, fmt.Errorf("desired state of %s: %w", n.Name, errs[i])
		}
		state.Hosts[n.Name] = hosts[i]
		state.Nodes[n.Name] = n.apiNode()
		if n.ControlPlane() {
			state.Members[n.Name] = Member{PeerURL: peerURL(n.machine), Healthy: true}
		}
	}
	absent(state.Nodes)
	return state, nil
}

func (n Node) desired() (HostState, error) {
	programs, err := n.programs()
	if err != nil {
		return HostState{}, err
	}
	files := maps.Clone(programs)
	if err := n.configuration(files); err != nil {
		return HostState{}, err
	}
	if err := n.pki(files); err != nil {
		return HostState{}, err
	}
	units, err := n.units(files)
	if err != nil {
		return HostState{}, err
	}
	if n.ControlPlane() {
		files[InitializedFile] = Regular([]byte(n.Cluster.Metadata.Name+"\n"), false, "the cluster has been up")
	}
	files[OwnedFile] = Regular(OwnershipWith(files, n.facts.Superseded), false, "what slipway owns here")
	state := HostState{
		Files: files, Units: units, Sysctls: sysctlTable, Modules: all(n.moduleNames()), Accounts: all(n.accounts()), Images: all(n.images()), Facts: n.facts,
		KeepVersions: n.Cluster.Spec.Bundle.Kept(),
	}
	if n.ControlPlane() && len(n.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT) > 0 {
		state.Authentication = ConfigHash(files[AuthenticationFile].Content)
	}
	return state, nil
}

// programsKey is all that the programs of a node depend on, besides the bundles.
func (n Node) programsKey() string {
	key := n.Artifacts.Taken(n.arch()) + "\n" + n.machine.Artifacts
	for _, c := range n.components {
		key += "\n" + c.Name
	}
	return key
}

// programs returns the links to (or copies of) the bundle's artifacts on a host. Nodes share the
// result: it must not be changed.
func (n Node) programs() (map[string]File, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := n.programsKey()
	if files, ok := n.texts.programs[key]; ok {
		return files, nil
	}
	files := map[string]File{}
	for _, c := range n.components {
		for _, name := range c.artifacts() {
			artifact, ok := n.set[name]
			if !ok {
				return nil, missingArtifact(name)
			}
			files[artifact.Path()] = n.artifactFile(artifact)
		}
		for _, command := range c.Commands {
			files[command.At] = link(n.path(command.Name), "at a path that does not change")
		}
	}
	n.texts.programs[key] = files
	return files, nil
}

// configuration adds the components' configuration to files.
func (n Node) configuration(files map[string]File) error {
	for _, c := range n.components {
		for _, row := range c.Files {
			if !narrowed(row.On, n) {
				continue
			}
			content, err := row.Render(n)
			if err != nil {
				return err
			}
			f := n.file(content, row.Secret, "configuration")
			if row.Public {
				f.Mode = 0o644
			}
			files[row.Path] = f
		}
	}
	return nil
}

// accounts returns the system users that the node's components need.
func (n Node) accounts() []string {
	var names []string
	for _, c := range n.components {
		names = append(names, c.Accounts...)
	}
	return names
}

// apiNode returns the node as the API should have it.
func (n Node) apiNode() kube.Node {
	settings := kube.Node{Labels: maps.Clone(n.Labels), Taints: map[string]string{}, Version: n.Cluster.Spec.Kubernetes.Version, Ready: n.hasNetwork()}
	if n.ControlPlane() {
		if settings.Labels == nil {
			settings.Labels = map[string]string{}
		}
		settings.Labels["node-role.kubernetes.io/control-plane"] = ""
		settings.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
	}
	for _, t := range n.AllTaints() {
		settings.Taints[t.Key+":"+t.Effect] = t.Value
	}
	return settings
}

// hasNetwork reports whether a component provides the pod network.
func (n Node) hasNetwork() bool {
	return slices.ContainsFunc(n.components, func(c Component) bool { return c.Network })
}

// absent completes nodes with the labels that only other nodes have: a key that the spec uses
// belongs to the spec on every node. Keys that it does not use belong to others; so do those in
// Kubernetes' own domains, which clouds and operators use too, except for the roles.
func absent(nodes map[string]kube.Node) {
	used := map[string]bool{}
	for _, n := range nodes {
		for key := range n.Labels {
			prefix, _, _ := strings.Cut(key, "/")
			foreign := prefix == "kubernetes.io" || strings.HasSuffix(prefix, ".kubernetes.io")
			if !foreign || prefix == "node-role.kubernetes.io" {
				used[key] = true
			}
		}
	}
	keys := slices.Sorted(maps.Keys(used))
	for name, n := range nodes {
		n.Absent = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { _, has := n.Labels[key]; return has })
		nodes[name] = n
	}
}

func all(names []string) map[string]bool {
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

// units renders every unit file into files, and returns the desired state of each unit.
func (n Node) units(files map[string]File) (map[string]Unit, error) {
	units := map[string]Unit{}
	for _, c := range n.components {
		if c.Unit != nil {
			if err := n.service(*c.Unit, files, units); err != nil {
				return nil, err
			}
		}
		if c.Timer != nil {
			if err := n.timer(*c.Timer, files, units); err != nil {
				return nil, err
			}
		}
	}
	return units, nil
}

func (n Node) service(s Service, files map[string]File, units map[string]Unit) error {
	u := s.Text(n)
	process := u
	process.Begin = nil
	plain, err := templates.RenderUnit(process)
	if err != nil {
		return err
	}
	inputs, reads := []string{Digest(plain)}, []string{path.Join(UnitDir, s.Name)}
	programs := s.Programs
	if s.Images {
		programs = slices.Concat(programs, n.imageNames())
	}
	for _, name := range programs {
		inputs = append(inputs, n.set[name].SHA256)
		reads = append(reads, n.path(name))
	}
	for _, p := range s.Files {
		f, ok := files[p]
		if !ok {
			return fmt.Errorf("%s reads %s, which is not on the host", s.Name, p)
		}
		inputs = append(inputs, f.Digest)
		reads = append(reads, p)
	}
	for _, p := range slices.Sorted(maps.Keys(s.Partly)) {
		inputs = append(inputs, Digest(s.Partly[p]()))
		reads = append(reads, p)
	}
	for _, name := range s.Issuers {
		inputs = append(inputs, Digest(n.PKI.Material[name].Cert))
	}
	if n.Generation != "" { // its memory is of the previous generation, and a kubelet registers only when it starts
		inputs = append(inputs, n.Generation)
	}
	u.Inputs = Digest([]byte(strings.Join(inputs, "\n")))[:16]
	text, err := templates.RenderUnit(u)
	if err != nil {
		return err
	}
	files[UnitDir+s.Name] = n.file(text, false, "unit")
	units[s.Name] = Unit{Enabled: true, Active: true, Inputs: u.Inputs, Reads: reads, MaxAge: s.MaxAge}
	return nil
}

// timer renders the units of a timer into files, and returns the timer's desired state in units.
func (n Node) timer(t Timer, files map[string]File, units map[string]Unit) error {
	service, err := templates.RenderUnit(t.Service(n))
	if err != nil {
		return err
	}
	timer, err := templates.RenderTimer(templates.Timer{Description: t.Description, Service: t.program(), Every: t.Every})
	if err != nil {
		return err
	}
	files[UnitDir+t.program()] = n.file(service, false, "unit")
	files[UnitDir+t.timer()] = n.file(timer, false, "unit")
	units[t.timer()] = Unit{Enabled: true, Active: true, Reads: []string{UnitDir + t.timer()}}
	return nil
}

func link(target, why string) File {
	return File{Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: target, Content: []byte(target), Why: why}
}

// artifactFile returns a link into the bundle that the machine mounts, so that nothing is copied;
// or, if it has no mount, a file that is copied.
func (n Node) artifactFile(a Artifact) File {
	why := a.Component + " " + a.Version
	if n.machine.Artifacts == "" {
		mode := fs.FileMode(0o755)
		if a.Image != "" {
			mode = 0o644
		}
		return File{Mode: mode, Owner: "root:root", Digest: a.SHA256, Program: true, Sum: a.SHA256, Local: a.Local, Size: a.Size, Why: why}
	}
	f := link(path.Join(n.machine.Artifacts, a.Mounted), why)
	f.Program, f.Sum, f.Identity = true, a.SHA256, a.Identity
	return f
}

// Regular returns a file of root's that no other user may read (CIS 1.1 and 4.1 require that for
// configuration and certificates, too).
func Regular(content []byte, secret bool, why string) File {
	return File{Mode: 0o600, Owner: "root:root", Digest: Digest(content), Content: content, Secret: secret, Why: why}
}

// Union returns the wanted files, and those that slipway once wrote, of which only the digest is known.
func Union(want map[string]File, owned map[string]string) map[string]File {
	all := maps.Clone(want)
	for p, digest := range owned {
		if _, ok := all[p]; !ok {
			all[p] = File{Digest: digest}
		}
	}
	return all
}

// Ownership lists the files, and itself, sorted by path: digest, tab, path.
func Ownership(files map[string]File) []byte {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if p != OwnedFile {
			b.WriteString(files[p].Digest + "\t" + p + "\n")
		}
	}
	b.WriteString("\t" + OwnedFile + "\n") // it cannot hold its own digest
	return []byte(b.String())
}

func missingArtifact(name string) error {
	return fmt.Errorf("the bundle has no artifact %q: build or download it again", name)
}
