// Package converge carries steps out: a Runner binds the verbs of a schedule to effects on hosts, the API and etcd, and
// waits until what a step promises is proven.
//
// What has to be done, and in which order, was decided before, by package plan.
package converge
