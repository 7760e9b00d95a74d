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

// extensionTrust is the ConfigMap in kube-system that tells extension API servers whose clients to take. API servers add
// their own authorities to it, and remove those alone that have expired
// (k8s.io/kubernetes/pkg/controlplane/controller/clusterauthenticationtrust).
const extensionTrust = "extension-apiserver-authentication"

// trustFields are the fields of extensionTrust that have authorities of clients and of front proxies, with those (PEM).
func trustFields(client, frontProxy []byte) map[string][]byte {
	return map[string][]byte{"client-ca-file": client, "requestheader-client-ca-file": frontProxy}
}

// LacksClientCAs gives the fields, sorted, in which extension API servers are not told to trust all of some authorities
// (PEM; none where empty): those of clients and those of front proxies.
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

// DropClientCAs takes two authorities (PEM; none where empty), that of clients and that of front proxies, out of what
// extension API servers trust, and says whether any was there. Called again it says whether one has come back: an API
// server that trusts it still puts it there. Where nothing would remain, nothing is taken out: the API servers have yet to
// add those that they trust.
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
	// On condition that nobody has written since: API servers do, each when its own authorities change.
	if _, err := trusts.Update(ctx, trust, metav1.UpdateOptions{FieldManager: FieldManager}); err != nil {
		return found, fmt.Errorf("write what extension API servers trust: %w", err)
	}
	return found, nil
}

// blocks are the certificates of a PEM text, in DER.
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
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a strings.Builder does not fail
	}
	return text.String()
}
