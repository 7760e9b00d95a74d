package converge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// eachEndpoint calls do for all endpoints of a host, in parallel; the first failure ends the
// others.
func (v *View) eachEndpoint(ctx context.Context, name string, do func(context.Context, host.Dialer, stack.Endpoint, string) error) error {
	dialer, ok := v.Hosts[name].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", name)
	}
	i := slices.IndexFunc(v.Input.Machines, func(m spec.Machine) bool { return m.Name == name })
	n := stack.CertsNode(v.Input.Machines[i])
	group, ctx := errgroup.WithContext(ctx)
	for _, e := range stack.Endpoints() {
		if e.On(n) {
			group.Go(func() error { return do(ctx, dialer, e, e.Address(n)) })
		}
	}
	return group.Wait()
}

// awaitServed waits until every endpoint of a host serves the certificate in its file.
func (r *Runner) awaitServed(ctx context.Context, s plan.Step) error {
	return r.eachEndpoint(ctx, s.Host, func(ctx context.Context, h host.Dialer, e stack.Endpoint, address string) error {
		if e.Cert == "" {
			return nil
		}
		if err := live.AwaitServed(ctx, r.reach(), h, address, r.Desired.Hosts[s.Host].Files[e.Cert].Content); err != nil {
			return fmt.Errorf("%s on %s: %w", e.Unit, s.Host, err)
		}
		return nil
	})
}

// awaitRootCA waits until the controller manager has published the current CA bundle in every
// namespace.
func (r *Runner) awaitRootCA(ctx context.Context, _ plan.Step) error {
	want := string(r.Input.PKI.Chain(certs.KubernetesCA))
	return live.WaitFor(ctx, "the ConfigMaps kube-root-ca.crt are not up to date", func(ctx context.Context) error {
		published, err := r.API.RootCAs(ctx)
		if err != nil {
			return err
		}
		if len(published) == 0 {
			return errors.New("there is none")
		}
		for namespace, text := range published {
			if text != want {
				return fmt.Errorf("that of namespace %s has other CAs", namespace)
			}
		}
		return nil
	})
}

// awaitClientCAs waits until extension API servers are told to trust old and new CAs, whichever is
// in use: API servers add the CAs that they trust within a minute. A rollback needs no such wait:
// the old CA was not removed.
func (r *Runner) awaitClientCAs(ctx context.Context, _ plan.Step) error {
	pki := r.Input.PKI
	trusted := map[string][]byte{}
	for _, name := range plan.ClientCAs {
		if pki.Rotation.Has(name) {
			trusted[name] = pki.Bundle(name)
		}
	}
	return live.WaitFor(ctx, "extension API servers are not told to trust the new CA", func(ctx context.Context) error {
		lacking, err := r.API.LacksClientCAs(ctx, trusted[certs.KubernetesCA], trusted[certs.FrontProxyCA])
		if err == nil && len(lacking) > 0 {
			err = fmt.Errorf("the ConfigMap kube-system/extension-apiserver-authentication lacks one in %s", strings.Join(lacking, " and "))
		}
		return err
	})
}

// dropClientCAs makes extension API servers reject clients of the dropped CAs. API servers no
// longer add these CAs by then, but do not remove what they once added.
func (r *Runner) dropClientCAs(ctx context.Context, _ plan.Step) error {
	other := r.Input.PKI.Other
	return live.WaitFor(ctx, "extension API servers are told to trust the dropped CA", func(ctx context.Context) error {
		found, err := r.API.DropClientCAs(ctx, other[certs.KubernetesCA].First(), other[certs.FrontProxyCA].First())
		if err == nil && found {
			err = errors.New("it was present at the last check")
		}
		return err
	})
}
