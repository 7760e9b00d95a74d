// Package hosts will use existing machines. It is not available in this release: it is a
// placeholder that returns an error.
package hosts

import "errors"

// Unavailable is the error of every use of this provider.
func Unavailable() error {
	return errors.New("spec.provider.hosts is not available in this release; use `provider: {local: {}}`")
}
