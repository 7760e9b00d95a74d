// Package aws will make machines on EC2 with Terraform. It is not available in this release: it is
// a placeholder that returns an error.
package aws

import "errors"

// Unavailable is the error of every use of this provider.
func Unavailable() error {
	return errors.New("spec.provider.aws is not available in this release; use `provider: {local: {}}`")
}
