package stack

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/templates"
)

// EncryptionConfig returns the API servers' EncryptionConfiguration for keys; it is secret.
func EncryptionConfig(keys []EncryptionKey) ([]byte, error) {
	var e templates.Encryption
	for _, k := range keys {
		e.Keys = append(e.Keys, templates.EncryptionKey{Name: k.Name, Key: base64.StdEncoding.EncodeToString(k.Key.Reveal())})
	}
	return e.Render()
}

// keyRing lists keys by their fingerprints, sorted.
func keyRing(keys ...EncryptionKey) []byte {
	var lines []string
	for _, k := range keys {
		lines = append(lines, fmt.Sprintf("%s %x\n", k.Name, sha256.Sum256(k.Key.Reveal())))
	}
	return ring(lines)
}

// KeyRings returns all rings that hosts can have at any stage of the running rotation.
func (in *Input) KeyRings() [][]byte {
	used := in.EncryptionKeys[0]
	o, ok := in.PKI.Other[certs.EncryptionKey]
	if !ok {
		return [][]byte{keyRing(used)}
	}
	other := EncryptionKey{Name: string(o.Cert), Key: o.Key}
	return [][]byte{keyRing(used), keyRing(other), keyRing(used, other)}
}
