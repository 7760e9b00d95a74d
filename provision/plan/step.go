package plan

import (
	"cmp"
	"slices"
	"time"

	"slipway.dev/slipway/provision/stack"
)

// Step is one action of apply: pure data. Runner binds it to hosts and to the API.
type Step struct {
	// Name is unique within a schedule: the host, or "cluster", and the verb's title.
	Name string `json:"name"`
	Host string `json:"host,omitempty"`
	Verb Verb   `json:"verb"`
	// Deps are the names of the steps that must have succeeded before.
	Deps []string `json:"deps,omitempty"`
	// Changes that it carries out. A step without any is a gate: it waits for a condition.
	Changes []Change `json:"-"`
}

// Verb is the kind of action of a step.
type Verb string

// The verbs.
const (
	// Deliver copies to a host what it lacks of the bundle, if it has no mount of it, and puts
	// nothing in place: it disturbs nothing, and may take long.
	Deliver Verb = "deliver"
	// Install makes a host of a cluster that is not up equal to its desired state, except for what
	// needs the API.
	Install Verb = "install"
	// ProveDown checks that a cluster which has been up is down, before its control planes are
	// installed all at once.
	ProveDown Verb = "prove-down"
	// StartLate starts the units that need the API.
	StartLate Verb = "start-late"
	// Apply makes a host of a running cluster equal to its desired state, and returns when the
	// units that it started are up.
	Apply Verb = "apply"
	// AwaitUnits waits until all units of a host are active and do their work (an API server: /readyz).
	AwaitUnits Verb = "await-units"
	// CheckQuorum checks that etcd keeps its quorum without the member of a host.
	CheckQuorum Verb = "prove-spare"
	// AwaitEtcd waits until the member of a host is healthy.
	AwaitEtcd Verb = "await-etcd"
	// AwaitAPI waits until any API server answers.
	AwaitAPI Verb = "await-api"
	// ApplyManifests applies the objects that every cluster gets.
	ApplyManifests Verb = "apply-manifests"
	// EnsureNode waits for a node, sets its labels and taints, and waits until it is Ready.
	EnsureNode Verb = "ensure-node"
	// RecordUp records in the state that the cluster is up, with etcd's ID of it.
	RecordUp Verb = "record-up"
	// AwaitUsable waits until the cluster can be used: DNS answers, and nothing keeps pods from nodes.
	AwaitUsable Verb = "await-usable"
	// MarkInitialized records on a control plane that the cluster has been up.
	MarkInitialized Verb = "seal"
	// AwaitServed waits until the endpoints of a host serve the certificates in its files.
	AwaitServed Verb = "await-served"
	// AwaitPresented waits until the clients on a host use their new certificates, and AwaitTokens
	// until no pod has a token of another key than the one in use.
	AwaitPresented Verb = "await-presented"
	AwaitTokens    Verb = "await-tokens"
	// ProveTrust checks that endpoints accept clients of the CAs that a rotation adds, and
	// ProveRefusal that they reject those of the CAs that it has dropped.
	ProveTrust   Verb = "prove-trust"
	ProveRefusal Verb = "prove-refusal"
	// AwaitRootCA waits until pods get the current CA bundle.
	AwaitRootCA Verb = "await-root-ca"
	// AwaitClientCAs waits until extension API servers are told to trust the CAs that a rotation
	// adds.
	AwaitClientCAs Verb = "await-client-cas"
	// DropClientCAs removes from extension API servers the CAs that a rotation has dropped.
	DropClientCAs Verb = "drop-client-cas"
	// RollWorkloads replaces pods that may know only the old CA or an old token.
	RollWorkloads Verb = "roll-workloads"
	// AwaitEncryption waits until an API server has loaded the keys of Secrets at rest.
	AwaitEncryption Verb = "await-encryption"
	// AwaitAuthentication waits until an API server uses its authentication file.
	AwaitAuthentication Verb = "await-authentication"
	// RemoveVersions removes old versions of programs from a host that nothing uses there.
	RemoveVersions Verb = "remove-versions"
	// RewriteSecrets re-encrypts every Secret, and proves that none is left under another key.
	RewriteSecrets Verb = "rewrite-secrets"
)

// verbRow is everything about a verb except its function, which is in package converge.
type verbRow struct {
	verb  Verb
	title string
	// carries selects the changes that a step carries out; nil is none. Every change is carried out by exactly one verb of a
	// schedule.
	carries func(Change) bool
	// gate reports whether a step with these changes changes nothing; nil is never.
	gate func([]Change) bool
	// writes means that the step may change something although it is a gate.
	writes bool
	// interruptible steps wait nearly all of the time: if the run is cancelled, they end at once,
	// as gates do.
	interruptible bool
	// timeout bounds the step; 0 is gateTimeout.
	timeout time.Duration
}

// How long a step may take.
const (
	gateTimeout = 5 * time.Minute
	// deliverTimeout is for slow connections: half a gigabyte at 200 kbit/s. A host that receives
	// nothing is noticed earlier.
	deliverTimeout = 6 * time.Hour
	// presentedTimeout is how long old connections may live: client-go checks its certificate every
	// 5 min.
	presentedTimeout = 7 * time.Minute
	// rollTimeout allows for what others delay: budgets, clients that write, people, and the number
	// of Secrets.
	rollTimeout = 24 * time.Hour
)

