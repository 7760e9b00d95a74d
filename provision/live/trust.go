package live

import (
	"fmt"
	"maps"
	"sync"

	"slipway.dev/slipway/provision/host"
)

// Trust has the host keys that were accepted on first use. From then on, only these are accepted. The
// zero value has none. It is safe for concurrent use.
type Trust struct {
	mu   sync.Mutex
	keys map[string]string
}

// Keys returns the keys, in authorized_keys format, by the address of sshd (spec.SSH.Address).
func (t *Trust) Keys() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.keys)
}

// configure accepts the first key of a host, and that alone afterwards.
func (t *Trust) configure(c *host.Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := t.keys[c.Address]; key != "" {
		c.HostKeys, c.Trusted = []string{key}, true
		return
	}
	c.TrustOnFirstUse = func(key string) error { return t.accept(c.Address, key) }
}

// accept remembers a key. A connection that began at the same time may have been first.
func (t *Trust) accept(address, key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if was := t.keys[address]; was != "" && was != key {
		return fmt.Errorf("%s has shown two host keys in this run: nothing is trusted", address)
	}
	if t.keys == nil {
		t.keys = map[string]string{}
	}
	t.keys[address] = key
	return nil
}
