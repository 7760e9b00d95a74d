package stack

import (
	"bytes"
	"strings"
	"testing"
)

func TestEncryptionConfig(t *testing.T) {
	key := func(name string) EncryptionKey { return EncryptionKey{name, bytes.Repeat([]byte("k"), 32)} }
	text, err := EncryptionConfig([]EncryptionKey{key("key2"), key("key1")})
	if err != nil || strings.Index(string(text), "name: key2") > strings.Index(string(text), "name: key1") || strings.Count(string(text), "secret: a2tr") != 2 {
		t.Errorf("%v:\n%s", err, text)
	}
	for name, keys := range map[string][]EncryptionKey{"none": nil, "no name": {key("")}, "the same twice": {key("a"), key("b"), key("a")}} {
		if _, err := EncryptionConfig(keys); err == nil || strings.Contains(err.Error(), "kkk") || strings.Contains(err.Error(), "a2tr") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// The fingerprints tell keys and their names apart, not their order, and nothing of the keys themselves.
func TestKeyRingTellsWhichKeysThereAre(t *testing.T) {
	a, b := EncryptionKey{Name: "key1", Key: bytes.Repeat([]byte("a"), 32)}, EncryptionKey{Name: "key2", Key: bytes.Repeat([]byte("b"), 32)}
	// of printf '%032d' 0 | tr 0 a | sha256sum, and b
	const want = "key1 3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547\nkey2 bdb339768bc5e4fecbe55a442056919b2b325907d49bcbf3bf8de13781996a83\n"
	if got := string(keyRing(a, b)); got != want || string(keyRing(b, a)) != want {
		t.Errorf("got %q", got)
	}
	if string(keyRing(EncryptionKey{Name: "key1", Key: b.Key})) == string(keyRing(a)) || string(keyRing(EncryptionKey{Name: "key3", Key: a.Key})) == string(keyRing(a)) {
		t.Error("other keys have the same ring")
	}
}
