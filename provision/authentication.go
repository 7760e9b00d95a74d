package provision

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
)

const apiServerService = "kube-apiserver.service"

// configHash is how API servers tell the configuration that they work by.
func configHash(config []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(config)) }

// authenticationOf is the hash of the AuthenticationConfiguration by which the API server of a control plane works, "" where
// it names none. Its answer has megabytes: ask every few seconds at the most.
func authenticationOf(ctx context.Context, pki *certs.PKI, controlPlane host.Dialer) (string, error) {
	api, err := kube.New(apiConfig(pki, apiPort, controlPlane))
	if err != nil {
		return "", err
	}
	loaded, err := api.AuthenticationConfigs(ctx)
	return strings.Join(loaded, ", "), err
}

// observeAuthentication notes by what the API servers of the hosts work, where the spec names identity providers: an API
// server keeps what it had where it cannot reach a new one, and its file does not tell. Those that do not answer are not known.
func (r *Runner) observeAuthentication(ctx context.Context) map[string]string {
	var mu sync.Mutex
	var questions sync.WaitGroup
	loaded := map[string]string{}
	for _, m := range r.Input.controlPlanes() {
		dialer, ok := r.Hosts[m.Name].(host.Dialer)
		if !ok || r.Desired.Hosts[m.Name].Authentication == "" {
			continue
		}
		questions.Go(func() {
			if hash, err := authenticationOf(ctx, r.Input.PKI, dialer); err == nil {
				mu.Lock()
				loaded[m.Name] = hash
				mu.Unlock()
			}
		})
	}
	questions.Wait()
	return loaded
}

// authentication finds an API server that works by another AuthenticationConfiguration than the one in its file.
func (d *hostDiff) authentication(want, have HostState) {
	if want.Authentication == "" || have.Authentication == "" || want.Authentication == have.Authentication {
		return
	}
	if slices.ContainsFunc(d.changes, func(c Change) bool { return authenticates(c) || c.Kind == UnitChange && c.Name == apiServerService }) {
		return
	}
	d.add(Change{
		Kind: UnitChange, Name: apiServerService, Action: Await, From: have.Authentication, To: want.Authentication, Cause: Wanted,
		Reason: "has not taken its authentication file: it takes one when it reaches every issuer that is new",
	})
}

// authenticates says whether a change is of whom an API server takes, without a restart of it.
func authenticates(c Change) bool {
	return c.Kind == FileChange && c.Name == authenticationFile && c.Action != Create ||
		c.Kind == UnitChange && c.Name == apiServerService && c.Action == Await && strings.HasPrefix(c.To, "sha256:")
}

// awaitAuthentication waits until the API server of a host works by the file that is wanted.
func (r *Runner) awaitAuthentication(ctx context.Context, s Step) error {
	dialer, ok := r.Hosts[s.Host].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", s.Host)
	}
	want := configHash(r.Desired.Hosts[s.Host].Files[authenticationFile].Content)
	r.report(s.Host, "waiting for the API server to take its authentication file, which it does when it reaches every new issuer")
	problem := "the API server of " + s.Host + " has not taken " + authenticationFile + ", as it does when it reaches every new issuer"
	err := waitEvery(ctx, encryptionInterval, problem, func(ctx context.Context) error {
		loaded, err := authenticationOf(ctx, r.Input.PKI, dialer)
		if err == nil && loaded != want {
			err = fmt.Errorf("it works by %.15s still; wanted is %.15s", loaded, want)
		}
		return err
	})
	return r.explain(ctx, err, s.Host, "kube-apiserver")
}
