package host

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// passphraseTries is how often a person is asked for the passphrase of a key, as with ssh(1)
// (NumberOfPasswordPrompts).
const passphraseTries = 3

// PassphraseError is a private key that could not be decrypted.
type PassphraseError struct {
	Host string
	// File is the file of the key, as the caller named it.
	File string
	// Wrong means that the passphrases that were given do not fit.
	Wrong bool
	// Err is why nobody could be asked; nil if the caller has nobody to ask, or Wrong.
	Err error
}

func (e *PassphraseError) Error() string {
	file := cmp.Or(e.File, "to log in with")
	switch {
	case e.Wrong:
		return fmt.Sprintf("%s: none of %d passphrases fits the key %s", e.Host, passphraseTries, file)
	case e.Err != nil:
		return fmt.Sprintf("%s: the key %s has a passphrase: %v", e.Host, file, e.Err)
	}
	return fmt.Sprintf("%s: the key %s has a passphrase, and there is nobody to ask for it", e.Host, file)
}

func (e *PassphraseError) Unwrap() error { return e.Err }

// lockedSigner is a private key with a passphrase, which is asked for when the key has to sign: the
// host has accepted the public key by then.
type lockedSigner struct {
	dialing *dialing
	id      Identity
	public  ssh.PublicKey
}

var _ ssh.AlgorithmSigner = (*lockedSigner)(nil)

func (s *lockedSigner) PublicKey() ssh.PublicKey { return s.public }

func (s *lockedSigner) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(random, data, "")
}

func (s *lockedSigner) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := s.dialing.unlock(s.id, fingerprint(s.public))
	if err != nil {
		return nil, err
	}
	if able, ok := signer.(ssh.AlgorithmSigner); ok {
		return able.SignWithAlgorithm(random, data, algorithm)
	}
	return signer.Sign(random, data)
}

// unlock decrypts a key. hash is the fingerprint of its public key, if that is known.
func (d *dialing) unlock(id Identity, hash string) (ssh.Signer, error) {
	which := fmt.Sprintf("%x", sha256.Sum256(id.Private.Reveal()))
	resume := d.pause()
	defer resume()
	signer, err := d.Shared.unlock(d.ctx, which, func() (ssh.Signer, error) { return d.decrypt(id, hash) })
	if err == nil {
		return signer, nil
	}
	var failed *PassphraseError
	if errors.As(err, &failed) {
		mine := *failed // the dial of another host may have asked
		mine.Host = d.Name
		err = &mine
	}
	d.refusal = err
	return nil, err
}

func (d *dialing) decrypt(id Identity, hash string) (ssh.Signer, error) {
	if d.Secret == nil {
		return nil, &PassphraseError{File: cmp.Or(id.Name, hash)}
	}
	question := "Passphrase of the SSH key " + cmp.Or(id.Name, hash)
	for range passphraseTries {
		phrase, err := d.Secret(d.ctx, question)
		if err != nil {
			return nil, &PassphraseError{File: cmp.Or(id.Name, hash), Err: err}
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(id.Private.Reveal(), phrase.Reveal())
		if err == nil {
			return signer, nil
		}
		if !errors.Is(err, x509.IncorrectPasswordError) {
			return nil, fmt.Errorf("decrypt the key %s: %w", cmp.Or(id.Name, hash), err)
		}
		question = "Wrong. Passphrase of the SSH key " + cmp.Or(id.Name, hash)
	}
	return nil, &PassphraseError{File: cmp.Or(id.Name, hash), Wrong: true}
}
