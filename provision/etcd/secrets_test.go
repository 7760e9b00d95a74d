package etcd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/testing/controlplane"
)

func TestEncryptionPrefix(t *testing.T) {
	for value, want := range map[string]string{
		"k8s:enc:secretbox:v1:key1:\x00\x01:abc:": "k8s:enc:secretbox:v1:key1:",
		"k8s:enc:kms:v2:cloud:::":                 "k8s:enc:kms:v2:cloud:",
		"k8s:enc:secretbox:v1:key1":               "k8s:enc:",
		"k8s\x00\n\x0c\n\x02v1\x12\x06Secret":     Plain,
		`{"kind":"Secret"}`:                       Plain,
		"":                                        Plain,
	} {
		if got := encryptionPrefix([]byte(value)); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// TestEncryptionPrefixes counts over several pages, and nothing beside Secrets.
func TestEncryptionPrefixes(t *testing.T) {
	processes := controlplane.StartEtcd(t, 1)
	c := newTestClient(t, processes)
	if counts, err := c.EncryptionPrefixes(t.Context()); err != nil || len(counts) != 0 {
		t.Errorf("of nothing: %v, %v", counts, err)
	}
	connected, err := c.connect(t.Context(), c.endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	defer connected.close()
	put := func(key, value string) {
		if _, err := connected.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 7 {
		put(fmt.Sprintf("/registry/secrets/a/s%d", i), "k8s:enc:secretbox:v1:key1:text")
		put(fmt.Sprintf("/registry/secrets/b/s%d", i), "k8s:enc:secretbox:v1:key2:text")
	}
	put("/registry/secrets/c/s", "k8s\x00text")
	put("/registry/secret", "k8s\x00text")
	put("/registry/secretsmore/x", "k8s\x00text")
	put("/registry/configmaps/c/s", "k8s\x00text")
	want := map[string]int{"k8s:enc:secretbox:v1:key1:": 7, "k8s:enc:secretbox:v1:key2:": 7, Plain: 1}
	for _, limit := range []int64{1, 2, 15, 100} {
		got, err := c.encryptionPrefixes(t.Context(), c.endpoints[0], limit)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%d at a time: %v %s", limit, err, diff)
		}
	}

	// The first endpoint does not answer.
	c.endpoints = append([]Endpoint{{Address: "127.0.0.1:1"}}, c.endpoints...)
	if got, err := c.EncryptionPrefixes(t.Context()); err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v, %v", got, err)
	}
	processes[0].Stop()
	if _, err := c.EncryptionPrefixes(t.Context()); err == nil || !strings.Contains(err.Error(), processes[0].Address) {
		t.Errorf("error %v", err)
	}
}
