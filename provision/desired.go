package provision

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"slipway.dev/slipway/templates"
)

// Desired computes what should be on every host. It is pure: equal inputs give equal states.
func Desired(in Input) (State, error) {
	nodes, err := in.nodes()
	if err != nil {
		return State{}, err
	}
	state := State{Hosts: map[string]HostState{}}
	for _, n := range nodes {
		host, err := n.desired()
		if err != nil {
			return State{}, fmt.Errorf("desired state of %s: %w", n.Name, err)
		}
		state.Hosts[n.Name] = host
	}
	return state, nil
}

func (n node) desired() (HostState, error) {
	files, err := n.programs()
	if err != nil {
		return HostState{}, err
	}
	for _, row := range fileTable {
		if !row.on(n) {
			continue
		}
		content, err := row.render(n)
		if err != nil {
			return HostState{}, err
		}
		files[row.path] = regular(content, row.secret, "configuration")
	}
	if err := n.pki(files); err != nil {
		return HostState{}, err
	}
	units, err := n.units(files)
	if err != nil {
		return HostState{}, err
	}
	if n.controlPlane() {
		files[initializedFile] = regular([]byte(n.Cluster.Metadata.Name+"\n"), false, "the cluster has been up")
	}
	files[ownedFile] = regular(owned(files), false, "what slipway owns here")
	return HostState{Files: files, Units: units, Sysctls: sysctlTable, Facts: n.facts}, nil
}

// units renders every unit file into files and says how each unit should be.
func (n node) units(files map[string]File) (map[string]Unit, error) {
	units := map[string]Unit{}
	for _, row := range unitTable {
		if !row.on(n) {
			continue
		}
		u := row.unit(n)
		plain, err := templates.RenderUnit(u)
		if err != nil {
			return nil, err
		}
		inputs := []string{digest(plain)}
		for _, name := range row.programs {
			inputs = append(inputs, n.Artifacts[name].SHA256)
		}
		for _, p := range row.files {
			f, ok := files[p]
			if !ok {
				return nil, fmt.Errorf("%s reads %s, which is not on the host", row.name, p)
			}
			inputs = append(inputs, f.Digest)
		}
		u.Inputs = digest([]byte(strings.Join(inputs, "\n")))[:16]
		text, err := templates.RenderUnit(u)
		if err != nil {
			return nil, err
		}
		files[path.Join(unitDir, row.name)] = regular(text, false, "unit")
		units[row.name] = Unit{Enabled: true, Active: true, Inputs: u.Inputs}
	}
	return units, nil
}

// artifactFile is a link into the bundle that the machine sees, so that nothing is copied twice.
func (n node) artifactFile(a Artifact) File {
	return link(path.Join(n.machine.Artifacts, a.Mounted), a.Component+" "+a.Version)
}

// regular is a file of root's: secrets 0600, the rest 0644.
func regular(content []byte, secret bool, why string) File {
	mode := fs.FileMode(0o644)
	if secret {
		mode = 0o600
	}
	return File{Mode: mode, Owner: "root:root", Digest: digest(content), Content: content, Secret: secret, Why: why}
}

// owned lists the paths, and its own, sorted, one a line.
func owned(files map[string]File) []byte {
	paths := append(slices.Collect(maps.Keys(files)), ownedFile)
	slices.Sort(paths)
	return []byte(strings.Join(slices.Compact(paths), "\n") + "\n")
}

func missingArtifact(name string) error {
	return fmt.Errorf("the bundle has no artifact %q: build or download it again", name)
}
