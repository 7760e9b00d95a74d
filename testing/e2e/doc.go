// Package e2e tests the built binary against real clusters on this computer.
//
// Its tests know slipway's command line, Kubernetes and Docker, and nothing of slipway's packages but the spec: they see
// what a user sees. They run only with SLIPWAY_E2E=1 (as `make test` does); then whatever they need and do not find is a
// failure. SLIPWAY_BIN names the binary; without it one is built. With SLIPWAY_E2E_LONG=1 they also wait for what takes many
// minutes: that clients show renewed certificates, and the way back of a rotation on a cluster of three control planes.
package e2e
