package simulate

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/stack"
)

// memo remembers what was desired of which input: most of a simulation's time goes there, and the inputs are few. Its states
// are shared, and never changed.
type memo struct {
	mu      sync.Mutex
	queries map[digest]stack.State
	desired map[digest]stack.State
}

type digest [sha256.Size]byte

var _ converge.Wishes = (*memo)(nil)

func newMemo() *memo {
	return &memo{queries: map[digest]stack.State{}, desired: map[digest]stack.State{}}
}

// Query implements converge.Wishes.
func (m *memo) Query(in stack.Input) (stack.State, error) {
	return m.recall(m.queries, in, stack.Query)
}

// Desired implements converge.Wishes.
func (m *memo) Desired(in stack.Input) (stack.State, error) {
	return m.recall(m.desired, in, stack.Desired)
}

// most is how many states of a kind are remembered: those of rotations come once.
const most = 200

func (m *memo) recall(known map[digest]stack.State, in stack.Input, compute func(stack.Input) (stack.State, error)) (stack.State, error) {
	key, err := digestOf(in)
	if err != nil {
		return stack.State{}, err
	}
	m.mu.Lock()
	state, ok := known[key]
	m.mu.Unlock()
	if ok {
		return state, nil
	}
	if state, err = compute(in); err != nil {
		return state, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(known) >= most {
		clear(known)
	}
	known[key] = state
	return state, nil
}

// digestOf is of all that an input has.
func digestOf(in stack.Input) (d digest, err error) {
	h := sha256.New()
	pki := in.PKI
	in.PKI = nil
	text := json.NewEncoder(h)
	if err = text.Encode(in); err != nil {
		return d, err
	}
	for _, k := range in.EncryptionKeys {
		_, _ = h.Write(k.Key.Reveal())
	}
	if pki != nil {
		for _, items := range []certs.Material{pki.Material, pki.Other} {
			for _, name := range slices.Sorted(maps.Keys(items)) {
				_, _ = h.Write([]byte(name))
				_, _ = h.Write(items[name].Cert)
				_, _ = h.Write(items[name].Key.Reveal())
			}
		}
		if err = text.Encode(pki.Rotation); err != nil {
			return d, err
		}
	}
	return digest(h.Sum(nil)), nil
}
