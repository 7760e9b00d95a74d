package hosttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/provision/host"
)

// Memory is a host without a machine: it holds what is written, records what is run, and answers as it is told.
// Scripts have no effect on its files. The zero value is no host: use NewMemory.
type Memory struct {
	name string

	mu      sync.Mutex
	files   map[string]host.File
	ran     []Ran
	answers []answer
	writing func([]host.File) error
	closed  bool
}

// Ran is a script that was run, and what was fed to it.
type Ran struct {
	Script string
	Stdin  []byte
}

// Answer is what a script prints, and how it ends.
type Answer struct {
	Stdout, Stderr string
	// Code other than 0 becomes an *host.ExitError.
	Code int
	// Err, when set, is Run's error itself, for example a *host.LostError.
	Err error
}

type answer struct {
	part string
	give func(Ran) Answer
}

var _ host.Host = (*Memory)(nil)

// NewMemory returns a host that holds nothing and on which every script succeeds and prints nothing.
func NewMemory(name string) *Memory { return &Memory{name: name, files: map[string]host.File{}} }

// On answers scripts that contain part; of several that fit, the last one told counts.
func (m *Memory) On(part string, a Answer) { m.OnFunc(part, func(Ran) Answer { return a }) }

// OnFunc is On for answers that depend on the script, or on what happened before.
// give runs without a lock: it may use the host.
func (m *Memory) OnFunc(part string, give func(Ran) Answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers = append(m.answers, answer{part, give})
}

// OnWrite is asked before each write; its error makes the write fail, and nothing is stored.
func (m *Memory) OnWrite(f func([]host.File) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writing = f
}

// Ran lists what was run, in order.
func (m *Memory) Ran() []Ran {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ran)
}

// File returns what was last written to a path, with its mode and owner; false where there is nothing.
func (m *Memory) File(path string) (host.File, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.files[path]
	return f, ok
}

// Paths lists what was written, sorted.
func (m *Memory) Paths() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var paths []string
	for p := range m.files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// Remove forgets a path and all below it, as rm -rf does.
func (m *Memory) Remove(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range m.files {
		if p == path || strings.HasPrefix(p, path+"/") {
			delete(m.files, p)
		}
	}
}

// Name implements host.Host.
func (m *Memory) Name() string { return m.name }

func (m *Memory) usable(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return &host.LostError{Host: m.name, Address: "memory", Err: errors.New("the host is closed")}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", m.name, context.Cause(ctx))
	}
	return nil
}

// Run implements host.Host.
func (m *Memory) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if err := m.usable(ctx); err != nil {
		return host.Result{}, err
	}
	ran := Ran{Script: cmd.Script}
	if cmd.Stdin != nil {
		var err error
		if ran.Stdin, err = io.ReadAll(cmd.Stdin); err != nil {
			return host.Result{}, fmt.Errorf("%s: read the input: %w", m.name, err)
		}
	}
	a := m.answer(ran)
	var r host.Result
	for _, s := range []struct {
		text string
		to   io.Writer
		keep *[]byte
	}{{a.Stdout, cmd.Stdout, &r.Stdout}, {a.Stderr, cmd.Stderr, &r.Stderr}} {
		if s.to == nil {
			*s.keep = []byte(s.text)
		} else if _, err := io.WriteString(s.to, s.text); err != nil {
			return r, fmt.Errorf("%s: pass the output on: %w", m.name, err)
		}
	}
	if a.Err == nil && a.Code != 0 {
		line, _, _ := strings.Cut(strings.TrimSpace(cmd.Script), "\n")
		a.Err = &host.ExitError{Host: m.name, Script: line, Code: a.Code, Stderr: a.Stderr}
	}
	return r, a.Err
}

func (m *Memory) answer(ran Ran) Answer {
	give := func(Ran) Answer { return Answer{} }
	m.mu.Lock()
	m.ran = append(m.ran, ran)
	for _, a := range m.answers {
		if strings.Contains(ran.Script, a.part) {
			give = a.give
		}
	}
	m.mu.Unlock()
	return give(ran)
}

// Write implements host.Host.
func (m *Memory) Write(ctx context.Context, files []host.File) error {
	var paths []string
	for _, f := range files {
		paths = append(paths, f.Path)
	}
	err := m.usable(ctx)
	m.mu.Lock()
	ask := m.writing
	m.mu.Unlock()
	if err == nil && ask != nil {
		err = ask(files)
	}
	for _, f := range files {
		if err == nil && (!path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path) {
			err = fmt.Errorf("%q is not an absolute, clean path", f.Path)
		}
	}
	if err != nil {
		return &host.WriteError{Host: m.name, Paths: paths, Err: err}
	}
	held := make([]host.File, len(files))
	for i, f := range files {
		if held[i], err = whole(f); err != nil {
			return &host.WriteError{Host: m.name, Paths: paths, Err: err}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range held {
		m.files[f.Path] = f
	}
	return nil
}

// whole is a file with its content, which is read where it is streamed.
func whole(f host.File) (host.File, error) {
	if f.Open == nil {
		f.Content = bytes.Clone(f.Content)
		return f, nil
	}
	r, err := f.Open()
	if err != nil {
		return f, err
	}
	defer func() { _ = r.Close() }()
	if f.Content, err = io.ReadAll(r); err != nil {
		return f, err
	}
	if sum := sha256.Sum256(f.Content); hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(f.Content)) != f.Size {
		return f, fmt.Errorf("%s arrived with another content", f.Path)
	}
	f.Open = nil
	return f, nil
}

// Read implements host.Host. It follows symbolic links as far as the last name of the path goes.
func (m *Memory) Read(ctx context.Context, name string) ([]byte, error) {
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := name
	for range 40 { // as many as Linux follows
		f, ok := m.files[at]
		switch {
		case !ok || f.Mode.IsDir():
			return nil, fmt.Errorf("%s: %w", m.name, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist})
		case f.Mode.IsRegular():
			return bytes.Clone(f.Content), nil
		}
		target := string(f.Content)
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(at), target)
		}
		at = target
	}
	return nil, fmt.Errorf("%s: read %s: too many symbolic links", m.name, name)
}

// Close implements host.Host.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
