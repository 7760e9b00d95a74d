package certs

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"slipway.dev/slipway/provision/secret"
)

// encryptionKeySize is that of secretbox and of AES-256 (EncryptionConfiguration, apiserver.config.k8s.io/v1).
const encryptionKeySize = 32

// firstEncryptionKey is the name of a cluster's first key; the names of those that follow count on.
const firstEncryptionKey = "key1"

// NewEncryptionKey makes the 32 random bytes with which an API server encrypts secrets at rest, and names them: Cert of
// the item is the name, which etcd has in front of whatever the key has encrypted, Key the bytes. The name is none of
// those that are taken: by keys in use, and by those that backups of etcd may still need.
func NewEncryptionKey(taken ...string) Item {
	key := make(secret.Bytes, encryptionKeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	last := 0
	for _, name := range taken {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, "key")); err == nil {
			last = max(last, n)
		}
	}
	return Item{Cert: []byte("key" + strconv.Itoa(last+1)), Key: key}
}

// FormatEncryptionKey writes a key for the store: "key2:" and the bytes in base64.
func FormatEncryptionKey(i Item) secret.Bytes {
	return fmt.Appendf(nil, "%s:%s", i.Cert, base64.StdEncoding.EncodeToString(i.Key.Reveal()))
}

// ParseEncryptionKey is the inverse of FormatEncryptionKey. The bytes alone are the first key, as it once was stored.
func ParseEncryptionKey(stored secret.Bytes) (Item, error) {
	if len(stored) == encryptionKeySize {
		return Item{Cert: []byte(firstEncryptionKey), Key: stored}, nil
	}
	name, text, ok := bytes.Cut(stored.Reveal(), []byte(":"))
	key, err := base64.StdEncoding.DecodeString(string(text))
	if !ok || err != nil || len(key) != encryptionKeySize {
		return Item{}, itemError(EncryptionKey, fmt.Errorf("%w: it is not a name and %d bytes in base64", ErrMalformed, encryptionKeySize))
	}
	return Item{Cert: name, Key: key}, nil
}
