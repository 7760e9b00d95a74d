// Package diagnose finds out why a cluster misbehaves: Gather reads evidence from its machines, its
// API and etcd, Diagnose derives findings from it, with causes before symptoms, and Archive packs
// both for somebody else to look at, without secrets.
//
// It changes nothing, and mends nothing: each finding says how. Rules are pure functions of the
// evidence, in a table. Whether a machine is fit for a cluster before it has one is not decided
// here.
package diagnose
