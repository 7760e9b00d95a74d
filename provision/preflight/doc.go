// Package preflight says whether machines can become nodes, before anything is changed on them: a
// table of checks over facts, which one script a host gathers, and one exchange among the hosts.
//
// Checks are pure functions of facts. The package changes nothing on a host; what Remedy prints is for
// people, or for a caller that has asked them. It says nothing about a cluster that misbehaves.
package preflight
