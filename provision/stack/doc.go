// Package stack describes the components of a node, and computes the desired state that follows
// from a spec, machines, a PKI and a bundle.
//
// Desired and observed state are one type, State. Desired is pure: it neither reaches a host nor
// reads a clock.
package stack
