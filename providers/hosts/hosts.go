// Package hosts will take machines that exist already. It is not available in this release: it holds the place
// of the provider in the spec's union and says so.
package hosts

import "errors"

// Unavailable is the error of every use of this provider.
func Unavailable() error {
	return errors.New("spec.provider.hosts is not available in this release; use `provider: {local: {}}`")
}
