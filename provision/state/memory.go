package state

import (
	"context"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory is a state in memory, for simulations. Stores that are opened on it share its contents and
// its lock, as processes share a bucket.
type Memory struct {
	// Unlocked keeps no store out: what a lock prevents can be seen then.
	Unlocked bool

	mu     sync.Mutex
	items  map[string][]byte // nil if there is no state
	logs   map[string][]byte
	holder *memory
}

// Steal takes the lock from the store that has it, as happens to a computer that sleeps for longer
// than its lease lasts. The store notices when it is next asked (Holds), or writes.
func (m *Memory) Steal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holder = nil
}

// memory is one process's view of a Memory.
type memory struct{ at *Memory }

func (m *memory) String() string { return "memory" }

func (m *memory) lock(context.Context) error {
	m.at.mu.Lock()
	defer m.at.mu.Unlock()
	if m.at.holder != nil && !m.at.Unlocked {
		return &LockedError{}
	}
	m.at.holder = m
	if m.at.items == nil {
		m.at.items, m.at.logs = map[string][]byte{}, map[string][]byte{}
	}
	return nil
}

func (m *memory) locked(context.Context) (bool, error) {
	m.at.mu.Lock()
	defer m.at.mu.Unlock()
	return m.at.holder != nil, nil
}

func (m *memory) held() context.Context { return context.Background() }

func (m *memory) sure(context.Context) error {
	m.at.mu.Lock()
	defer m.at.mu.Unlock()
	return m.holds()
}

// holds must be called with mu.
func (m *memory) holds() error {
	if m.at.holder != m && !m.at.Unlocked {
		return &LostError{}
	}
	return nil
}

// view is a snapshot: edit never changes contents in place.
func (m *memory) view(ctx context.Context) (view, error) {
	m.at.mu.Lock()
	defer m.at.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if m.at.items == nil {
		return nil, fs.ErrNotExist
	}
	return memoryView(m.at.items), nil
}

// edit replaces the contents if the lock is held.
func (m *memory) edit(do func(items map[string][]byte) error) error {
	m.at.mu.Lock()
	defer m.at.mu.Unlock()
	if err := m.holds(); err != nil {
		return err
	}
	items := maps.Clone(m.at.items)
	if err := do(items); err != nil {
		return err
	}
	m.at.items = items
	return nil
}

func (m *memory) put(_ context.Context, items map[string][]byte) error {
	return m.edit(func(all map[string][]byte) error {
		maps.Copy(all, items)
		return checkPlaces(all)
	})
}

func (m *memory) remove(_ context.Context, names []string) error {
	return m.edit(func(all map[string][]byte) error {
		for _, name := range names {
			all[name] = nil // it must not be a directory, either
			if err := checkPlaces(all); err != nil {
				return err
			}
			delete(all, name)
		}
		return nil
	})
}

func (m *memory) log(name string) (io.WriteCloser, error) {
	return &memoryLog{at: m.at, name: name}, nil
}

func (m *memory) destroy(context.Context) error {
	m.at.mu.Lock()
	defer m.at.mu.Unlock()
	if err := m.holds(); err != nil {
		return err
	}
	m.at.items, m.at.logs = nil, nil
	return nil
}

func (m *memory) close() error {
	m.at.mu.Lock()
	defer m.at.mu.Unlock()
	if m.at.holder == m {
		m.at.holder = nil
	}
	return nil
}

type memoryView map[string][]byte

func (v memoryView) get(_ context.Context, name string) ([]byte, error) {
	content, ok := v[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return content, nil
}

func (v memoryView) names(_ context.Context, prefix string) ([]string, error) {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(v)), func(name string) bool { return !strings.HasPrefix(name, prefix) }), nil
}

// memoryLog appends to a log.
type memoryLog struct {
	at   *Memory
	name string
}

func (l *memoryLog) Write(p []byte) (int, error) {
	l.at.mu.Lock()
	defer l.at.mu.Unlock()
	if l.at.logs != nil { // it is nil if the state was destroyed
		l.at.logs[l.name] = append(l.at.logs[l.name], p...)
	}
	return len(p), nil
}

func (l *memoryLog) Close() error { return nil }
