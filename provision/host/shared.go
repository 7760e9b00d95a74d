package host

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Shared is what all dials of a run have in common: known_hosts files are read once, a key's
// passphrase and a password for sudo are asked for once. The zero value is ready for use; nil
// shares nothing.
type Shared struct {
	mu    sync.Mutex
	files map[string]knownAt
	keys  map[string]*unlocking
	sudo  map[string]*sudoVerdict // by user
}

// knownAt is a known_hosts file as it was at a time.
type knownAt struct {
	modified time.Time
	size     int64
	file     *knownFile
}

// knownHosts returns a known_hosts file, and reports its malformed lines when it is read.
func (s *Shared) knownHosts(name string, report func(string)) (*knownFile, error) {
	if s == nil {
		return readKnownHosts(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var now knownAt
	if info, err := os.Stat(name); err == nil {
		now.modified, now.size = info.ModTime(), info.Size()
	}
	if have, ok := s.files[name]; ok && have.modified.Equal(now.modified) && have.size == now.size {
		return have.file, nil
	}
	file, err := readKnownHosts(name)
	if err != nil {
		return nil, err
	}
	if s.files == nil {
		s.files = map[string]knownAt{}
	}
	now.file = file
	s.files[name] = now
	if report != nil {
		for _, line := range file.malformed {
			report("ignored, since it is malformed: " + line)
		}
	}
	return file, nil
}

// unlocking is a key with a passphrase, and the turn to ask for it.
type unlocking struct {
	turn   chan struct{}
	signer ssh.Signer
	err    error
}

// unlock returns the signer of a key; ask asks until it has it. Who comes later gets the same
// answer, unless ctx of who asked has ended.
func (s *Shared) unlock(ctx context.Context, key string, ask func() (ssh.Signer, error)) (ssh.Signer, error) {
	if s == nil {
		return ask()
	}
	s.mu.Lock()
	u := s.keys[key]
	if u == nil {
		if s.keys == nil {
			s.keys = map[string]*unlocking{}
		}
		u = &unlocking{turn: make(chan struct{}, 1)}
		s.keys[key] = u
	}
	s.mu.Unlock()
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if u.signer != nil || u.err != nil {
		return u.signer, u.err
	}
	signer, err := ask()
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	u.signer, u.err = signer, err
	return signer, err
}
