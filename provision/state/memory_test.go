package state

import (
	"errors"
	"testing"

	"slipway.dev/slipway/provision/secret"
)

// A store whose lock was stolen writes nothing any more, and another one has what it wrote before.
func TestMemoryIsStolen(t *testing.T) {
	at := Options{Memory: &Memory{}}
	first := openStore(t, at)
	put(t, first, "a", "1")
	if _, err := Open(t.Context(), at); !errors.As(err, new(*LockedError)) {
		t.Errorf("a second opener gets %v", err)
	}
	at.Memory.Steal()
	second := openStore(t, at)
	if err := first.Holds(t.Context()); !errors.As(err, new(*LostError)) {
		t.Errorf("the first is told %v", err)
	}
	if err := first.Put(t.Context(), map[string]secret.Bytes{"a": secret.Bytes("2")}); !errors.As(err, new(*LostError)) {
		t.Errorf("the first writes: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := second.Holds(t.Context()); err != nil {
		t.Errorf("the end of the first takes the lock from the second: %v", err)
	}
	if got := contents(t, second); len(got) != 1 || got[0] != "a=1" {
		t.Errorf("it has %q", got)
	}
}
