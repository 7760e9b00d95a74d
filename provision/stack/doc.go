// Package stack says what a node is made of, component by component, and the desired state that follows from a spec,
// machines, a PKI and a bundle.
//
// Desired and observed state are one type, State. Desired is pure: it does not reach a host, nor read a clock.
package stack
