// Package e2e tests the built binary against real clusters on this computer.
//
// Its tests know slipway's command line, Kubernetes and Docker, and nothing of slipway's packages but the spec: they see
// what a user sees. They run only with SLIPWAY_E2E=1 (as `make test` does); then whatever they need and do not find is a
// failure. SLIPWAY_BIN names the binary; without it one is built. Tests whose names begin with TestLong take too long for
// every change: they run with SLIPWAY_E2E_LONG=1 (as `make e2e-all` does), and the table of testing/touched says which of
// them a change touches.
package e2e
