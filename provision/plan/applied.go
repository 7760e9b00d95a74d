package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Applied records the input of the last apply that completed. It serves only to explain changes:
// the state of the hosts is observed. It holds no secret.
type Applied struct {
	// Spec is the resolved spec, in JSON.
	Spec json.RawMessage `json:"spec"`
	// Machines, as far as the desired state depends on them.
	Machines []AppliedMachine `json:"machines"`
	// Programs are the artifacts of the bundles.
	Programs stack.Sets `json:"programs,omitempty"`
	// Artifacts are those of the bundle in the record of an older slipway, which knew one
	// architecture.
	Artifacts stack.Set `json:"artifacts,omitempty"`
	// Slipway is the version of slipway.
	Slipway string `json:"slipway"`
}

// AppliedMachine is a spec.Machine without its access data.
type AppliedMachine struct {
	Name      string     `json:"name"`
	Pool      string     `json:"pool"`
	Role      spec.Role  `json:"role"`
	Address   netip.Addr `json:"address"`
	Artifacts string     `json:"artifacts,omitempty"`
	Arch      string     `json:"arch,omitempty"`
}

// olderArch is the architecture of all machines of an older slipway.
const olderArch = "amd64"

// Architectures returns those of the machines, by name; nil if nothing was applied.
func (a *Applied) Architectures() map[string]string {
	if a == nil {
		return nil
	}
	all := map[string]string{}
	for _, m := range a.Machines {
		if all[m.Name] = m.Arch; a.Programs == nil {
			all[m.Name] = olderArch
		}
	}
	return all
}

// sets returns the recorded artifacts.
func (a *Applied) sets() stack.Sets {
	if a.Programs == nil {
		return stack.Sets{olderArch: a.Artifacts}
	}
	return a.Programs
}

// NewApplied records the input in, and the version of slipway that applied it.
func NewApplied(in stack.Input, slipway string) (*Applied, error) {
	text, err := json.Marshal(in.Cluster)
	if err != nil {
		return nil, fmt.Errorf("record what was applied: %w", err)
	}
	a := &Applied{Spec: text, Programs: in.Artifacts, Slipway: slipway}
	for _, m := range in.Machines {
		a.Machines = append(a.Machines, AppliedMachine{m.Name, m.Pool, m.Role, m.Address, m.Artifacts, m.Arch})
	}
	return a, nil
}

// bundles puts the previous bundles into base, and reports whether one has changed. That a bundle for
// another architecture has been added changes no machine.
func (a *Applied) bundles(now stack.Input, base *stack.Input) (changed bool) {
	sets := maps.Clone(now.Artifacts)
	for arch, was := range a.sets() {
		is, ok := now.Artifacts[arch]
		if !ok || is.Same(was) {
			continue
		}
		// Artifacts that this slipway needs and the old bundle lacked are taken from the new one.
		sets[arch], changed = maps.Clone(is), true
		maps.Copy(sets[arch], was)
	}
	if changed {
		base.Artifacts = sets
	}
	return changed
}
