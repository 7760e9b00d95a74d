package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
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
	on func(node) bool
}

// proofTable: those of hosts are proven side by side, then those of the cluster, in this order. A rotation of what has
// expired begins with the stage Issue: what an ordinary one proves earlier is proven there as well, before workloads are rolled.
var proofTable = []proofRow{
	{ProveTrust, []certs.Stage{certs.Trust}, false, authorities, everywhere},
	{AwaitServed, []certs.Stage{certs.Issue, certs.Return}, true, authorities, everywhere},
	{ProveRefusal, []certs.Stage{certs.Drop}, true, authorities, everywhere},
	{AwaitEncryption, []certs.Stage{certs.Trust, certs.Issue, certs.Return, certs.Drop}, true, []string{certs.EncryptionKey}, node.controlPlane},
	{AwaitRootCA, []certs.Stage{certs.Trust, certs.Issue, certs.Drop}, true, []string{certs.KubernetesCA}, nil},
	{AwaitClientCAs, []certs.Stage{certs.Trust}, false, clientCAs, nil},
	{DropClientCAs, []certs.Stage{certs.Drop}, true, clientCAs, nil},
	{RollWorkloads, []certs.Stage{certs.Rollout}, true, []string{certs.KubernetesCA, certs.ServiceAccounts}, nil},
	{AwaitTokens, []certs.Stage{certs.Rollout}, true, []string{certs.ServiceAccounts}, nil},
	{RewriteSecrets, []certs.Stage{certs.Issue, certs.Return}, true, []string{certs.EncryptionKey}, nil},
}

var authorities = []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA}

// clientCAs are those whose clients API servers take, and of which they tell extension API servers.
var clientCAs = []string{certs.KubernetesCA, certs.FrontProxyCA}

// proofs are what is wanted. That servers show new certificates is a gate of every schedule; that clients do takes minutes.
func (p Proving) proofs(in Input, changes []Change) []Proof {
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
		for _, n := range in.nodes() {
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
		if clients(of[host]) != "" {
			all = append(all, Proof{AwaitPresented, host})
		}
	}
	return all
}

// eachEndpoint does something with all endpoints of a host, side by side; the first failure ends the others.
func (r *Runner) eachEndpoint(ctx context.Context, name string, do func(context.Context, host.Dialer, endpointRow, string) error) error {
	dialer, ok := r.Hosts[name].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", name)
	}
	i := slices.IndexFunc(r.Input.Machines, func(m spec.Machine) bool { return m.Name == name })
	n := certsNode(r.Input.Machines[i])
	group, ctx := errgroup.WithContext(ctx)
	for _, e := range endpointTable {
		if e.on(n) {
			group.Go(func() error { return do(ctx, dialer, e, e.address(n)) })
		}
	}
	return group.Wait()
}

// awaitServed waits until every endpoint of a host shows the certificate that is in its file.
func (r *Runner) awaitServed(ctx context.Context, s Step) error {
	return r.eachEndpoint(ctx, s.Host, func(ctx context.Context, h host.Dialer, e endpointRow, address string) error {
		if e.cert == "" {
			return nil
		}
		if err := awaitServed(ctx, h, address, r.Desired.Hosts[s.Host].Files[e.cert].Content); err != nil {
			return fmt.Errorf("%s on %s: %w", e.unit, s.Host, err)
		}
		return nil
	})
}

// awaitRootCA waits until the controller manager has published in every namespace whom pods are to trust.
func (r *Runner) awaitRootCA(ctx context.Context, _ Step) error {
	want := string(r.Input.PKI.Chain(certs.KubernetesCA))
	return waitFor(ctx, "the ConfigMaps kube-root-ca.crt are not as they should be", func(ctx context.Context) error {
		published, err := r.API.RootCAs(ctx)
		if err != nil {
			return err
		}
		if len(published) == 0 {
			return errors.New("there is none")
		}
		for namespace, text := range published {
			if text != want {
				return fmt.Errorf("that of namespace %s has other authorities", namespace)
			}
		}
		return nil
	})
}

// awaitClientCAs waits until extension API servers are told to trust old and new, whichever is used: API servers add what
// they trust within a minute. Going back needs no such wait: nothing has taken the old out.
func (r *Runner) awaitClientCAs(ctx context.Context, _ Step) error {
	pki := r.Input.PKI
	trusted := map[string][]byte{}
	for _, name := range clientCAs {
		if pki.Rotation.Has(name) {
			trusted[name] = pki.Bundle(name)
		}
	}
	return waitFor(ctx, "extension API servers are not told to trust the new authority", func(ctx context.Context) error {
		lacking, err := r.API.LacksClientCAs(ctx, trusted[certs.KubernetesCA], trusted[certs.FrontProxyCA])
		if err == nil && len(lacking) > 0 {
			err = fmt.Errorf("the ConfigMap kube-system/extension-apiserver-authentication lacks one in %s", strings.Join(lacking, " and "))
		}
		return err
	})
}

// dropClientCAs has extension API servers take no more clients of the authorities that are dropped. API servers no longer
// add them by then, but what they once added stays.
func (r *Runner) dropClientCAs(ctx context.Context, _ Step) error {
	other := r.Input.PKI.Other
	return waitFor(ctx, "extension API servers are told to trust the authority that was dropped", func(ctx context.Context) error {
		found, err := r.API.DropClientCAs(ctx, other[certs.KubernetesCA].First(), other[certs.FrontProxyCA].First())
		if err == nil && found {
			err = errors.New("it was there when last looked at")
		}
		return err
	})
}
