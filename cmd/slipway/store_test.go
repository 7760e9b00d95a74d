package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// clusterWith is a cluster named demo whose spec has that state.
func clusterWith(s spec.State) *spec.Cluster {
	return &spec.Cluster{Metadata: spec.Metadata{Name: "demo"}, Spec: spec.ClusterSpec{State: s}}
}

func TestStateOf(t *testing.T) {
	t.Setenv("SLIPWAY_STATE_DIR", "/states")
	t.Setenv("HOME", "/home/alice")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s3 := &spec.S3State{Bucket: "b", Prefix: "p", Region: "r", Endpoint: "e", PathStyle: true}
	for _, test := range []struct {
		file       string
		state      spec.State
		where, dir string
	}{
		{"cluster.yaml", spec.State{}, "/states/demo", "/states/demo"},
		{"/specs/prod.yaml", spec.State{Directory: "state"}, "/specs/state/demo", "/specs/state/demo"},
		{"specs/prod.yaml", spec.State{Directory: "../state"}, here + "/state/demo", here + "/state/demo"},
		{"-", spec.State{Directory: "state"}, here + "/state/demo", here + "/state/demo"},
		{"/specs/prod.yaml", spec.State{Directory: "/srv/slipway/"}, "/srv/slipway/demo", "/srv/slipway/demo"},
		{"/specs/prod.yaml", spec.State{Directory: "~/slipway"}, "/home/alice/slipway/demo", "/home/alice/slipway/demo"},
		{"/specs/prod.yaml", spec.State{S3: s3}, "s3://b/p", "/states/demo"},
	} {
		a := &app{file: test.file}
		o, dir, err := a.stateOf(clusterWith(test.state))
		if err != nil || o.String() != test.where || dir != test.dir {
			t.Errorf("%+v: %s and %s, %v", test, o, dir, err)
		}
	}
	o, _, err := (&app{}).stateOf(clusterWith(spec.State{S3: s3, Encryption: &spec.Encryption{Recipients: []string{"x"}, Passphrase: true}}))
	if err != nil || o.S3.Region != "r" || o.S3.Endpoint != "e" || !o.S3.PathStyle || o.Recipients[0] != "x" || !o.Passphrase {
		t.Errorf("%+v, %v", o.S3, err)
	}
}

// TestMovedState: a spec that names another place must not give a living cluster new keys.
func TestMovedState(t *testing.T) {
	base := t.TempDir()
	t.Setenv("SLIPWAY_STATE_DIR", filepath.Join(base, "default"))
	open := func(s spec.State) (*state.Store, error) {
		a := &app{file: filepath.Join(base, "cluster.yaml")}
		c := &cluster{spec: clusterWith(s)}
		var err error
		if c.state, c.dir, err = a.stateOf(c.spec); err != nil {
			t.Fatal(err)
		}
		return c.openStore(t.Context())
	}
	store, err := open(spec.State{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Put(t.Context(), map[string]secret.Bytes{"pki/ca.key": nil}), store.Close()); err != nil {
		t.Fatal(err)
	}
	elsewhere := spec.State{Directory: "elsewhere"}
	// Runs are there before any key is: they are no state.
	runs, err := state.Open(t.Context(), state.Options{Dir: filepath.Join(base, "elsewhere", "demo")})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(runs.Put(t.Context(), map[string]secret.Bytes{"runs/000001.json": nil}), runs.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := open(elsewhere); err == nil {
		t.Error("opened beside runs alone")
	}
	if err := os.RemoveAll(filepath.Join(base, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(elsewhere); err == nil || !strings.Contains(err.Error(), "mv "+filepath.Join(base, "default", "demo")) {
		t.Errorf("opened with %v", err)
	}
	if _, err := os.Stat(filepath.Join(base, "elsewhere")); err == nil {
		t.Error("something was left there")
	}
	if err := os.Mkdir(filepath.Join(base, "elsewhere"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(base, "default", "demo"), filepath.Join(base, "elsewhere", "demo")); err != nil {
		t.Fatal(err)
	}
	if store, err = open(elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSSHIdentities(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv(identityFileVar, "")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, ".ssh", "id_ed25519")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, pem.EncodeToMemory(block), 0o600)); err != nil {
		t.Fatal(err)
	}
	a := &app{stdin: strings.NewReader(""), stderr: &bytes.Buffer{}}
	for recipients, want := range map[string]int{"age1x": 0, "ssh-rsa A": 0, "ssh-ed25519 A": 1, "ssh-ed25519 A,ssh-ed25519 B": 1} {
		if got, err := a.identities(strings.Split(recipients, ",")); err != nil || len(got) != want {
			t.Errorf("for %s: %d identities, %v", recipients, len(got), err)
		}
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	c := clusterWith(spec.State{
		Directory:  filepath.Join(home, "state"),
		Encryption: &spec.Encryption{Recipients: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))}},
	})
	o, _, err := a.stateOf(c)
	if err != nil {
		t.Fatal(err)
	}
	open := func() error {
		store, err := state.Open(t.Context(), o)
		if err == nil {
			err = store.Close()
		}
		return err
	}
	if err := errors.Join(open(), open()); err != nil {
		t.Errorf("with the user's SSH key: %v", err)
	}
	// A key with a passphrase is asked for it, and only a terminal can be asked.
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("phrase"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(locked), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "no terminal to ask on") || !strings.Contains(err.Error(), file) {
		t.Errorf("with a locked key: %v", err)
	}
}

func TestUnderLock(t *testing.T) {
	store, err := state.Open(t.Context(), state.Options{Dir: filepath.Join(t.TempDir(), "demo")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	failed := errors.New("failed")
	if err := underLock(t.Context(), store, func(context.Context) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = underLock(ctx, store, func(held context.Context) error {
		cancel()
		<-held.Done()
		return context.Cause(held)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt gave %v", err)
	}
}
