package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
)

// keyLines are the lines of the PEM private keys in a text, but for those that are public: a certificate has the modulus of
// its RSA key, and, where that lies as it does in the key, the very same lines.
func keyLines(text string) []string {
	var found []string
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if !strings.Contains(block.Type, "PRIVATE KEY") {
			continue
		}
		public := modulus(block.Bytes)
		for line := range strings.Lines(string(pem.EncodeToMemory(block))) {
			line = strings.TrimSpace(line)
			bits, err := base64.StdEncoding.DecodeString(line)
			if err == nil && len(line) >= 32 && !bytes.Contains(public, bits) {
				found = append(found, line)
			}
		}
	}
	return found
}

// modulus is that of an RSA key, PKCS #8 or #1; nil of other keys.
func modulus(der []byte) []byte {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if key, ok := key.(*rsa.PrivateKey); ok {
			return key.N.Bytes()
		}
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key.N.Bytes()
	}
	return nil
}

// What is looked for in the output of runs is all of a key but what a certificate shows, too.
func TestKeyLines(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	lines := keyLines("before\n" + string(text) + "after\n")
	private := 0
	for _, line := range lines {
		bits, _ := base64.StdEncoding.DecodeString(line)
		if bytes.Contains(key.N.Bytes(), bits) {
			t.Errorf("%q is public", line)
		}
		if bytes.Contains(key.D.Bytes(), bits) {
			private++
		}
	}
	if all := bytes.Count(text, []byte("\n")) - 2; len(lines) >= all || len(lines) < all*2/3 || private < 4 {
		t.Errorf("%d of %d lines are looked for, %d of them of the private exponent", len(lines), all, private)
	}
}
