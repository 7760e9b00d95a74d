package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// Where keys are read from; docs/cli.md describes these variables.
const (
	identityFileVar   = "SLIPWAY_AGE_IDENTITY_FILE"
	passphraseFileVar = "SLIPWAY_PASSPHRASE_FILE" //nolint:gosec // the name of a file, no passphrase
)

// stateOf derives from the spec and the environment where the state is and how to open it. dir is
// the cluster's own directory on this computer, where providers store their files: that of the
// state, unless the state is in S3.
func (a *app) stateOf(c *spec.Cluster) (o state.Options, dir string, err error) {
	s := c.Spec.State
	if s.Directory != "" {
		dir, err = a.besideSpec(s.Directory)
		dir = filepath.Join(dir, c.Metadata.Name)
	} else {
		dir, err = state.DefaultDir(c.Metadata.Name)
	}
	if err != nil {
		return state.Options{}, "", err
	}
	if s.S3 != nil {
		o.S3 = &state.S3{
			Bucket: s.S3.Bucket, Prefix: s.S3.Prefix, Region: s.S3.Region, Endpoint: s.S3.Endpoint, PathStyle: s.S3.PathStyle,
		}
	} else {
		o.Dir = dir
	}
	if s.Encryption != nil {
		o.Recipients, o.Passphrase = s.Encryption.Recipients, s.Encryption.Passphrase
	}
	o.Keys = state.Keys{Identities: a.identities, Passphrase: a.passphrase}
	return o, dir, nil
}

// besideSpec makes a path in the spec absolute: ~/ is the home directory, everything else is
// relative to the spec file, so that it does not depend on the working directory.
func (a *app) besideSpec(p string) (string, error) {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		home, err := os.UserHomeDir()
		return filepath.Join(home, rest), err
	}
	if filepath.IsAbs(p) {
		return filepath.Clean(p), nil
	}
	if a.file == "-" {
		return filepath.Abs(p)
	}
	return filepath.Abs(filepath.Join(filepath.Dir(a.file), p))
}

// openStore locks the cluster's state for writing.
func (c *cluster) openStore(ctx context.Context) (*state.Store, error) {
	if err := c.checkMoved(ctx); err != nil {
		return nil, err
	}
	return state.Open(ctx, c.state)
}

// readStore opens the state without the lock: reading does not wait for a run. If nothing was
// applied yet, errors.Is finds fs.ErrNotExist.
func (c *cluster) readStore(ctx context.Context) (*state.Store, error) {
	if err := c.checkMoved(ctx); err != nil {
		return nil, err
	}
	return state.OpenReadOnly(ctx, c.state)
}

