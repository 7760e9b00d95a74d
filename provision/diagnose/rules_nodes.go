package diagnose

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/stack"
)

// youth is how long after its boot a machine is said to have just started.
const youth = 10 * time.Minute

// findNodesMissing says for a machine that is no node at which hop it stops.
func findNodesMissing(e *Evidence) []Finding {
	var found []Finding
	if !e.API.answered("nodes") {
		return nil
	}
	for i := range e.Hosts {
		h := &e.Hosts[i]
		if e.nodeNamed(h.Name) != nil {
			continue
		}
		found = append(found, Finding{
			Host: h.Name, What: "has not joined the cluster: the way ends at " + joinHop(e, h), Evidence: joinEvidence(e, h),
			More: e.journal(h.Name, stack.KubeletService), Remedy: e.apply("finish its installation:"),
		})
	}
	return found
}

// joinHop follows the way of a kubelet to the API: machine, runtime, kubelet, balancer, network.
func joinHop(e *Evidence, h *Host) string {
	if !h.Reached() {
		return "the machine"
	}
	for _, hop := range []struct{ unit, name string }{
		{"containerd.service", "containerd"}, {stack.BalancerService, "the node's balancer"}, {stack.KubeletService, "the kubelet"},
	} {
		if u := h.unitOn(hop.unit); u == nil || u.Active != "active" {
			return hop.name
		}
	}
	if path := cutTo(e, h.Name, ToAPI); path != nil {
		return "the network to the API servers"
	}
	return "the API server, which does not accept it"
}

func joinEvidence(e *Evidence, h *Host) string {
	if !h.Reached() {
		return shortened(h.Problem, maxLine)
	}
	if path := cutTo(e, h.Name, ToAPI); path != nil {
		return path.Address + ": " + path.Error
	}
	if u := h.unitOn(stack.KubeletService); u != nil {
		return strings.Trim(u.Active+"/"+u.Sub+": "+u.Why, ": ")
	}
	return ""
}

// cutTo returns an attempt of a kind from a host that did not arrive.
func cutTo(e *Evidence, from string, kind PathKind) *Path {
	for i := range e.Paths {
		if p := &e.Paths[i]; p.From == from && p.Kind == kind && p.cut() {
			return p
		}
	}
	return nil
}

// cut means that packets did not arrive: where nothing listens, they did.
func (p *Path) cut() bool { return p.Error != "" && !p.Refused }

func findNodesNotReady(e *Evidence) []Finding {
	var found []Finding
	for _, n := range e.API.Nodes {
		if n.Ready || !e.lookedAt(n.Name) {
			continue
		}
		what := "the node is not Ready: " + n.Reason
		if n.Silent || n.Reason == "NodeStatusUnknown" {
			what = "the node is not Ready: its kubelet is silent"
		}
		restart := "kubelet"
		if strings.Contains(n.Message, "NetworkPluginNotReady") {
			restart = "containerd" // which reads the configuration of the pod network
		}
		found = append(found, Finding{
			Host: n.Name, Object: "node/" + n.Name, What: what, Evidence: n.Message, More: "kubectl describe node " + word(n.Name),
			Remedy: e.onNode(n.Name, "systemctl restart "+restart),
		})
	}
	return found
}

// lookedAt reports whether a node was asked for: with --only others were not.
func (e *Evidence) lookedAt(node string) bool { return e.hostNamed(node) != nil }

func findPressure(e *Evidence) []Finding {
	var found []Finding
	for _, n := range e.API.Nodes {
		if !e.lookedAt(n.Name) {
			continue
		}
		for _, kind := range slices.Sorted(maps.Keys(n.Pressure)) {
			found = append(found, Finding{
				Host: n.Name, Object: "node/" + n.Name, What: "the node has " + kind + ": pods are kept off it, or evicted", Evidence: n.Pressure[kind],
				More: "kubectl describe node " + word(n.Name), Remedy: Remedy{Text: "free what it lacks; the kubelet notices by itself, after up to 5 min"},
			})
		}
	}
	return found
}

func findCordoned(e *Evidence) []Finding {
	var found []Finding
	for _, n := range e.API.Nodes {
		if n.Cordoned && e.lookedAt(n.Name) {
			found = append(found, Finding{
				Host: n.Name, Object: "node/" + n.Name, What: "the node is cordoned: no new pods are placed on it", More: "kubectl describe node " + word(n.Name),
				Remedy: Remedy{Text: "if that is no longer wanted:", Commands: []string{"kubectl uncordon " + word(n.Name)}},
			})
		}
	}
	return found
}

// findDrift is one finding: whatever explains a difference on one machine may explain the others.
func findDrift(e *Evidence) []Finding {
	var hosts, changes []string
	n := 0
	for _, host := range slices.Sorted(maps.Keys(e.Drift)) {
		if len(e.Drift[host]) == 0 || host != "" && !e.lookedAt(host) {
			continue
		}
		n += len(e.Drift[host])
		if host != "" {
			hosts = append(hosts, host)
		}
		for _, c := range e.Drift[host] {
			if !slices.Contains(changes, c) {
				changes = append(changes, c)
			}
		}
	}
	if n == 0 {
		return nil
	}
	what := fmt.Sprintf("a plan shows %s", count(n, "difference"))
	if len(hosts) > 0 {
		what += " on " + some(hosts)
	}
	return []Finding{{
		Object: "plan", What: what, Evidence: shortened(some(changes), maxLine), More: e.slipway("plan") + " --diff",
		Remedy: e.apply("carry them out:"), hosts: hosts,
	}}
}

func findSwap(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		if n, known := h.number("swaps"); known && n > 0 {
			found = append(found, Finding{
				Host: h.Name, What: "it has swap: pods that take too much memory get slow instead of being ended", More: e.ssh(h.Name, "cat /proc/swaps"),
				Remedy: Remedy{Text: "if that is not wanted:", Commands: []string{e.ssh(h.Name, "swapoff -a")}}, Quiet: true,
			})
		}
	}
	return found
}

func findReboots(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		if h.Uptime > 0 && h.Uptime < youth {
			found = append(found, Finding{Host: h.Name, What: "it was started " + h.Uptime.String() + " ago", More: e.ssh(h.Name, "uptime"), Quiet: true})
		}
	}
	return found
}
