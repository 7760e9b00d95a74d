//go:build !race

package provision

import "testing"

func alone(*testing.T) {}
