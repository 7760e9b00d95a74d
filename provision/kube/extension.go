package kube

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// extensionTrust is the ConfigMap in kube-system with the client CAs that extension API servers
// trust. API servers add their CAs to it, and only remove expired ones
// (k8s.io/kubernetes/pkg/controlplane/controller/clusterauthenticationtrust).
const extensionTrust = "extension-apiserver-authentication"

// trustFields returns the fields of extensionTrust with the CAs of clients and of front proxies
// (PEM).
func trustFields(client, frontProxy []byte) map[string][]byte {
	return map[string][]byte{"client-ca-file": client, "requestheader-client-ca-file": frontProxy}
}

// LacksClientCAs returns the sorted fields of extensionTrust that lack any of the given CAs of
// clients and of front proxies (PEM; may be empty).
func (c *Client) LacksClientCAs(ctx context.Context, client, frontProxy []byte) (fields []string, err error) {
	trust, err := c.typed.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, extensionTrust, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read what extension API servers trust: %w", err)
	}
	for field, want := range trustFields(client, frontProxy) {
		there := blocks([]byte(trust.Data[field]))
		if slices.ContainsFunc(blocks(want), func(der []byte) bool { return !containsBlock(there, der) }) {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields, nil
}

// DropClientCAs removes a client CA and a front-proxy CA (PEM; may be empty) from extensionTrust,
// and reports whether any was found. Call it again to check that none has returned: an API server
// that still trusts a CA adds it again. If a field would become empty, nothing is removed, because
// the API servers have not added their current CAs yet.
func (c *Client) DropClientCAs(ctx context.Context, client, frontProxy []byte) (found bool, err error) {
	trusts := c.typed.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	trust, err := trusts.Get(ctx, extensionTrust, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("read what extension API servers trust: %w", err)
	}
	changed := false
	for key, drop := range trustFields(client, frontProxy) {
		all, dropped := blocks([]byte(trust.Data[key])), blocks(drop)
		left := slices.DeleteFunc(slices.Clone(all), func(der []byte) bool { return containsBlock(dropped, der) })
		found = found || len(left) < len(all)
		if len(left) > 0 && len(left) < len(all) {
			trust.Data[key], changed = certificates(left), true
		}
	}
	if !changed {
		return found, nil
	}
	// The write is conditional, because API servers write too when their CAs change.
	if _, err := trusts.Update(ctx, trust, metav1.UpdateOptions{FieldManager: FieldManager}); err != nil {
		return found, fmt.Errorf("write what extension API servers trust: %w", err)
	}
	return found, nil
}

// blocks returns the certificates of a PEM text, in DER.
func blocks(text []byte) [][]byte {
	var all [][]byte
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		all = append(all, b.Bytes)
	}
	return all
}

func containsBlock(ders [][]byte, der []byte) bool {
	return slices.ContainsFunc(ders, func(d []byte) bool { return bytes.Equal(d, der) })
}

func certificates(ders [][]byte) string {
	var text strings.Builder
	for _, der := range ders {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a strings.Builder never fails
	}
	return text.String()
}
