// Package plan compares desired with observed state. The difference becomes changes with reasons, refusals and
// disruptions, and the changes become steps in an order that keeps quorum and API.
//
// All of it is pure: values go in, values come out. Carrying steps out is the business of package converge.
package plan
