package state

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/secret"
)

// onBoth runs a test on a directory and on a bucket.
func onBoth(t *testing.T, test func(t *testing.T, o Options)) {
	t.Helper()
	t.Run("directory", func(t *testing.T) { test(t, Options{Dir: filepath.Join(t.TempDir(), "demo")}) })
	t.Run("S3", func(t *testing.T) { test(t, Options{S3: &startS3(t).at}) })
}

func fill(t *testing.T, o Options, pairs ...string) {
	t.Helper()
	s := openStore(t, o)
	put(t, s, pairs...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWrongKey: it is said, with the public keys that would fit, and nothing is touched.
func TestWrongKey(t *testing.T) {
	onBoth(t, func(t *testing.T, o Options) {
		right, wrong := newIdentity(t), newIdentity(t)
		toKeys, toPhrase := encrypted(o, right), withPassphrase(o, "right")
		for _, test := range []struct {
			name   string
			stored Options
			opened Options
			keys   []string
			says   string
		}{
			{"wrong identity", toKeys, with(toKeys, wrong), toKeys.Recipients, "none of the given private keys fits"},
			{"no identity", toKeys, with(toKeys), toKeys.Recipients, "no private key was given"},
			{"nobody to ask", toKeys, o, toKeys.Recipients, "no private key was given"},
			{"wrong identity, other recipients", toKeys, encrypted(o, wrong), toKeys.Recipients, "none of the given private keys fits"},
			{"wrong passphrase", toPhrase, withPassphrase(o, "wrong"), nil, "the given one is wrong"},
			{"no passphrase", toPhrase, o, nil, "none was given"},
			{"empty passphrase", toPhrase, withPassphrase(o, ""), nil, "none was given"},
		} {
			fill(t, test.stored, "a", "1")
			before := raw(t, o)
			_, err := Open(t.Context(), test.opened)
			_, errRO := OpenReadOnly(t.Context(), test.opened)
			for _, err := range []error{err, errRO} {
				var key *KeyError
				if !errors.As(err, &key) || !reflect.DeepEqual(key.Recipients, test.keys) || key.Passphrase != (test.keys == nil) {
					t.Errorf("%s: %v", test.name, err)
					continue
				}
				if !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), strings.Join(test.keys, ", ")) {
					t.Errorf("%s: %v does not say %q", test.name, err, test.says)
				}
			}
			if !maps.EqualFunc(before, raw(t, o), bytes.Equal) {
				t.Errorf("%s: the state was touched", test.name)
			}
			s := openStore(t, test.stored)
			expect(t, s, "a=1")
			if err := errors.Join(s.Destroy(t.Context()), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestEncryptedAnew goes from each protection to each other one.
func TestEncryptedAnew(t *testing.T) {
	onBoth(t, func(t *testing.T, o Options) {
		a, b := newIdentity(t), newIdentity(t)
		both := func(o Options) Options { o.Keys = withPassphrase(with(o, a, b), "phrase").Keys; return o }
		o = both(o)
		steps := map[string]Options{
			"plain": o, "a": both(encrypted(o, a)), "a and b": both(encrypted(o, a, b)), "passphrase": withPassphrase(o, "phrase"),
		}
		fill(t, o, "pki/ca", "1", "empty", "", "runs/1", "3", "runs/2", "4", "top", "2")
		for from, first := range steps {
			for to, second := range steps {
				fill(t, first)
				reader, err := OpenReadOnly(t.Context(), o)
				if err != nil {
					t.Fatalf("%s: %v", from, err)
				}
				before := raw(t, o)
				s := openStore(t, second)
				for who, s := range map[string]*Store{"writer": s, "reader": reader} {
					if got := strings.Join(contents(t, s), " "); got != "empty= pki/ca=1 runs/1=3 runs/2=4 top=2" {
						t.Errorf("from %s to %s the %s has %s", from, to, who, got)
					}
				}
				if err := errors.Join(s.Close(), reader.Close()); err != nil {
					t.Fatal(err)
				}
				_, errA := OpenReadOnly(t.Context(), encrypted(Options{Dir: o.Dir, S3: o.S3}, a))
				_, errB := OpenReadOnly(t.Context(), encrypted(Options{Dir: o.Dir, S3: o.S3}, b))
				if opens := errA == nil; opens != (to != "passphrase") {
					t.Errorf("from %s to %s: a opens it: %v", from, to, opens)
				}
				if opens := errB == nil; opens != (to == "plain" || to == "a and b") {
					t.Errorf("from %s to %s: b opens it: %v", from, to, opens)
				}
				after := raw(t, o)
				if o.Dir != "" && (from == to) != bytes.Equal(before["data/top"], after["data/top"]) {
					t.Errorf("from %s to %s: encrypted anew: %v", from, to, from == to)
				}
				if o.S3 != nil && len(after) != len(before) {
					t.Errorf("from %s to %s: %d objects where %d were", from, to, len(after), len(before))
				}
			}
		}
	})
}

// flipping is a directory that a writer encrypts anew just after a reader has looked for its key.
type flipping struct {
	name          string
	before, after map[string][]byte
	flipped       bool
}

func (f *flipping) names(context.Context, string) ([]string, error) { return []string{f.name}, nil }

func (f *flipping) get(_ context.Context, name string) ([]byte, error) {
	f.flipped = f.flipped || name == f.name
	if f.flipped {
		return f.after[name], nil
	}
	return f.before[name], nil
}

func TestEncryptedAnewWhileReading(t *testing.T) {
	o := encrypted(Options{}, newIdentity(t))
	plain, sealed := map[string][]byte{"a": []byte("1")}, map[string][]byte(nil)
	v, err := newVault(o)
	if err == nil {
		sealed, err = v.sealAll(map[string]secret.Bytes{"a": secret.Bytes("1")})
	}
	if err != nil {
		t.Fatal(err)
	}
	sealed[keyName] = v.header
	for name, view := range map[string]*flipping{
		"encrypted": {name: "a", before: plain, after: sealed}, "decrypted": {name: "a", before: sealed, after: plain},
	} {
		s := &Store{keys: o.Keys, vault: &vault{}}
		if got, err := s.readOne(t.Context(), view, "a"); err != nil || string(got.Reveal()) != "1" {
			t.Errorf("%s meanwhile: %q, %v", name, got.Reveal(), err)
		}
	}
}

// TestNobodyLocksHimselfOut: what is encrypted can be read by who encrypted it, on the next run
// too.
func TestNobodyLocksHimselfOut(t *testing.T) {
	onBoth(t, func(t *testing.T, o Options) {
		mine, theirs := newIdentity(t), newIdentity(t)
		fill(t, o, "a", "1")
		before := raw(t, o)
		var key *KeyError
		if _, err := Open(t.Context(), with(encrypted(o, theirs), mine)); !errors.As(err, &key) || key.Recipients[0] != theirs.Recipient().String() {
			t.Errorf("encrypted to others only: %v", err)
		}
		if !maps.EqualFunc(before, raw(t, o), bytes.Equal) {
			t.Error("the state was touched")
		}
		fill(t, with(encrypted(o, theirs, mine), mine), "b", "2")
		expect(t, openStore(t, encrypted(o, theirs, mine)), "a=1", "b=2")
	})
}

// TestEncryptionFails: what cannot be encrypted anew as a whole stays as it is.
func TestEncryptionFails(t *testing.T) {
	f := startS3(t)
	o := Options{S3: &f.at}
	fill(t, o, "a", "1", "b", "2")
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		refuse := r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, documentKey) && r.ContentLength > 500
		if refuse { // the encrypted document, not the claim before it
			w.WriteHeader(http.StatusForbidden)
		}
		return refuse
	})
	if _, err := Open(t.Context(), encrypted(o, newIdentity(t))); err == nil {
		t.Error("opened without encrypting")
	}
	f.intercept(nil)
	expect(t, openStore(t, o), "a=1", "b=2")
}

func TestSSHRecipients(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, err := agessh.NewEd25519Identity(edKey)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := agessh.NewRSAIdentity(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: filepath.Join(t.TempDir(), "demo")}
	for _, key := range []any{edKey.Public(), rsaKey.Public()} {
		public, err := ssh.NewPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		o.Recipients = append(o.Recipients, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))+" alice@example.com")
	}
	for _, id := range []age.Identity{ed, rs} {
		o.Keys.Identities = func(recipients []string) ([]age.Identity, error) {
			if len(recipients) != 2 || strings.Contains(recipients[0], "alice") {
				t.Errorf("asked for %q", recipients)
			}
			return []age.Identity{id}, nil
		}
		fill(t, o, "a", "1")
		before := raw(t, o)["data/.key"]
		o.Recipients[0] = strings.Replace(o.Recipients[0], "alice", "bob", 1)
		fill(t, o)
		if !bytes.Equal(before, raw(t, o)["data/.key"]) {
			t.Error("a comment is taken for another key")
		}
		o.Recipients[0] = strings.Replace(o.Recipients[0], "bob", "alice", 1)
	}
}

