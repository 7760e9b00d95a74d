package certs

import (
	"errors"
	"fmt"
)

// What may be wrong with material that exists. Ensure refuses it, because replacing it could hide a damaged or
// foreign state directory; errors.Is finds these in what it returns.
var (
	// ErrMalformed is content that cannot be read as what it should be.
	ErrMalformed = errors.New("malformed")
	// ErrKeyMismatch is a private key that is not the certificate's.
	ErrKeyMismatch = errors.New("the private key does not belong to the certificate")
	// ErrNotAuthority is a certificate that stands for an authority and may not sign.
	ErrNotAuthority = errors.New("the certificate is not an authority's")
	// ErrExpired is an authority past its end. Leaves past theirs are renewed.
	ErrExpired = errors.New("the authority has expired")
	// ErrNotYetValid is a certificate from the future: most often the operator's clock is wrong.
	ErrNotYetValid = errors.New("the certificate is not valid yet: check the clock of this machine")
	// ErrNoKey is an authority without its key that the user does not say is kept elsewhere.
	ErrNoKey = errors.New("the authority's key is not in the state, and the spec does not name the authority (spec.pki.authorities): name it, restore the state from a backup, or have it replaced (`slipway certs rotate-ca`)")
	// ErrLost is an authority or key pair that is missing while what depends on it exists: a new one would
	// cut the running cluster off.
	ErrLost = errors.New("missing, though what depends on it exists: restore it from a backup of the state")
)

// ItemError says which item is wrong. Err wraps one of the errors above, or what cfssl said.
type ItemError struct {
	Name string
	Err  error
}

func (e *ItemError) Error() string { return fmt.Sprintf("certificate %q: %v", e.Name, e.Err) }

func (e *ItemError) Unwrap() error { return e.Err }

// itemError names the item, unless err is nil.
func itemError(name string, err error) error {
	if err == nil {
		return nil
	}
	return &ItemError{Name: name, Err: err}
}
