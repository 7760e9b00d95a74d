package diagnose

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// vxlanPort is the one of flannel's vxlan (UDP).
const vxlanPort = 8472

// pairOf are two nodes, sorted.
type pairOf [2]string

func pairFor(p Path) pairOf {
	if p.From < p.To {
		return pairOf{p.From, p.To}
	}
	return pairOf{p.To, p.From}
}

// neighbours of nodes, by name.
type neighbours map[string]map[string]bool

func (n neighbours) add(p Path) {
	for _, ends := range []pairOf{{p.From, p.To}, {p.To, p.From}} {
		if n[ends[0]] == nil {
			n[ends[0]] = map[string]bool{}
		}
		n[ends[0]][ends[1]] = true
	}
}

// cuts groups failed paths of some kinds: a node that no way leads to or from is one, and each other
// pair is one.
func cuts(paths []Path, kinds ...PathKind) (nodes map[string][]Path, pairs map[pairOf][]Path) {
	tried, failed := neighbours{}, neighbours{}
	nodes, pairs = map[string][]Path{}, map[pairOf][]Path{}
	for _, p := range paths {
		if !slices.Contains(kinds, p.Kind) || p.From == p.To {
			continue
		}
		tried.add(p)
		if p.cut() {
			failed.add(p)
			pairs[pairFor(p)] = append(pairs[pairFor(p)], p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		if len(failed[name]) < 2 || len(failed[name]) < len(tried[name]) {
			continue
		}
		for _, pair := range sortedPairs(pairs) {
			if pair[0] == name || pair[1] == name {
				nodes[name] = append(nodes[name], pairs[pair]...)
				delete(pairs, pair)
			}
		}
		if len(nodes[name]) == 0 { // all of its pairs belong to another node that is cut off
			delete(nodes, name)
		}
	}
	return nodes, pairs
}

func sortedPairs(pairs map[pairOf][]Path) []pairOf {
	return slices.SortedFunc(maps.Keys(pairs), func(a, b pairOf) int {
		return strings.Compare(a[0]+" "+a[1], b[0]+" "+b[1])
	})
}

// findNodeNetwork is about the network below that of pods.
func findNodeNetwork(e *Evidence) []Finding {
	nodes, pairs := cuts(e.Paths, NodeNetwork, ToAPI, ToEtcd)
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		f := cutFinding(e, nodes[name], "tcp")
		f.Host, f.What = name, "it does not reach the other nodes, nor they it, "+over(nodes[name])
		found = append(found, f)
	}
	for _, pair := range sortedPairs(pairs) {
		f := cutFinding(e, pairs[pair], "tcp")
		f.Object, f.What = pair[0]+" - "+pair[1], fmt.Sprintf("%s and %s do not reach each other %s", pair[0], pair[1], over(pairs[pair]))
		f.hosts = pair[:]
		found = append(found, f)
	}
	return found
}

// over lists what was tried in vain.
func over(paths []Path) string {
	var ports []string
	for _, p := range paths {
		if at, err := netip.ParseAddrPort(p.Address); err == nil {
			ports = append(ports, fmt.Sprintf("%d/tcp (%s)", at.Port(), p.Kind))
		}
	}
	slices.Sort(ports)
	return "on " + strings.Join(slices.Compact(ports), ", ")
}

func findPodNetwork(e *Evidence) []Finding {
	nodes, pairs := cuts(e.Paths, PodNetwork)
	below, belowPairs := cuts(e.Paths, NodeNetwork)
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		f := cutFinding(e, nodes[name], "udp")
		f.Host, f.What = name, "its pods do not reach those of any other node: the pod network is cut there"
		f.viaVXLAN(below[name] == nil)
		found = append(found, f)
	}
	for _, pair := range sortedPairs(pairs) {
		f := cutFinding(e, pairs[pair], "udp")
		f.Object = pair[0] + " - " + pair[1]
		f.What = fmt.Sprintf("the pod network is cut between %s and %s", pair[0], pair[1])
		f.viaVXLAN(belowPairs[pair] == nil)
		f.hosts = pair[:]
		found = append(found, f)
	}
	return found
}

// viaVXLAN says where to look if only the pod network is cut and no rule that drops was seen.
func (f *Finding) viaVXLAN(nodesReached bool) {
	if nodesReached && len(f.Remedy.Commands) == 0 {
		f.Evidence += fmt.Sprintf("; the nodes themselves reach each other: a firewall may drop UDP on port %d", vxlanPort)
	}
}

// cutFinding has what was tried, and a packet filter's rule that may be why.
func cutFinding(e *Evidence, paths []Path, protocol string) Finding {
	p := paths[0]
	address, _, _ := strings.Cut(p.Address, ":")
	f := Finding{
		Evidence: fmt.Sprintf("from %s to %s: %s", p.From, p.Address, shortened(p.Error, maxLine/2)), More: e.ssh(p.From, "ip route get "+address),
		Remedy: Remedy{Text: "open the ports that docs/ports.md lists in every firewall between the nodes"},
	}
	for _, name := range endsOf(paths) {
		h := e.hostNamed(name)
		if h == nil {
			continue
		}
		for _, rule := range h.Drops {
			if !dropsAny(rule, paths, protocol) {
				continue
			}
			f.Evidence = fmt.Sprintf("%s drops it: iptables %s; from %s to %s there is no answer", name, rule, p.From, p.Address)
			f.Remedy.Text = "remove the rule, where it comes from too:"
			f.Remedy.Commands = append(f.Remedy.Commands, e.ssh(name, "iptables -D "+strings.TrimPrefix(rule, "-A ")))
		}
	}
	return f
}

