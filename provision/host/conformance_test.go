package host_test

import (
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

func TestLocal(t *testing.T) {
	hosttest.Conformance(t, func(*testing.T) host.Host { return host.Local("here") })
}

func TestSSH(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	hosttest.Conformance(t, func(t *testing.T) host.Host { return dial(t, server.Config("there")) })
}

func TestOpenSSH(t *testing.T) {
	config := hosttest.NewOpenSSH(t)
	config.Name = "there"
	hosttest.Conformance(t, func(t *testing.T) host.Host { return dial(t, config) })
}

func dial(t testing.TB, c host.Config) *host.SSH {
	t.Helper()
	h, err := host.Dial(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
