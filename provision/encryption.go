package provision

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/templates"
)

// EncryptionConfig is the API servers' EncryptionConfiguration for keys, which is secret.
func EncryptionConfig(keys []EncryptionKey) ([]byte, error) {
	var e templates.Encryption
	for _, k := range keys {
		e.Keys = append(e.Keys, templates.EncryptionKey{Name: k.Name, Key: base64.StdEncoding.EncodeToString(k.Key.Reveal())})
	}
	return e.Render()
}

// encryptionLoaded asks the API server of a control plane whether it works by an EncryptionConfiguration of that content.
// The error says why not, or not yet: a server looks at its file once a minute. Its answer has megabytes: ask every few
// seconds at the most.
func encryptionLoaded(ctx context.Context, config []byte, pki *certs.PKI, controlPlane host.Dialer) error {
	api, err := kube.New(apiConfig(pki, apiPort, controlPlane))
	if err != nil {
		return err
	}
	loaded, err := api.EncryptionConfigs(ctx)
	if err != nil {
		return err
	}
	want := fmt.Sprintf("sha256:%x", sha256.Sum256(config))
	for _, hash := range loaded {
		if hash == want {
			return nil
		}
	}
	if len(loaded) == 0 {
		return fmt.Errorf("its API server works by no encryption configuration; wanted is %.15s", want)
	}
	return fmt.Errorf("its API server works by encryption configuration %.15s still; wanted is %.15s", strings.Join(loaded, ", "), want)
}

// encryptionInterval is how often API servers are asked: they look at their file once a minute, and answer with megabytes.
const encryptionInterval = 3 * time.Second

// awaitEncryption waits until the API server of a host works by the keys that are wanted.
func (r *Runner) awaitEncryption(ctx context.Context, s Step) error {
	config, err := EncryptionConfig(r.Input.EncryptionKeys)
	if err != nil {
		return err
	}
	dialer, ok := r.Hosts[s.Host].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", s.Host)
	}
	r.report(s.Host, "waiting for the API server to read its file, which it does once a minute")
	return waitEvery(ctx, encryptionInterval, "the encryption keys of "+s.Host+" are not in use", func(ctx context.Context) error {
		return encryptionLoaded(ctx, config, r.Input.PKI, dialer)
	})
}

// rewriteSecrets has every Secret written again, and wants proof of etcd that none is left under another key.
func (r *Runner) rewriteSecrets(ctx context.Context, _ Step) error {
	client, err := etcdClientOf(r.Input, r.Hosts)
	if err != nil {
		return err
	}
	want := "k8s:enc:secretbox:v1:" + r.Input.EncryptionKeys[0].Name + ":"
	return waitEvery(ctx, encryptionInterval, "Secrets are not all encrypted with the key in use", func(ctx context.Context) error {
		if _, err := r.API.RewriteSecrets(ctx, func(what string) { r.report("cluster", what) }); err != nil {
			return err
		}
		found, err := client.EncryptionPrefixes(ctx)
		if err != nil {
			return err
		}
		for prefix, n := range found {
			if prefix != want {
				return fmt.Errorf("%d are left under %q", n, prefix)
			}
		}
		return nil
	})
}
