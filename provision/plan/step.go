package plan

import (
	"cmp"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// Step is one thing that apply does: pure data. Runner binds it to hosts and to the API.
type Step struct {
	// Name is unique within a schedule: the host, or "cluster", and the verb's title.
	Name string `json:"name"`
	Host string `json:"host,omitempty"`
	Verb Verb   `json:"verb"`
	// Deps are the names of the steps that must have succeeded before.
	Deps []string `json:"deps,omitempty"`
	// Changes that it carries out. A step without any is a gate: it waits until something is proven.
	Changes []Change `json:"-"`
}

// Verb is what a step does.
type Verb string

// The verbs.
const (
	// Install makes a host of a cluster that is not up equal to its desired state, but for what needs the API.
	Install Verb = "install"
	// ProveDown proves that a cluster which has been up is down, before its control planes are installed all at once.
	ProveDown Verb = "prove-down"
	// StartLate starts the units that need the API.
	StartLate Verb = "start-late"
	// Apply makes a host of a living cluster equal to its desired state, and returns when what it started is up.
	Apply Verb = "apply"
	// AwaitUnits waits until all units of a host are active and do their work (an API server: /readyz).
	AwaitUnits Verb = "await-units"
	// ProveSpare proves that etcd keeps its quorum without the member of a host.
	ProveSpare Verb = "prove-spare"
	// AwaitEtcd waits until the member of a host is healthy.
	AwaitEtcd Verb = "await-etcd"
	// AwaitAPI waits until the API answers, whichever server it is.
	AwaitAPI Verb = "await-api"
	// ApplyManifests applies the objects that every cluster gets.
	ApplyManifests Verb = "apply-manifests"
	// EnsureNode waits for a node, gives it its labels and taints, and waits until it is Ready.
	EnsureNode Verb = "ensure-node"
	// RecordUp has the state record that the cluster is up, with the ID that etcd gave it.
	RecordUp Verb = "record-up"
	// AwaitUsable waits until the cluster can be used: DNS answers, and nothing keeps pods from nodes.
	AwaitUsable Verb = "await-usable"
	// Seal records on a control plane that the cluster has been up.
	Seal Verb = "seal"
	// AwaitServed waits until the endpoints of a host show the certificates that are in its files.
	AwaitServed Verb = "await-served"
	// AwaitPresented waits until the clients on a host show theirs, and AwaitTokens until no pod has a token of another
	// key than the one in use.
	AwaitPresented Verb = "await-presented"
	AwaitTokens    Verb = "await-tokens"
	// ProveTrust proves that they take clients of the authorities that a rotation brings, and ProveRefusal that they do
	// not take those of the authorities that it has dropped.
	ProveTrust   Verb = "prove-trust"
	ProveRefusal Verb = "prove-refusal"
	// AwaitRootCA waits until pods are told whom to trust.
	AwaitRootCA Verb = "await-root-ca"
	// AwaitClientCAs waits until extension API servers are told to trust the authorities that a rotation brings.
	AwaitClientCAs Verb = "await-client-cas"
	// DropClientCAs takes from extension API servers the authorities that a rotation has dropped.
	DropClientCAs Verb = "drop-client-cas"
	// RollWorkloads replaces pods that may know only the authority or the token of before.
	RollWorkloads Verb = "roll-workloads"
	// AwaitEncryption waits until an API server has loaded the keys of Secrets at rest.
	AwaitEncryption Verb = "await-encryption"
	// AwaitAuthentication waits until an API server takes those whom its file says.
	AwaitAuthentication Verb = "await-authentication"
	// RewriteSecrets has every Secret encrypted anew, and proves that none is left under another key.
	RewriteSecrets Verb = "rewrite-secrets"
)

// verbTable gives every verb its title, in the order of a host's steps, and the changes that it carries out.
// Every change is carried out by exactly one verb of a schedule.
var verbTable = []struct {
	verb    Verb
	title   string
	carries func(Change) bool
}{
	{ProveSpare, "prove that etcd can spare it", nil},
	{ProveDown, "prove that it is down", nil},
	{Install, "install", func(c Change) bool { return carriedByApply(c) && !isLateUnit(c) }},
	{Apply, "apply changes", carriedByApply},
	{AwaitAPI, "wait for the API", nil},
	{ApplyManifests, "apply manifests", func(c Change) bool { return c.Kind == ObjectChange }},
	{StartLate, "start what needs the API", isLateUnit},
	{AwaitUnits, "wait for the units", func(c Change) bool { return c.Action == Await }},
	{AwaitEtcd, "wait for etcd", func(c Change) bool { return c.Kind == MemberChange }},
	{AwaitAuthentication, "wait until its API server knows whom to take", nil},
	{RecordUp, "record in the state that it is up", nil},
	{Seal, "record that the cluster is up", func(c Change) bool { return c.Name == stack.InitializedFile }},
	{EnsureNode, "wait for the node", func(c Change) bool {
		return c.Kind == NodeChange || c.Kind == LabelChange || c.Kind == TaintChange
	}},
	{AwaitUsable, "wait until it can be used", nil},
	{AwaitServed, "wait until its certificates are served", nil},
	{AwaitPresented, "wait until its clients show new certificates", nil},
	{ProveTrust, "prove that it trusts the new", nil},
	{ProveRefusal, "prove that it refuses the old", nil},
	{AwaitEncryption, "wait for the encryption keys", nil},
	{AwaitRootCA, "wait until pods are told whom to trust", nil},
	{AwaitClientCAs, "wait until extension API servers are told of the new", nil},
	{DropClientCAs, "take the old from extension API servers", nil},
	{RollWorkloads, "roll workloads", nil},
	{AwaitTokens, "wait until tokens of the old key are gone", nil},
	{RewriteSecrets, "encrypt every Secret anew", nil},
}

func carriedByApply(c Change) bool {
	return c.Kind.onHost() && c.Name != stack.InitializedFile && c.Action != Await
}

// isLateUnit says whether a change is of a late unit that has to be started.
func isLateUnit(c Change) bool {
	return c.Action != Await && c.Kind == UnitChange && c.Action != Delete && stack.IsLate(c.Name)
}

// Gate says whether the step changes nothing.
func (s Step) Gate() bool {
	switch s.Verb {
	case AwaitUnits, ProveSpare, ProveDown, AwaitEtcd, AwaitAPI, AwaitUsable, AwaitServed, AwaitPresented, AwaitTokens, ProveTrust, ProveRefusal,
		AwaitRootCA, AwaitClientCAs, AwaitEncryption, AwaitAuthentication:
		return true
	case EnsureNode:
		return !slices.ContainsFunc(s.Changes, func(c Change) bool { return c.Kind != NodeChange })
	default:
		return false
	}
}

// newStep makes a step with those of its host's changes that it carries out.
func newStep(verb Verb, host string, changes []Change, deps []string) Step {
	s := Step{Host: host, Verb: verb, Deps: deps}
	for _, row := range verbTable {
		if row.verb != verb {
			continue
		}
		s.Name = strings.Join([]string{cmp.Or(host, "cluster"), row.title}, ": ")
		for _, c := range changes {
			if row.carries != nil && row.carries(c) {
				s.Changes = append(s.Changes, c)
			}
		}
	}
	return s
}