// readStoreIfAny is readStore, but returns nil if nothing was applied yet.
func (c *cluster) readStoreIfAny(ctx context.Context) (*state.Store, error) {
	store, err := c.readStore(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return store, err
}

// closeStore closes a store; nil is none.
func closeStore(store *state.Store) error {
	if store == nil {
		return nil
	}
	return store.Close()
}

// checkMoved prevents a running cluster from getting new keys because its spec names another place
// than before.
func (c *cluster) checkMoved(ctx context.Context) error {
	old, err := state.DefaultDir(c.spec.Metadata.Name)
	if err != nil || old == c.state.Dir {
		return err
	}
	// If the state is in S3, the directory may hold other files of this cluster: its defects do not
	// matter here.
	if left, err := hasState(ctx, state.Options{Dir: old}); err != nil || !left {
		return nil
	}
	if found, err := hasState(ctx, c.state); err != nil || found {
		return err
	}
	remedy := "move it there: mv " + old + " " + c.dir
	if c.state.S3 != nil {
		remedy = "copy it there: `slipway state import " + old + "`"
	}
	return fmt.Errorf("the spec names %[2]s for the state of cluster %[1]s, which has none, but %[3]s has one: %[4]s; nothing was changed",
		c.spec.Metadata.Name, c.state, old, remedy)
}

// hasState reports whether anything is stored there besides runs, which are written before any key.
func hasState(ctx context.Context, o state.Options) (bool, error) {
	o.Keys = state.Keys{} // no passphrase is needed only to check
	store, err := state.OpenReadOnly(ctx, o)
	var key *state.KeyError
	switch {
	case errors.As(err, &key):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	names, err := store.List(ctx, "")
	return slices.ContainsFunc(names, func(name string) bool { return !state.IsLoose(name) }), errors.Join(err, store.Close())
}

// underLock runs f while holding the lock. If the lock is lost, f is interrupted, and the error
// says why.
func underLock(ctx context.Context, store *state.Store, do func(context.Context) error) error {
	held, release := store.Held(ctx)
	defer release()
	err := do(held)
	if ctx.Err() == nil && held.Err() != nil {
		return errors.Join(context.Cause(held), err)
	}
	return err
}

// identities returns the private keys that may open the state: those in the file that the user
// names, otherwise those in the usual places. The user's SSH keys are tried only for SSH
// recipients.
func (a *app) identities(recipients []string) ([]age.Identity, error) {
	if file := os.Getenv(identityFileVar); file != "" {
		return a.identityFile(file)
	}
	var files []string
	if config, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(config, "slipway", "age.txt"))
	}
	home, err := os.UserHomeDir()
	for _, kind := range []string{"ed25519", "rsa"} {
		for _, r := range recipients {
			if file := filepath.Join(home, ".ssh", "id_"+kind); err == nil && strings.HasPrefix(r, "ssh-"+kind) && files[len(files)-1] != file {
				files = append(files, file)
			}
		}
	}
	var all []age.Identity
	for _, file := range files {
		found, err := a.identityFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// identityFile reads a file of age-keygen's, or an OpenSSH private key. Its errors do not contain
// the file's content.
func (a *app) identityFile(file string) ([]age.Identity, error) {
	text, err := os.ReadFile(file) //nolint:gosec // G703: the user names it
	if err != nil {
		return nil, fmt.Errorf("read the private key to the state: %w", err)
	}
	if !bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		found, err := age.ParseIdentities(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s holds no private key of age (a line AGE-SECRET-KEY-...) or of OpenSSH", file)
		}
		return found, nil
	}
	id, err := agessh.ParseIdentity(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) && locked.PublicKey != nil {
		id, err = agessh.NewEncryptedSSHIdentity(locked.PublicKey, text, func() ([]byte, error) {
			phrase, err := a.askSecret("Passphrase of " + file)
			return phrase.Reveal(), err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", file, err)
	}
	return []age.Identity{id}, nil
}

// passphrase returns that of the state: from the file that the user names, otherwise from the
// terminal, twice if it is new.
func (a *app) passphrase(chosen bool) (secret.Bytes, error) {
	if file := os.Getenv(passphraseFileVar); file != "" {
		text, err := os.ReadFile(file) //nolint:gosec // G703: the user names it
		if err != nil {
			return nil, fmt.Errorf("read the passphrase of the state: %w", err)
		}
		return bytes.TrimRight(text, "\r\n"), nil
	}
	if !chosen {
		return a.askSecret("Passphrase of the state")
	}
	phrase, err := a.askSecret("New passphrase of the state; without it the cluster's keys cannot be read")
	if err != nil {
		return nil, err
	}
	again, err := a.askSecret("Repeat it")
	if err == nil && !bytes.Equal(phrase, again) {
		err = errors.New("the two passphrases differ; nothing was changed")
	}
	return phrase, err
}

// askSecret reads a line from the terminal without showing it.
func (a *app) askSecret(what string) (secret.Bytes, error) {
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, fmt.Errorf("there is no terminal to ask on (%s); name a file that holds it in %s", strings.ToLower(what[:1])+what[1:], passphraseFileVar)
	}
	text, err := a.typed(context.Background(), file, what)
	if err != nil {
		return nil, fmt.Errorf("read a passphrase from the terminal: %w", err)
	}
	return text, nil
}