func TestBadRecipient(t *testing.T) {
	o := Options{Dir: filepath.Join(t.TempDir(), "demo"), Recipients: []string{"age1xyz"}}
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), `recipient "age1xyz"`) {
		t.Errorf("opened with %v", err)
	}
}

// TestFormat1 opens what the first slipways have left: a directory that is not encrypted.
func TestFormat1(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	o := Options{Dir: dir}
	fill(t, o, "pki/ca", "1")
	old := filepath.Join(dir, "version")
	if err := os.WriteFile(old, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReadOnly(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, r, "pki/ca=1")
	if got := string(raw(t, o)["version"]); got != "1\n" {
		t.Errorf("a reader has made it version %q", got)
	}
	id := newIdentity(t)
	expect(t, openStore(t, encrypted(o, id)), "pki/ca=1")
	if got := string(raw(t, o)["version"]); got != "2\n" {
		t.Errorf("after a writer it has version %q", got)
	}
}

// TestDamaged: damage is said to be damage, not a wrong key.
func TestDamaged(t *testing.T) {
	o := encrypted(Options{Dir: filepath.Join(t.TempDir(), "demo")}, newIdentity(t))
	fill(t, o, "a", "1")
	for _, test := range [][2]string{{"a", `"a" cannot be decrypted`}, {".key", "its data key is damaged"}} { // in this order
		file, says := test[0], test[1]
		if err := os.WriteFile(filepath.Join(o.Dir, "data", file), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenReadOnly(t.Context(), o)
		if err == nil {
			_, err = s.Get(t.Context(), "a")
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v does not say %q", file, err, says)
		}
	}
}

func TestErrorsTellNoSecrets(t *testing.T) {
	const phrase = "correct horse battery staple"
	o := withPassphrase(Options{Dir: filepath.Join(t.TempDir(), "demo")}, phrase)
	fill(t, o, "a", "1")
	_, err := Open(t.Context(), withPassphrase(o, phrase+phrase))
	if err == nil || strings.Contains(err.Error(), phrase) {
		t.Errorf("%v", err)
	}
}

func FuzzHeader(f *testing.F) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	v, err := newVault(encrypted(Options{}, id))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v.header)
	f.Add([]byte(`{"passphrase":true,"key":"-----BEGIN AGE ENCRYPTED FILE-----"}`))
	f.Add([]byte(`{}`))
	keys := Keys{
		Identities: func([]string) ([]age.Identity, error) { return []age.Identity{id}, nil },
		Passphrase: func(bool) (secret.Bytes, error) {
			return nil, errors.New("not asked in a fuzz test: it costs a second")
		},
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if h, err := parseHeader(text); err == nil && (h.Key == "" || h.Passphrase == (len(h.Recipients) > 0)) {
			t.Errorf("%q was accepted", text)
		}
		if key, err := keys.open(text); (key == nil) == (err == nil) {
			t.Errorf("%q gave %v, %v", text, key == nil, err)
		}
	})
}
