// Package converge carries steps out: a Runner binds the verbs of a schedule to effects on hosts,
// the API and etcd, and waits until the result of a step is proven.
//
// Package plan decides which steps are needed, and their order.
package converge
