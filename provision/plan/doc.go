// Package plan compares desired with observed state. It turns the difference into changes with
// reasons, refusals and disruptions, and the changes into steps, in an order that keeps etcd's
// quorum and the API.
//
// All of it is pure: values go in, values come out. Package converge carries the steps out.
package plan