// verbTable is every verb, in the order of a host's steps.
var verbTable = []verbRow{
	{verb: CheckQuorum, title: "check that etcd keeps its quorum", gate: always},
	{verb: ProveDown, title: "check that it is down", gate: always},
	{verb: Deliver, title: "copy programs", interruptible: true, timeout: deliverTimeout},
	{verb: Install, title: "install", carries: func(c Change) bool { return carriedByApply(c) && !isLateUnit(c) }},
	{verb: Apply, title: "apply changes", carries: carriedByApply},
	{verb: AwaitAPI, title: "wait for the API", gate: always},
	{verb: ApplyManifests, title: "apply manifests", carries: func(c Change) bool { return c.Kind == ObjectChange }},
	{verb: StartLate, title: "start units that need the API", carries: isLateUnit},
	{verb: AwaitUnits, title: "wait for the units", carries: func(c Change) bool { return c.Action == Await }, gate: always},
	{verb: AwaitEtcd, title: "wait for etcd", carries: func(c Change) bool { return c.Kind == MemberChange }, gate: always},
	{verb: AwaitAuthentication, title: "wait for the authentication configuration", gate: always},
	{verb: RecordUp, title: "record in the state that it is up"},
	{verb: MarkInitialized, title: "record that the cluster is up", carries: func(c Change) bool { return c.Name == stack.InitializedFile }},
	{verb: EnsureNode, title: "wait for the node", carries: ofNode, gate: onlyAwaitsNode, writes: true, interruptible: true},
	{verb: AwaitUsable, title: "wait until it can be used", gate: always},
	{verb: AwaitServed, title: "wait until its certificates are served", gate: always},
	{verb: AwaitPresented, title: "wait until its clients use new certificates", gate: always, timeout: presentedTimeout},
	{verb: ProveTrust, title: "check that it trusts the new CA", gate: always},
	{verb: ProveRefusal, title: "check that it refuses the old CA", gate: always},
	{verb: AwaitEncryption, title: "wait for the encryption keys", gate: always},
	{verb: AwaitRootCA, title: "wait until pods have the CA bundle", gate: always},
	{verb: AwaitClientCAs, title: "wait until extension API servers have the new CA", gate: always},
	{verb: DropClientCAs, title: "remove the old CA from extension API servers"},
	{verb: RollWorkloads, title: "roll workloads", interruptible: true, timeout: rollTimeout},
	{verb: AwaitTokens, title: "wait until tokens of the old key are gone", gate: always, timeout: rollTimeout},
	{verb: RemoveVersions, title: "remove old versions", carries: Change.RemovesVersion},
	{verb: RewriteSecrets, title: "re-encrypt every Secret", timeout: rollTimeout},
}

// Verbs returns all verbs that a schedule can have, in the order of a host's steps.
func Verbs() []Verb {
	all := make([]Verb, len(verbTable))
	for i, row := range verbTable {
		all[i] = row.verb
	}
	return all
}

func (v Verb) row() verbRow {
	for _, row := range verbTable {
		if row.verb == v {
			return row
		}
	}
	return verbRow{verb: v}
}

func carriedByApply(c Change) bool {
	return c.Kind.onHost() && !c.RemovesVersion() && c.Name != stack.InitializedFile && c.Action != Await
}

// isLateUnit reports whether a change is of a late unit that must be started.
func isLateUnit(c Change) bool {
	return c.Action != Await && c.Kind == UnitChange && c.Action != Delete && stack.IsLate(c.Name)
}

func ofNode(c Change) bool {
	return c.Kind == NodeChange || c.Kind == LabelChange || c.Kind == TaintChange
}

func always([]Change) bool { return true }

func onlyAwaitsNode(changes []Change) bool {
	return !slices.ContainsFunc(changes, func(c Change) bool { return c.Kind != NodeChange })
}

// Gate reports whether the step is planned to change nothing.
func (s Step) Gate() bool {
	gate := s.Verb.row().gate
	return gate != nil && gate(s.Changes)
}

// Writes reports whether the step may change something, so that it must not begin without the lock.
// A gate may: a node that has just registered is given its labels.
func (s Step) Writes() bool { return s.Verb.row().writes || !s.Gate() }

// Interruptible reports whether the step can end at any moment without leaving work half done.
func (s Step) Interruptible() bool { return s.Gate() || s.Verb.row().interruptible }

// Timeout bounds the step.
func (s Step) Timeout() time.Duration { return cmp.Or(s.Verb.row().timeout, gateTimeout) }

// newStep returns a step with those of its host's changes that it carries out.
func newStep(verb Verb, host string, changes []Change, deps []string) Step {
	row := verb.row()
	s := Step{Name: cmp.Or(host, "cluster") + ": " + row.title, Host: host, Verb: verb, Deps: deps}
	if row.carries == nil {
		return s
	}
	for _, c := range changes {
		if row.carries(c) {
			s.Changes = append(s.Changes, c)
		}
	}
	return s
}
