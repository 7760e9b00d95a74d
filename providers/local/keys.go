package local

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/secret"
)

// keyPair is one of slipway's SSH keys in the state directory.
type keyPair struct {
	private secret.Bytes // PEM, OpenSSH's format
	public  string       // one line of authorized_keys, with the name as comment
}

// userKey is the name of the key that logs in; the machines' host keys are named as they are.
const userKey = "id_ed25519"

// keyDir is the directory of a cluster's SSH keys, with mode 0700; each key has mode 0600.
func (p *Local) keyDir() string { return filepath.Join(p.o.StateDir, "ssh") }

// ensureKey loads the key of that name or makes it.
func ensureKey(dir, name string) (keyPair, error) {
	k, err := loadKey(dir, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("make SSH key %s: %w", name, err)
	}
	block, err := ssh.MarshalPrivateKey(priv, name)
	if err != nil {
		return keyPair{}, fmt.Errorf("encode SSH key %s: %w", name, err)
	}
	if err := writeSecret(filepath.Join(dir, name), pem.EncodeToMemory(block)); err != nil {
		return keyPair{}, fmt.Errorf("keep SSH key %s: %w", name, err)
	}
	return loadKey(dir, name)
}

// loadKey reads a key. The error is fs.ErrNotExist if there is none.
func loadKey(dir, name string) (keyPair, error) {
	b, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // in the state directory
	if err != nil {
		return keyPair{}, fmt.Errorf("read SSH key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return keyPair{}, fmt.Errorf("SSH key %s is damaged: %w; destroy and recreate the cluster",
			filepath.Join(dir, name), err)
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return keyPair{private: b, public: public + " " + name}, nil
}

// writeSecret puts b at path, whole or not at all, readable by its owner only.
func writeSecret(path string, b []byte) error { return writeFile(path, b, 0o700, 0o600) }

// writeFile puts b at path by a rename, so that a reader sees the old content or the new.
func writeFile(path string, b []byte, dirMode, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	_, werr := f.Write(b)
	if err := errors.Join(werr, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
