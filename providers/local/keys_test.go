package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestEnsureKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo", "ssh")
	if _, err := loadKey(dir, "demo-cp-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a key before it was made: %v", err)
	}
	k, err := ensureKey(dir, "demo-cp-1")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(k.private.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	public, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(k.public))
	if err != nil || comment != "demo-cp-1" || string(public.Marshal()) != string(signer.PublicKey().Marshal()) {
		t.Errorf("public key %q, %v", k.public, err)
	}
	if public.Type() != ssh.KeyAlgoED25519 {
		t.Errorf("type %s", public.Type())
	}
	again, err := ensureKey(dir, "demo-cp-1")
	if err != nil || again.public != k.public {
		t.Errorf("a second time: %q, %v; want %q", again.public, err, k.public)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "demo-cp-1"): 0o600} {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", path, fi.Mode(), err, want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files beside the key", len(entries)-1)
	}
	if s := fmt.Sprintf("%v %+v", k, machine{host: k, user: k}); strings.Contains(s, "PRIVATE") {
		t.Errorf("the key prints as %s", s)
	}
}

func TestDamagedKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "demo-cp-1")
	if err := os.WriteFile(path, []byte("-----BEGIN nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	// It must not be replaced silently: machines may have the old one.
	if _, err := ensureKey(dir, "demo-cp-1"); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a damaged key: %v", err)
	}
}

// TestLostKeys: a machine of which a key is missing here is not tried with keys that are no machine's.
func TestLostKeys(t *testing.T) {
	p, user := opened(t, 1, Options{})
	if _, err := ensureKey(p.keyDir(), "demo-cp-1"); err != nil {
		t.Fatal(err)
	}
	f := found{name: "demo-cp-1", labels: map[string]string{}}
	if err := p.lostKeys(p.describe(f, user, nil)); err != nil {
		t.Errorf("with both keys: %v", err)
	}
	if err := p.lostKeys(p.describe(f, keyPair{}, nil)); err == nil || !strings.Contains(err.Error(), p.keyDir()) {
		t.Errorf("without the key to log in with: %v", err)
	}
	if err := p.lostKeys(p.describe(found{name: "demo-cp-2"}, user, nil)); err == nil {
		t.Error("without a host key: no error")
	}
}
