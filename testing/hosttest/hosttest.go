// Package hosttest proves hosts and stands in for them.
//
// Conformance is what every host.Host must do. NewSSHD is an SSH server inside the test that can be told to fail,
// NewOpenSSH a real one, and Memory a host without a machine, for the tests of those who use hosts.
// It is no simulation of a machine: scripts run on this one, or, with Memory, are answered by the test.
package hosttest

import (
	"context"
	"testing"
	"time"
)

// limit is how long anything in the suite may take.
const limit = 2 * time.Minute

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}
