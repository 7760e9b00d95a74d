package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Before is the known previous input: all of it may be empty.
type Before struct {
	Applied *Applied
	// Up is what the state records of a cluster that has been up; nil if it has not.
	Up *Up
	// Slipway is the current version.
	Slipway string
	// PKI is the PKI before certificates were issued, for the reasons in Issued.
	PKI    *certs.PKI
	Issued []certs.Change
	// EncryptionKeys are the previous keys of the API servers; nil if unknown.
	EncryptionKeys []stack.EncryptionKey
}

// Causes are the reasons for the desired state, by Change.Key.
type Causes struct {
	reasons map[string][]string
	// before and now are digests of the previous and the current desired state, as far as these can
	// differ; before is nil if unknown.
	before, now map[string]string
	// otherwise is the reason if no factor explains a change; slipway is the reason for a change
	// that another version requires.
	otherwise, slipway string
}

// factor is one difference from the previous input.
type factor struct {
	reason string
	put    func(*stack.Input) error
}

// maxFactors bounds the computation: if more has changed, the reasons are not distinguished.
const maxFactors = 24

// CausesOf finds the reasons for the desired state: it computes what that would be if only one
// thing had changed since before, such as a field of the spec, a certificate or the bundle. So no
// table of dependencies has to be maintained. desired is stack.Desired, or remembers its results.
func CausesOf(now stack.Input, was Before, desired func(stack.Input) (stack.State, error)) Causes {
	base := now
	factors := append(was.certificates(&base), was.encryption(&base)...)
	if a := was.Applied; a != nil {
		more, err := a.factors(now, &base)
		if err != nil {
			return Causes{} // an older slipway's record cannot be read: nothing is known
		}
		factors = append(factors, more...)
	} else if len(factors) == 0 {
		return Causes{}
	}
	c := Causes{reasons: map[string][]string{}, otherwise: summary(factors)}
	wishes := func(in stack.Input) map[string]string {
		state, err := desired(in)
		if err != nil {
			return nil
		}
		return digests(in, state)
	}
	before, wanted := map[string]string{}, map[string]string{}
	if len(factors) > 0 { // otherwise both are the same, whatever they are
		before, wanted = wishes(base), wishes(now)
	}
	if len(factors) > maxFactors {
		factors = nil
	}
	for _, f := range factors {
		in := base
		if f.put(&in) != nil {
			continue // invalid without another field, whose factor explains it
		}
		for key, wish := range wishes(in) {
			if old, ok := before[key]; !ok || old != wish {
				c.reasons[key] = append(c.reasons[key], f.reason)
			}
		}
	}
	if a := was.Applied; a != nil {
		c.before, c.now, c.slipway = before, wanted, a.otherSlipway(was.Slipway)
	}
	return c
}

// summary is the reason for a change that no single factor explains.
func summary(factors []factor) string {
	if len(factors) == 0 {
		return "another host or another version of slipway requires other content"
	}
	if len(factors) > maxFactors {
		return fmt.Sprintf("%d fields, certificates and artifacts changed", len(factors))
	}
	var reasons []string
	for _, f := range factors {
		reasons = append(reasons, f.reason)
	}
	return strings.Join(reasons, ", ")
}

// otherSlipway is the reason for a change that the current version requires and the recorded one
// did not; empty if they are the same.
func (a *Applied) otherSlipway(current string) string {
	if a.Slipway == current {
		return ""
	}
	return fmt.Sprintf("slipway %s requires it, %s did not", current, a.Slipway)
}

// digests returns a digest of everything that is desired, by Change.Key.
func digests(in stack.Input, state stack.State) map[string]string {
	all := map[string]string{}
	put := func(host string, kind Kind, name, wish string) {
		all[Change{Host: host, Kind: kind, Name: name}.Key()] = wish
	}
	for host, h := range state.Hosts {
		for p, f := range h.Files {
			put(host, fileKind(f), p, f.Digest)
		}
		for name, u := range h.Units {
			put(host, UnitChange, name, u.Inputs)
		}
		for name := range h.Modules {
			put(host, ModuleChange, name, "")
		}
		for name := range h.Accounts {
			put(host, AccountChange, name, "")
		}
		for name := range h.Images {
			put(host, ImageChange, name, "")
		}
	}
	for name, n := range state.Nodes {
		put(name, NodeChange, name, n.Version)
		for k, v := range n.Labels {
			put(name, LabelChange, k, v)
		}
		for k, v := range n.Taints {
			put(name, TaintChange, k, v)
		}
	}
	if text, err := stack.Manifests(in); err == nil {
		for _, document := range bytes.Split(text, []byte("\n---\n")) {
			put("", ObjectChange, objectName(document), stack.Digest(document))
		}
	}
	return all
}

// objectName returns a manifest's name in the form that kube.Change uses.
func objectName(document []byte) string {
	var o struct {
		Kind     string `json:"kind"`
		Metadata struct{ Namespace, Name string }
	}
	if err := yaml.Unmarshal(document, &o); err != nil || o.Metadata.Namespace == "" {
		return o.Kind + " " + o.Metadata.Name
	}
	return o.Kind + " " + o.Metadata.Namespace + "/" + o.Metadata.Name
}