func endsOf(paths []Path) []string {
	var names []string
	for _, p := range paths {
		names = append(names, p.From, p.To)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var filterPort = regexp.MustCompile(`--d(?:ports?) ([0-9,:]+)`)

// dropsAny reports whether a rule of iptables drops what was tried: a port is named, or nothing.
func dropsAny(rule string, paths []Path, protocol string) bool {
	if !strings.HasPrefix(rule, "-A ") || strings.Contains(rule, "-p ") && !strings.Contains(rule, "-p "+protocol) {
		return false
	}
	m := filterPort.FindStringSubmatch(rule)
	if m == nil {
		return !strings.Contains(rule, " -i ") && !strings.Contains(rule, "conntrack") && !strings.Contains(rule, "-m state")
	}
	ports := []uint16{vxlanPort}
	if protocol == "tcp" {
		ports = nil
		for _, p := range paths {
			if at, err := netip.ParseAddrPort(p.Address); err == nil {
				ports = append(ports, at.Port())
			}
		}
	}
	return slices.ContainsFunc(ports, func(port uint16) bool { return hasPort(m[1], port) })
}

// hasPort reads "80,443,8000:9000".
func hasPort(list string, port uint16) bool {
	for part := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(part, ":")
		if !ranged {
			last = first
		}
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA == nil && errB == nil && uint64(port) >= a && uint64(port) <= b {
			return true
		}
	}
	return false
}

func findProxyRules(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		if u := h.unitOn("kube-proxy.service"); h.ProxyRules != 0 || !e.API.Known() || u != nil && u.Active == "active" && u.For < settled {
			continue
		}
		found = append(found, Finding{
			Host: h.Name, Object: "kube-proxy", What: "it has none of kube-proxy's rules: Services cannot be reached from it",
			Evidence: "the packet filter has no table or chain of kube-proxy", More: e.journal(h.Name, "kube-proxy"),
			Remedy: e.onNode(h.Name, "systemctl restart kube-proxy"),
		})
	}
	return found
}

// dnsFinding is about the cluster's DNS.
func dnsFinding(d DNS) Finding {
	return Finding{
		Object: "deployment/" + stack.DNSName, More: "kubectl -n kube-system get pods -l k8s-app=kube-dns -o wide", hosts: d.Nodes,
		Evidence: fmt.Sprintf("%d of %s ready, Service kube-dns has %s", d.Ready, count(int(d.Want), "replica"), count(d.Endpoints, "endpoint")),
	}
}

// findNoDNS is for a DNS that nobody runs: nothing but somebody's hand explains that.
func findNoDNS(e *Evidence) []Finding {
	d := e.API.DNS
	f := dnsFinding(d)
	f.everywhere = true
	switch {
	case !e.API.answered("CoreDNS") || d.Want > 0 && d.Exists:
		return nil
	case !d.Exists:
		f.What, f.Remedy = "the cluster's DNS is not installed: there is no Deployment coredns in kube-system", e.apply("restore it:")
	default:
		f.What = "the cluster's DNS is scaled to zero"
		f.Remedy = Remedy{Commands: []string{"kubectl -n kube-system scale deployment coredns --replicas=2"}}
	}
	return []Finding{f}
}

func findCoreDNS(e *Evidence) []Finding {
	d := e.API.DNS
	f := dnsFinding(d)
	switch {
	case !e.API.answered("CoreDNS"), d.Want == 0:
		return nil
	case d.Endpoints == 0 || d.Ready == 0:
		f.What = "the cluster's DNS has no pod that is ready"
		f.Remedy = Remedy{Text: "see why its pods are not ready; start them anew:", Commands: []string{"kubectl -n kube-system rollout restart deployment coredns"}}
	default:
		return nil
	}
	return []Finding{f}
}

func findDNS(e *Evidence) []Finding {
	var failed []string
	asked, first := 0, ""
	if !e.API.Known() {
		return nil
	}
	for _, h := range e.reached() {
		if h.DNSAsked {
			asked++
		}
		if h.DNS != "" {
			failed = append(failed, h.Name)
			if first == "" {
				first = h.DNS
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	f := Finding{
		Object: "dns", What: "names of the cluster cannot be resolved from " + some(failed), Evidence: shortened(first, maxLine),
		More:   "kubectl -n kube-system logs -l k8s-app=kube-dns --tail=20",
		Remedy: Remedy{Text: "start CoreDNS anew:", Commands: []string{"kubectl -n kube-system rollout restart deployment coredns"}},
		hosts:  slices.Concat(failed, e.API.DNS.Nodes),
	}
	if len(failed) == asked && asked > 1 {
		f.What = "names of the cluster cannot be resolved from any node"
	}
	return []Finding{f}
}
