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

// encryptionKeySize is the key size of secretbox and AES-256 in bytes (EncryptionConfiguration,
// apiserver.config.k8s.io/v1).
const encryptionKeySize = 32

// firstEncryptionKey is the name of a cluster's first key; later keys have higher numbers.
const firstEncryptionKey = "key1"

// NewEncryptionKey makes a key of 32 random bytes with which an API server encrypts secrets at
// rest. Cert of the item is the key's name, which etcd stores before each value that the key has
// encrypted; Key has the bytes. The name is not in taken, which lists the keys in use and those
// that backups of etcd may still need.
func NewEncryptionKey(taken ...string) Item {
	key := make(secret.Bytes, encryptionKeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand crashes the process instead
	last := 0
	for _, name := range taken {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, "key")); err == nil {
			last = max(last, n)
		}
	}
	return Item{Cert: []byte("key" + strconv.Itoa(last+1)), Key: key}
}

// FormatEncryptionKey encodes a key for the store: "key2:" and the bytes in base64.
func FormatEncryptionKey(i Item) secret.Bytes {
	return fmt.Appendf(nil, "%s:%s", i.Cert, base64.StdEncoding.EncodeToString(i.Key.Reveal()))
}

// ParseEncryptionKey is the inverse of FormatEncryptionKey. Bytes without a name are the first key,
// in an older format.
func ParseEncryptionKey(stored secret.Bytes) (Item, error) {
	if len(stored) == encryptionKeySize {
		return Item{Cert: []byte(firstEncryptionKey), Key: stored}, nil
	}
	name, text, ok := bytes.Cut(stored.Reveal(), []byte(":"))
	key, err := base64.StdEncoding.DecodeString(string(text))
	if !ok || err != nil || len(key) != encryptionKeySize {
		return Item{}, itemError(EncryptionKey, fmt.Errorf("%w: want a name and %d bytes in base64", ErrMalformed, encryptionKeySize))
	}
	return Item{Cert: name, Key: key}, nil
}
