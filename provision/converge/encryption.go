package converge

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// encryptionLoaded queries the API server of a control plane whether it uses an
// EncryptionConfiguration with that content. The error says why not, or not yet: a server checks
// its file once a minute. The answer has megabytes: query it at most every few seconds.
func encryptionLoaded(ctx context.Context, reach live.Reach, config []byte, pki *certs.PKI, controlPlane host.Dialer) error {
	loaded, err := reach.EncryptionConfigs(ctx, pki, controlPlane)
	if err != nil {
		return err
	}
	want := stack.ConfigHash(config)
	for _, hash := range loaded {
		if hash == want {
			return nil
		}
	}
	if len(loaded) == 0 {
		return fmt.Errorf("its API server uses no encryption configuration; wanted is %.15s", want)
	}
	return fmt.Errorf("its API server still uses encryption configuration %.15s; wanted is %.15s", strings.Join(loaded, ", "), want)
}

// encryptionInterval is how often API servers are queried: they check their file once a minute, and
// answer with megabytes.
const encryptionInterval = 3 * time.Second

// awaitEncryption waits until the API server of a host uses the wanted keys.
func (r *Runner) awaitEncryption(ctx context.Context, s plan.Step) error {
	config, err := stack.EncryptionConfig(r.Input.EncryptionKeys)
	if err != nil {
		return err
	}
	dialer, ok := r.Hosts[s.Host].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", s.Host)
	}
	r.report(s.Host, "waiting for the API server to read its file, which it does once a minute")
	return live.WaitEvery(ctx, encryptionInterval, "the encryption keys of "+s.Host+" are not in use", func(ctx context.Context) error {
		return encryptionLoaded(ctx, r.reach(), config, r.Input.PKI, dialer)
	})
}

// rewriteSecrets rewrites every Secret, and proves with etcd that none is left under another key.
// Secrets written meanwhile may change during the count: then it counts, and writes, once more.
func (r *Runner) rewriteSecrets(ctx context.Context, _ plan.Step) error {
	client, err := r.etcd()
	if err != nil {
		return err
	}
	want := "k8s:enc:secretbox:v1:" + r.Input.EncryptionKeys[0].Name + ":"
	var left error
	for range rewriteTries {
		n, err := r.API.RewriteSecrets(ctx, func(what string) { r.report("cluster", what) })
		if err != nil {
			return err
		}
		found, err := client.EncryptionPrefixes(ctx)
		if err != nil {
			return err
		}
		if left = leftUnder(found, want, n); left == nil {
			return nil
		}
	}
	return left
}

// rewriteTries is how often Secrets are rewritten while others are found.
const rewriteTries = 5

// leftUnder returns an error if Secrets in etcd do not begin with the wanted prefix, or if there
// are fewer than were written: then it was not the right place to look.
func leftUnder(found map[string]int, want string, written int) error {
	total := 0
	for prefix, n := range found {
		if total += n; prefix != want {
			return fmt.Errorf("%d Secrets are left in etcd under %q; wanted is %q", n, prefix, want)
		}
	}
	if total < written/2 { // some may have been removed meanwhile
		return fmt.Errorf("%d Secrets were written, and etcd has %d under /registry/secrets/", written, total)
	}
	return nil
}
