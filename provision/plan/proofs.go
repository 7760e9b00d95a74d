package plan

import (
	"maps"
	"slices"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
)

// Proof is a step at the end of a stage of a rotation. It proves that the cluster is in the stage,
// if that cannot be seen by comparing hosts and API with a desired state.
type Proof struct {
	Verb Verb
	Host string
}

// Proving is what a run proves at its end, besides that there is no difference left.
type Proving int

// ProveClients proves that clients use renewed certificates, too; ProveStage that a rotation is in
// its stage.
const (
	ProveNothing Proving = iota
	ProveClients
	ProveStage
)

// proofRow is a proof for some stages.
type proofRow struct {
	verb Verb
	// stages that it proves; back means that it also proves them during a rollback.
	stages []certs.Stage
	back   bool
	// names: it is needed if any of these is replaced.
	names []string
	// on selects the hosts on which it is proven; nil is once, for the cluster.
	on func(stack.Node) bool
}

// proofTable lists all proofs: those of hosts run in parallel, then those of the cluster, in this
// order. A rotation of expired CAs begins with the stage Issue: it also proves there what an
// ordinary rotation proves earlier, before workloads are rolled.
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

// ClientCAs are the CAs whose clients API servers accept, and which they publish to extension API
// servers.
var ClientCAs = []string{certs.KubernetesCA, certs.FrontProxyCA}

// Proofs returns the proofs that a run needs. Every schedule has a gate until servers use new
// certificates; clients take minutes.
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
