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

// keyName is where the data key is. It begins with a dot, as no name of a user can. What is there is a header, or
// nothing at all for a state that is not encrypted (any more): so a change of both is one put.
const keyName = ".key"

// scryptWork is the logarithm of what trying a passphrase costs: age's own default, about a second. Tests have less.
var scryptWork = 18

// Keys open what is encrypted. They are asked only when they are needed.
type Keys struct {
	// Identities are private keys that may fit; the recipients, public keys, tell which are looked for.
	Identities func(recipients []string) ([]age.Identity, error)
	// Passphrase gives the passphrase, where chosen tells that it is a new one and cannot be compared with an old one.
	Passphrase func(chosen bool) (secret.Bytes, error)
}

// KeyError means that the state is encrypted and that the key is wrong, or that there is none.
type KeyError struct {
	// Recipients are the public keys that the state is encrypted to; none when Passphrase says that it is a passphrase.
	Recipients []string
	Passphrase bool
	// Err is nil when no key was there to try.
	Err error
}

func (e *KeyError) Error() string {
	switch to := strings.Join(e.Recipients, ", "); {
	case e.Passphrase && e.Err == nil:
		return "it is encrypted with a passphrase, and none was given"
	case e.Passphrase:
		return "it is encrypted with a passphrase, and the one given is wrong"
	case e.Err == nil:
		return fmt.Sprintf("it is encrypted to %s, and no private key was given", to)
	default:
		return fmt.Sprintf("it is encrypted to %s, and none of the private keys given belongs to these", to)
	}
}

func (e *KeyError) Unwrap() error { return e.Err }

// header tells what a state is encrypted to, and holds the data key, an age identity that contents are encrypted to. So
// scrypt, a hardware key or many recipients cost their time once, not for each name.
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
	header []byte // as it is stored
	key    *age.X25519Identity
}

// unlock gives the vault of what is stored, which is the one at hand unless a writer has encrypted anew.
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
		return nil, fmt.Errorf("its data key cannot be opened: %w", err)
	}
	identity, err := age.ParseX25519Identity(string(key.Reveal()))
	if err != nil {
		return nil, errors.New("its data key is damaged: it is no age identity")
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

// prepare locks the store and has it encrypted as asked. Keys come first: with a wrong one nothing is touched, and
// nobody waits for a lock while a passphrase is typed.
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
	// Again, because another writer may have been at work until now.
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

// reseal encrypts everything anew, all or nothing; the backend sees to it that this holds for what is loose, too.
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

// isFor tells whether the vault is what the options ask for. Comments of SSH keys make no difference.
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

// newVault makes a data key for what the options ask. Whoever makes one must be able to open it, or the next run of the
// same person would be locked out.
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
		return nil, fmt.Errorf("you could not read what you are about to encrypt; if it were encrypted as the spec asks: %w", err)
	}
	return &vault{header: stored, key: key}, nil
}

// recipients also gives the keys to open with what is encrypted to them; a passphrase is not asked for twice.
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
		return nil, Keys{}, errors.New("a state is encrypted to recipients or with a passphrase, not both")
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
	return all[0], nil // an error where there is none
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
