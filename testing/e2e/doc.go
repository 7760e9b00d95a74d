// Package e2e tests the built binary against real clusters on this computer.
//
// Its tests know slipway's command line, Kubernetes and Docker, and nothing of slipway's packages but the spec: they see
// what a user sees. They run only with SLIPWAY_E2E=1 (as `make test` does); then whatever they need and do not find is a
// failure. SLIPWAY_BIN names the binary; without it one is built. With SLIPWAY_E2E_LONG=1 (as `make e2e-all`
// does) they also do what takes too long for every change: more ways and more moments to interrupt slipway, each control
// plane stopped in turn, a rotation of all authorities on three control planes, there and back, and the wait until clients
// show renewed certificates.
package e2e