// certificates puts the previous PKI into base, and returns a factor for every kind of certificate
// that was issued.
func (b Before) certificates(base *stack.Input) []factor {
	if b.PKI == nil {
		return nil
	}
	now := base.PKI
	old := *now
	old.Material = maps.Clone(now.Material)
	factors := b.rotation(now, &old)
	groups := map[string][]string{}
	for _, c := range b.Issued {
		if item, ok := b.PKI.Material[c.Name]; ok {
			old.Material[c.Name] = item
		}
		kind, _, _ := strings.Cut(c.Name, "@")
		reason := "certificate " + kind + ": " + c.Detail
		groups[reason] = append(groups[reason], c.Name)
	}
	base.PKI = &old
	for _, reason := range slices.Sorted(maps.Keys(groups)) {
		factors = append(factors, factor{reason, func(in *stack.Input) error {
			mixed := *in.PKI
			mixed.Material = maps.Clone(mixed.Material)
			for _, name := range groups[reason] {
				mixed.Material[name] = now.Material[name]
			}
			in.PKI = &mixed
			return nil
		}})
	}
	return factors
}

// rotation puts the CAs of the previous stage into old.
func (b Before) rotation(now, old *certs.PKI) []factor {
	r := now.Rotation
	if r == nil {
		return nil
	}
	take := func(to, from *certs.PKI) {
		to.Rotation, to.Other = from.Rotation, from.Other
		for _, name := range r.Names {
			if item, ok := from.Material[name]; ok {
				to.Material[name] = item
			}
		}
	}
	take(old, b.PKI)
	return []factor{{r.String(), func(in *stack.Input) error {
		mixed := *in.PKI
		mixed.Material = maps.Clone(mixed.Material)
		take(&mixed, now)
		in.PKI = &mixed
		return nil
	}}}
}

// encryption puts the previous keys for Secrets at rest into base, and returns a factor if they
// have changed.
func (b Before) encryption(base *stack.Input) []factor {
	now := base.EncryptionKeys
	same := func(x, y stack.EncryptionKey) bool { return x.Name == y.Name && bytes.Equal(x.Key, y.Key) }
	if b.EncryptionKeys == nil || slices.EqualFunc(b.EncryptionKeys, now, same) {
		return nil
	}
	base.EncryptionKeys = b.EncryptionKeys
	return []factor{{"the keys for Secrets at rest changed", func(in *stack.Input) error {
		in.EncryptionKeys = now
		return nil
	}}}
}

// factors puts the previous spec and bundle into base, and returns a factor for each difference
// from now.
func (a *Applied) factors(now stack.Input, base *stack.Input) ([]factor, error) {
	var was, is any
	text, err := json.Marshal(now.Cluster)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(json.Unmarshal(a.Spec, &was), json.Unmarshal(text, &is)); err != nil {
		return nil, err
	}
	changed := changedFields(was, is, nil)
	if len(changed) > 0 {
		if err := a.setSpec(base, now, was); err != nil {
			return nil, err
		}
	}
	var factors []factor
	for _, p := range changed {
		factors = append(factors, factor{p.String() + " changed", func(in *stack.Input) error {
			return a.setSpec(in, now, p.graft(was, is))
		}})
	}
	if changed := a.bundles(now, base); changed {
		factors = append(factors, factor{"the bundle changed", func(in *stack.Input) error {
			in.Artifacts = now.Artifacts
			return nil
		}})
	}
	return factors, nil
}

// setSpec puts a spec, given as a JSON tree, into in, with the machines of its nodes.
func (a *Applied) setSpec(in *stack.Input, now stack.Input, tree any) error {
	text, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	if in.Cluster, err = spec.Parse("applied", text); err != nil {
		return err
	}
	machines := map[string]spec.Machine{}
	for _, m := range a.Machines {
		machines[m.Name] = spec.Machine{Name: m.Name, Pool: m.Pool, Role: m.Role, Address: m.Address, Artifacts: m.Artifacts, Arch: m.Arch}
	}
	for _, m := range now.Machines {
		machines[m.Name] = m
	}
	in.Machines = nil
	for _, n := range in.Cluster.Nodes() {
		in.Machines = append(in.Machines, machines[n.Name])
	}
	return nil
}

// HasCause reports whether Explain has to find the causes of any changes: to compute them takes as
// long as all that is desired, several times. Those of drift are known.
func HasCause(changes []Change) bool {
	return slices.ContainsFunc(changes, func(c Change) bool { return c.Kind == ObjectChange || c.hasCause() })
}

// hasCause reports whether something that is wanted now and was not before caused the change.
func (c Change) hasCause() bool {
	return c.Cause == Wanted && c.Action != Await && (c.Kind != NodeChange || c.Action != Create) && !c.asWanted() && !c.RemovesVersion()
}

// Explain replaces the reasons of changes that are not drift by their causes, as far as these are
// known.
func Explain(changes []Change, causes Causes) {
	for i := range changes {
		c := &changes[i]
		key := c.Key()
		// If only another version of slipway wants a change, it is the same by this version's
		// digests.
		same := causes.before != nil && causes.before[key] == causes.now[key]
		if c.Kind == ObjectChange && causes.before != nil && !same {
			c.Cause = Wanted
		}
		if !c.hasCause() {
			continue
		}
		c.Reason = causes.reason(*c, same)
	}
}

// reason returns the cause of a change that is wanted, or its present reason if the cause is
// unknown. same means that the previous desired state had the same.
func (causes Causes) reason(c Change, same bool) string {
	switch reasons := causes.reasons[c.Key()]; {
	case len(reasons) > 0:
		return strings.Join(reasons, ", ")
	case same && causes.slipway != "":
		return causes.slipway
	case same && c.Action != Delete:
		return c.Reason + "; an earlier apply ended before it"
	case causes.before != nil:
		return causes.otherwise
	}
	return c.Reason
}
