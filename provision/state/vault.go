package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"slipway.dev/slipway/provision/secret"
)

// keyName is the name of the data key. It begins with a dot, so callers cannot use it. Its content
// is a header, or empty for an unencrypted state. So one put can change the key and the contents.
const keyName = ".key"

// scryptWork is the logarithm of the cost of trying a passphrase: age's default, about a second.
// Tests use less.
var scryptWork = 18

// Keys provide decryption keys. The functions are called only if needed.
type Keys struct {
	// Identities returns private keys that may fit the given recipients (public keys).
	Identities func(recipients []string) ([]age.Identity, error)
	// Passphrase returns the passphrase. chosen means that it is a new one, which cannot be checked
	// against an old one.
	Passphrase func(chosen bool) (secret.Bytes, error)
}

// KeyError means that the state is encrypted, and the key is wrong or missing.
type KeyError struct {
	// Recipients are the public keys that the state is encrypted to; empty if Passphrase is set.
	Recipients []string
	Passphrase bool
	// Err is nil if there was no key to try.
	Err error
}

func (e *KeyError) Error() string {
	switch to := strings.Join(e.Recipients, ", "); {
	case e.Passphrase && e.Err == nil:
		return "it is encrypted with a passphrase, but none was given"
	case e.Passphrase:
		return "it is encrypted with a passphrase, but the given one is wrong"
	case e.Err == nil:
		return fmt.Sprintf("it is encrypted to %s, but no private key was given", to)
	default:
		return fmt.Sprintf("it is encrypted to %s, but none of the given private keys fits", to)
	}
}

func (e *KeyError) Unwrap() error { return e.Err }

// header says what a state is encrypted to, and has the data key, an age identity that contents are
// encrypted to. So the cost of scrypt, a hardware key or many recipients is paid once, not for each
// name.
type header struct {
	Recipients []string `json:"recipients,omitempty"`
	Passphrase bool     `json:"passphrase,omitempty"`
	// Key is the data key, encrypted, in age's armor.
	Key string `json:"key"`
}

func parseHeader(text []byte) (header, error) {
	var h header
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&h); err != nil {
		return header{}, fmt.Errorf("its data key is damaged: %w", err)
	}
	if h.Passphrase == (len(h.Recipients) > 0) || h.Key == "" {
		return header{}, errors.New("its data key is damaged: it should be encrypted to recipients or with a passphrase")
	}
	return h, nil
}

// vault encrypts and decrypts contents. The zero vault does neither.
type vault struct {
	header []byte // as stored
	key    *age.X25519Identity
}

// unlock returns the vault for the stored header: the current one, unless a writer has re-encrypted
// the state.
func (s *Store) unlock(ctx context.Context, v view) (*vault, error) {
	text, err := optional(v.get(ctx, keyName))
	if err != nil {
		return nil, err
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if bytes.Equal(text, s.vault.header) {
		return s.vault, nil
	}
	opened := &vault{header: text}
	if len(text) > 0 {
		if opened.key, err = s.keys.open(text); err != nil {
			return nil, err
		}
	}
	s.vault = opened
	return opened, nil
}

// open decrypts the data key.
func (k Keys) open(text []byte) (*age.X25519Identity, error) {
	h, err := parseHeader(text)
	if err != nil {
		return nil, err
	}
	identities, err := k.identities(h)
	if err != nil {
		return nil, err
	}
	key, err := decrypt(armor.NewReader(strings.NewReader(h.Key)), identities...)
	var mismatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &mismatch):
		return nil, &KeyError{Recipients: h.Recipients, Passphrase: h.Passphrase, Err: err}
	case err != nil:
		return nil, fmt.Errorf("its data key cannot be decrypted: %w", err)
	}
	identity, err := age.ParseX25519Identity(string(key.Reveal()))
	if err != nil {
		return nil, errors.New("its data key is damaged: it is not an age identity")
	}
	return identity, nil
}

func (k Keys) identities(h header) ([]age.Identity, error) {
	missing := &KeyError{Recipients: h.Recipients, Passphrase: h.Passphrase}
	if !h.Passphrase {
		if k.Identities == nil {
			return nil, missing
		}
		identities, err := k.Identities(h.Recipients)
		if err == nil && len(identities) == 0 {
			err = missing
		}
		return identities, err
	}
	phrase, err := k.passphrase(false)
	if err != nil {
		return nil, err
	}
	identity, err := age.NewScryptIdentity(string(phrase.Reveal()))
	return []age.Identity{identity}, err
}

func (k Keys) passphrase(chosen bool) (secret.Bytes, error) {
	if k.Passphrase == nil {
		return nil, &KeyError{Passphrase: true}
	}
	phrase, err := k.Passphrase(chosen)
	if err == nil && len(phrase) == 0 {
		err = &KeyError{Passphrase: true}
	}
	return phrase, err
}

