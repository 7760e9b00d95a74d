package certs

import (
	"errors"
	"fmt"
)

// Errors in existing material. Ensure refuses it, because replacing it could hide that the state is
// damaged or belongs to another cluster. Test for them with errors.Is.
var (
	// ErrMalformed means that content cannot be parsed.
	ErrMalformed = errors.New("malformed")
	// ErrKeyMismatch means that the private key belongs to another certificate.
	ErrKeyMismatch = errors.New("the private key does not belong to the certificate")
	// ErrNotAuthority means that a CA's certificate does not allow signing.
	ErrNotAuthority = errors.New("the certificate is not a CA certificate")
	// ErrExpired means that a CA has expired. Expired leaves are renewed.
	ErrExpired = errors.New("the CA has expired")
	// ErrNotYetValid means that a certificate is not valid yet, usually because the operator's
	// clock is wrong.
	ErrNotYetValid = errors.New("the certificate is not valid yet: check the clock of this machine")
	// ErrNoKey means that the key of a CA is missing although it is not an external CA.
	ErrNoKey = errors.New("the CA's key is not in the state, and the CA is not in spec.pki.authorities: " +
		"add it there, restore the state from a backup, or replace the CA (`slipway certs rotate-ca`)")
	// ErrLost means that a CA or key pair is missing while items that depend on it exist: with a
	// new one, the running cluster would stop working.
	ErrLost = errors.New("missing, although items that depend on it exist: restore it from a backup of the state")
)

// ItemError is an error of one item. Err wraps one of the errors above, or an error of cfssl.
type ItemError struct {
	Name string
	Err  error
}

func (e *ItemError) Error() string { return fmt.Sprintf("certificate %q: %v", e.Name, e.Err) }

func (e *ItemError) Unwrap() error { return e.Err }

// itemError returns an ItemError, or nil if err is nil.
func itemError(name string, err error) error {
	if err == nil {
		return nil
	}
	return &ItemError{Name: name, Err: err}
}
