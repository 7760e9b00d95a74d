package plan

import (
	"maps"
	"slices"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
)

// Proof is a step that a stage of a rotation ends with: that the cluster is as the stage wants it, where hosts and API
// cannot be compared with a desired state.
type Proof struct {
	Verb Verb
	Host string
}

// Proving is what is proven at the end of a run, beside that nothing differs any more.
type Proving int

// ProveClients: renewed certificates are shown by clients, too. ProveStage: a rotation is in its stage.
const (
	ProveNothing Proving = iota
	ProveClients
	ProveStage
)

// proofRow is a proof of some stages.
type proofRow struct {
	verb Verb
	// stages that it proves, and whether also those of a rotation that goes back.
	stages []certs.Stage
	back   bool
	// names: any of these must be what is replaced.
	names []string
	// on which hosts it is proven; nil is once, for the cluster.
	on func(stack.Node) bool
}

// proofTable: those of hosts are proven side by side, then those of the cluster, in this order. A rotation of what has
// expired begins with the stage Issue: what an ordinary one proves earlier is proven there as well, before workloads are rolled.
var proofTable = []proofRow{
	{ProveTrust, []certs.Stage{certs.Trust}, false, Authorities, stack.Everywhere},
	{AwaitServed, []certs.Stage{certs.Issue, certs.Return}, true, Authorities, stack.Everywhere},
	{ProveRefusal, []certs.Stage{certs.Drop}, true, Authorities, stack.Everywhere},
	{AwaitEncryption, []certs.Stage{certs.Trust, certs.Issue, certs.Return, certs.Drop}, true, []string{certs.EncryptionKey}, stack.Node.ControlPlane},
	{AwaitRootCA, []certs.Stage{certs.Trust, certs.Issue, certs.Drop}, true, []string{certs.KubernetesCA}, nil},
	{AwaitClientCAs, []certs.Stage{certs.Trust}, false, ClientCAs, nil},
	{DropClientCAs, []certs.Stage{certs.Drop}, true, ClientCAs, nil},
	{RollWorkloads, []certs.Stage{certs.Rollout}, true, []string{certs.KubernetesCA, certs.ServiceAccounts}, nil},
	{AwaitTokens, []certs.Stage{certs.Rollout}, true, []string{certs.ServiceAccounts}, nil},
	{RewriteSecrets, []certs.Stage{certs.Issue, certs.Return}, true, []string{certs.EncryptionKey}, nil},
}

// Authorities are the CAs that a rotation can replace.
var Authorities = []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA}

// ClientCAs are those whose clients API servers take, and of which they tell extension API servers.
var ClientCAs = []string{certs.KubernetesCA, certs.FrontProxyCA}

// Proofs are what is wanted. That servers show new certificates is a gate of every schedule; that clients do takes minutes.
func (p Proving) Proofs(in stack.Input, changes []Change) []Proof {
	r := in.PKI.Rotation
	switch {
	case p == ProveClients:
		return presented(changes)
	case p == ProveNothing || r == nil:
		return nil
	}
	var all []Proof
	for _, row := range proofTable {
		if !slices.Contains(row.stages, r.Stage) || r.Back && !row.back || !slices.ContainsFunc(row.names, r.Has) {
			continue
		}
		if row.on == nil {
			all = append(all, Proof{Verb: row.verb})
			continue
		}
		for _, n := range in.Nodes() {
			if row.on(n) {
				all = append(all, Proof{row.verb, n.Name})
			}
		}
	}
	return all
}

func presented(changes []Change) []Proof {
	of := map[string][]Change{}
	for _, c := range changes {
		of[c.Host] = append(of[c.Host], c)
	}
	var all []Proof
	for _, host := range slices.Sorted(maps.Keys(of)) {
		if Clients(of[host]) != "" {
			all = append(all, Proof{AwaitPresented, host})
		}
	}
	return all
}