// prepare locks the store and encrypts it as the options say. It gets the keys first: with a wrong
// key nothing is changed, and no process waits for the lock while a user types a passphrase.
func (s *Store) prepare(ctx context.Context, o Options) error {
	if err := s.unlockStored(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := s.vault
	if !fresh.isFor(o) {
		var err error
		if fresh, err = newVault(o); err != nil {
			return err
		}
	}
	if err := s.at.lock(ctx); err != nil {
		return err
	}
	// Again, because another writer may have changed it until now.
	if err := s.unlockStored(ctx); err != nil {
		return err
	}
	if s.vault.isFor(o) {
		return nil
	}
	return s.reseal(ctx, fresh)
}

func (s *Store) unlockStored(ctx context.Context) error {
	v, err := s.at.view(ctx)
	if err == nil {
		_, err = s.unlock(ctx, v)
	}
	return err
}

// reseal re-encrypts everything atomically. The backend ensures this for loose names too.
func (s *Store) reseal(ctx context.Context, fresh *vault) error {
	items, err := s.GetAll(ctx, "")
	if err != nil {
		return err
	}
	sealed, err := fresh.sealAll(items)
	if err != nil {
		return err
	}
	sealed[keyName] = fresh.header
	if err := s.at.put(ctx, sealed); err != nil {
		return err
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	s.vault = fresh
	return nil
}

// isFor reports whether the vault matches the options. Comments of SSH keys are ignored.
func (v *vault) isFor(o Options) bool {
	h, err := header{}, error(nil)
	if len(v.header) > 0 {
		h, err = parseHeader(v.header)
	}
	return err == nil && h.Passphrase == o.Passphrase && slices.Equal(normalized(h.Recipients), normalized(o.Recipients))
}

func normalized(recipients []string) []string {
	out := make([]string, len(recipients))
	for i, r := range recipients {
		fields := strings.Fields(r)
		out[i] = strings.Join(fields[:min(2, len(fields))], " ")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// newVault makes a data key for the options. It checks that the operator can decrypt it, because
// otherwise their next run would be locked out.
func newVault(o Options) (*vault, error) {
	h := header{Recipients: normalized(o.Recipients), Passphrase: o.Passphrase}
	if !h.Passphrase && len(h.Recipients) == 0 {
		return &vault{}, nil
	}
	recipients, keys, err := o.recipients(h)
	if err != nil {
		return nil, err
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make a data key: %w", err)
	}
	var text strings.Builder
	armored := armor.NewWriter(&text)
	if err := encrypt(armored, []byte(key.String()), recipients...); err != nil {
		return nil, fmt.Errorf("encrypt the data key: %w", err)
	}
	if err := armored.Close(); err != nil {
		return nil, fmt.Errorf("encrypt the data key: %w", err)
	}
	h.Key = text.String()
	stored, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if _, err := keys.open(stored); err != nil {
		return nil, fmt.Errorf("you could not decrypt the state after encrypting it as the spec says: %w", err)
	}
	return &vault{header: stored, key: key}, nil
}

// recipients also returns the keys for decryption, so that a passphrase is not asked for twice.
func (o Options) recipients(h header) ([]age.Recipient, Keys, error) {
	if !h.Passphrase {
		var all []age.Recipient
		for _, line := range h.Recipients {
			r, err := parseRecipient(line)
			if err != nil {
				return nil, Keys{}, fmt.Errorf("recipient %q: %w", line, err)
			}
			all = append(all, r)
		}
		return all, o.Keys, nil
	}
	if len(h.Recipients) > 0 {
		return nil, Keys{}, errors.New("a state is encrypted either to recipients or with a passphrase")
	}
	phrase, err := o.Keys.passphrase(true)
	if err != nil {
		return nil, Keys{}, err
	}
	r, err := age.NewScryptRecipient(string(phrase.Reveal()))
	if err != nil {
		return nil, Keys{}, err
	}
	r.SetWorkFactor(scryptWork)
	return []age.Recipient{r}, Keys{Passphrase: func(bool) (secret.Bytes, error) { return phrase, nil }}, nil
}

func parseRecipient(line string) (age.Recipient, error) {
	if strings.HasPrefix(line, "ssh-") {
		return agessh.ParseRecipient(line)
	}
	all, err := age.ParseRecipients(strings.NewReader(line))
	if err != nil {
		return nil, err
	}
	return all[0], nil // ParseRecipients fails if there is none
}

func (v *vault) sealAll(items map[string]secret.Bytes) (map[string][]byte, error) {
	sealed := make(map[string][]byte, len(items))
	for name, content := range items {
		sealed[name] = content.Reveal()
		if v.key == nil {
			continue
		}
		var out bytes.Buffer
		if err := encrypt(&out, content.Reveal(), v.key.Recipient()); err != nil {
			return nil, fmt.Errorf("encrypt %q: %w", name, err)
		}
		sealed[name] = out.Bytes()
	}
	return sealed, nil
}

func (v *vault) open(content []byte) (secret.Bytes, error) {
	if v.key == nil {
		return content, nil
	}
	return decrypt(bytes.NewReader(content), v.key)
}

func encrypt(to io.Writer, content []byte, recipients ...age.Recipient) error {
	w, err := age.Encrypt(to, recipients...)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	return w.Close()
}

func decrypt(from io.Reader, identities ...age.Identity) (secret.Bytes, error) {
	r, err := age.Decrypt(from, identities...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
