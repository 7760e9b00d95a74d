package plan

import (
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// initialized reports whether any host has been part of a cluster that was up.
func initialized(observed stack.State) bool {
	for _, h := range observed.Hosts {
		if h.Facts.Initialized {
			return true
		}
	}
	return false
}

// NotReady returns the wanted nodes that are not Ready or do not exist; nil if the API did not
// answer.
func NotReady(desired, observed stack.State) map[string]bool {
	if observed.Nodes == nil {
		return nil
	}
	down := map[string]bool{}
	for name := range desired.Nodes {
		if !observed.Nodes[name].Ready {
			down[name] = true
		}
	}
	return down
}

// Signs are signs of a cluster's life besides its observed hosts and members.
type Signs struct {
	// BeenUp means that the state records that the cluster has been up, whatever its hosts show.
	BeenUp bool
	// API means that the API answers.
	API bool
	// Ended are the hosts whose etcd member serves an expired certificate.
	Ended map[string]bool
	// Gone are the nodes whose machine does not exist.
	Gone []string
}

// Alive reports whether a cluster is up or may be up, so that it must be changed gate by gate. To
// count as down, that must be certain: it has never been up, or so many etcd members are known not
// to take part in a majority that there can be none. It is up if any member answers a linearizable
// read, since only a majority can do that. A member that was not observed may be running, and a
// slow member may be needed. A cluster that is down has nothing to lose, and starts everywhere at
// once: gates would wait for a health that only the other hosts can bring. ProveDown checks again
// before that.
//
// If etcd certificates have expired, the API continues to answer as long as its connections last,
// and no member can be proven healthy any more: its answer does not count if too few members are
// left that do not serve such a certificate. It does count if members seem to be out that may be
// about to join: those that start, and those that see no leader.
func Alive(machines []spec.Machine, observed stack.State, signs Signs) bool {
	if !signs.BeenUp && !initialized(observed) {
		return false
	}
	if Answered(observed) {
		return true
	}
	members, possible, likely := Standing(machines, observed, signs)
	quorum := members/2 + 1
	return likely >= quorum || signs.API && possible >= quorum
}

// Standing counts the control planes (members), those whose etcd member takes part in a majority or
// may begin to (possible), and those of the latter that do not seem to be out of it (likely).
func Standing(machines []spec.Machine, observed stack.State, signs Signs) (members, possible, likely int) {
	for _, m := range machines {
		if m.Role != spec.ControlPlane {
			continue
		}
		members++
		h, seen := observed.Hosts[m.Name]
		unit := h.Units[stack.EtcdService]
		runs := unit.Active || strings.HasPrefix(unit.State, "reloading/") || strings.HasPrefix(unit.State, "deactivating/")
		starts := strings.HasPrefix(unit.State, "activating/")
		switch {
		case signs.Ended[m.Name] || slices.Contains(signs.Gone, m.Name):
		case seen && !runs && !starts: // it does not run, and nothing starts it
		case seen && starts || observed.Members[m.Name].Out:
			possible++
		default:
			possible, likely = possible+1, likely+1
		}
	}
	return members, possible, likely
}

// Answered reports whether any etcd member answered a linearizable read.
func Answered(observed stack.State) bool {
	for _, m := range observed.Members {
		if m.Answers {
			return true
		}
	}
	return false
}
