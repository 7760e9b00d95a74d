package plan

import (
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// initialized says whether any host has been part of a cluster that was up.
func initialized(observed stack.State) bool {
	for _, h := range observed.Hosts {
		if h.Facts.Initialized {
			return true
		}
	}
	return false
}

// NotReady are the nodes that are wanted and not Ready, or not there; nil where the API has not told.
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

// Signs are what is known of the life of a cluster beside what its hosts and members show.
type Signs struct {
	// BeenUp says that the state knows that the cluster has been up, whatever its hosts show.
	BeenUp bool
	// API says that the API answers.
	API bool
	// Ended are the hosts whose member of etcd shows a certificate that has ended.
	Ended map[string]bool
	// Gone are the nodes whose machine does not exist.
	Gone []string
}

// Alive says whether a cluster lives or may live, so that nothing of it may be disturbed carelessly. That it is down has to
// be certain: it has never been up, or so many members of etcd are known not to take part in a majority that there can be
// none. It lives where any member answers a linearizable read, for only a majority can make it; what was not observed may be
// running, and a member that is slow may be needed. One that is down has nothing to lose, and comes up everywhere at once:
// gates would wait for a health that only the others can bring. ProveDown looks again before that is done.
//
// The API goes on answering where certificates of etcd have ended, for as long as it keeps its connections, and no member
// can be proven healthy any more: where too few are left that do not show such a certificate, its answer does not count. It
// does count where members seem to be out that may be about to join: those that start, and those that see no leader.
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

// Standing counts the control planes, those whose member of etcd may take part in a majority or begin to, and those of them
// that do not seem to be out of it.
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

// Answered says whether any member of etcd answered a linearizable read.
func Answered(observed stack.State) bool {
	for _, m := range observed.Members {
		if m.Answers {
			return true
		}
	}
	return false
}
