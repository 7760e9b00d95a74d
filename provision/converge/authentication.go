package converge

import (
	"context"
	"fmt"
	"sync"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// observeAuthentication records which configuration the API servers of the hosts use, if the spec
// names identity providers: an API server keeps its old one if it cannot reach a new issuer, and
// its file does not show that. Servers that do not answer are unknown.
func (v *View) observeAuthentication(ctx context.Context) map[string]string {
	if len(v.Input.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT) == 0 {
		return nil
	}
	var mu sync.Mutex
	var questions sync.WaitGroup
	loaded := map[string]string{}
	for _, m := range v.Input.ControlPlanes() {
		dialer, ok := v.Hosts[m.Name].(host.Dialer)
		if !ok {
			continue
		}
		questions.Go(func() {
			if hash, err := v.reach().AuthenticationOf(ctx, v.Input.PKI, dialer); err == nil {
				mu.Lock()
				loaded[m.Name] = hash
				mu.Unlock()
			}
		})
	}
	questions.Wait()
	return loaded
}

// awaitAuthentication waits until the API server of a host uses the wanted file.
func (r *Runner) awaitAuthentication(ctx context.Context, s plan.Step) error {
	dialer, ok := r.Hosts[s.Host].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", s.Host)
	}
	want := stack.ConfigHash(r.Desired.Hosts[s.Host].Files[stack.AuthenticationFile].Content)
	r.report(s.Host, "waiting for the API server to load its authentication file, which it does once it reaches every new issuer")
	problem := "the API server of " + s.Host + " has not loaded " + stack.AuthenticationFile + ", which it does once it reaches every new issuer"
	err := live.WaitEvery(ctx, encryptionInterval, problem, func(ctx context.Context) error {
		loaded, err := r.reach().AuthenticationOf(ctx, r.Input.PKI, dialer)
		if err == nil && loaded != want {
			err = fmt.Errorf("it still uses %.15s; wanted is %.15s", loaded, want)
		}
		return err
	})
	return r.explain(ctx, err, s.Host, "kube-apiserver")
}
