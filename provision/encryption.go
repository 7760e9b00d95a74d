package provision

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

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
