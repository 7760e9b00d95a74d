package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// privateFile is a file that only its owner can read, and that is written completely or not at all.
type privateFile struct {
	what string // "the plan"
	path string
	temp *os.File // next to it
}

// newPrivateFile checks that path can be written, and changes nothing there yet.
func newPrivateFile(what, path string) (*privateFile, error) {
	info, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("write %s: %w", what, err)
	}
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("write %s: %s exists and is not a regular file: name another, or print it", what, path)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", what, err)
	}
	return &privateFile{what, path, temp}, nil
}

// Commit replaces the file by content.
func (f *privateFile) Commit(content []byte) error {
	_, err := f.temp.Write(content)
	if err = errors.Join(err, f.temp.Sync(), f.temp.Close()); err == nil {
		err = os.Rename(f.temp.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.what, err)
	}
	return nil
}

// Discard removes the temporary file; after Commit it does nothing.
func (f *privateFile) Discard() {
	_ = f.temp.Close()
	_ = os.Remove(f.temp.Name())
}
