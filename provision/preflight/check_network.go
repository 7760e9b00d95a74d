package preflight

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
)

// Way is the result of trying a way from a host to another one.
type Way struct {
	From, To, Protocol string
	Port               int
	// State of it.
	State WayState
	// Why it is Closed, as bash says.
	Why string
}

// WayState is what became of what was sent.
type WayState string

// The states of a way.
const (
	// Open is what should be.
	Open WayState = "open"
	// Silent means that nothing came back, or nothing arrived: a packet was dropped.
	Silent WayState = "silent"
	// Closed means that it was refused.
	Closed WayState = "closed"
	// Short means that only short packets arrived.
	Short WayState = "short"
	// Untried means that the host could not try, or that nothing could listen.
	Untried WayState = "untried"
)

// blocked is a port that some hosts do not reach.
type blocked struct {
	port  Port
	state WayState
	why   string
	from  []string
	all   bool // none reaches it
}

// blockedTo returns the ports of a host that others do not reach, in the order of Ports.
func (s *Situation) blockedTo(host string) []blocked {
	var all []blocked
	for _, p := range Ports {
		b := blocked{port: p}
		tried := 0
		for _, w := range s.Ways {
			if w.To != host || w.Port != p.First || w.Protocol != p.Protocol || p.Optional || w.State == Untried {
				continue
			}
			failed := w.State == Silent || w.State == Closed
			if failed && s.shutIn(w.From) {
				continue
			}
			tried++
			if failed {
				b.from, b.state, b.why = append(b.from, w.From), w.State, w.Why
			}
		}
		if b.all = len(b.from) == tried; len(b.from) > 0 {
			slices.Sort(b.from)
			all = append(all, b)
		}
	}
	return all
}

// shutIn reports whether what a host sends is dropped, rather than what the others receive: it reaches
// no port of several hosts, and somebody else reaches one of those ports.
func (s *Situation) shutIn(from string) bool {
	type target struct {
		host, protocol string
		port           int
	}
	missed, hosts := map[target]bool{}, map[string]bool{}
	for _, w := range s.Ways {
		switch {
		case w.From != from || w.State == Untried:
		case w.State == Open || w.State == Short:
			return false
		default:
			missed[target{w.To, w.Protocol, w.Port}], hosts[w.To] = true, true
		}
	}
	return len(hosts) > 1 && slices.ContainsFunc(s.Ways, func(w Way) bool { return w.State == Open && missed[target{w.To, w.Protocol, w.Port}] })
}

func checkWays(n *Node, s *Situation) []Finding {
	var all []Finding
	if s.shutIn(n.Name) {
		all = found("", "it reaches no port of any other node, though others do: what it sends is dropped (iptables -S OUTPUT and nft list ruleset show by what)")
	}
	for _, b := range s.blockedTo(n.Name) {
		from := strings.Join(b.from, ", ")
		if len(b.from) > 6 {
			from = fmt.Sprintf("%s and %d others", strings.Join(b.from[:3], ", "), len(b.from)-3)
		}
		what := fmt.Sprintf("%s cannot reach its port %d/%s (%s): ", from, b.port.First, b.port.Protocol, b.port.For)
		switch {
		case b.state == Closed:
			what += cmp.Or(strings.ToLower(b.why), "refused")
		case b.port.Protocol == UDP:
			what += "nothing arrives"
		default:
			what += "no answer"
		}
		all = append(all, found(s.openCommand(n, b), "%s", what)...)
	}
	if len(all) == 0 {
		all = s.untried(n)
	}
	return all
}

// untried says that no way to or from a host was tried, if some should have been.
func (s *Situation) untried(n *Node) []Finding {
	switch {
	case len(s.Nodes) < 2 || s.Ways == nil || n.Facts.Member():
		return nil
	case !n.Facts.Bash:
		return []Finding{{Severity: Info, Found: "not checked from this host: it has no bash, with which ports are tried"}}
	case !n.Facts.SocketActivate:
		return []Finding{{Severity: Info, Found: "not checked towards this host: it has no systemd-socket-activate, with which it listens"}}
	}
	return nil
}

// openCommand opens a port of a host in the firewall that it has.
func (s *Situation) openCommand(n *Node, b blocked) string {
	port := fmt.Sprintf("%d/%s", b.port.First, b.port.Protocol)
	var sources []string
	for _, m := range s.Nodes {
		if slices.Contains(b.from, m.Name) {
			sources = append(sources, m.Address.String())
		}
	}
	switch {
	case slices.Contains(n.Facts.Firewalls, "firewalld"):
		return "firewall-cmd --permanent --add-port=" + port + " && firewall-cmd --reload"
	case slices.Contains(n.Facts.Firewalls, "ufw"):
		return "ufw allow " + port
	case len(sources) == 0:
		return ""
	}
	if b.all && len(b.from) > 1 {
		sources = nil // everybody
	}
	chains := n.Facts.InputChains
	if len(chains) == 0 {
		chains = []string{iptablesInput} // of the old iptables, which nft does not know
	}
	var commands []string
	for _, chain := range chains {
		commands = append(commands, acceptCommand(chain, b.port, sources))
	}
	return strings.Join(commands, " && ")
}

// iptablesInput is iptables' chain INPUT as nft calls it.
const iptablesInput = "ip filter INPUT"

// acceptCommand inserts a rule that accepts a port from sources, or from everybody, into a chain of nft.
func acceptCommand(chain string, p Port, sources []string) string {
	source := ""
	if chain == iptablesInput {
		if len(sources) > 0 {
			source = " -s " + strings.Join(sources, ",")
		}
		return fmt.Sprintf("iptables -I INPUT -p %s%s --dport %d -j ACCEPT", p.Protocol, source, p.First)
	}
	if len(sources) > 0 {
		source = " ip saddr { " + strings.Join(sources, ", ") + " }"
	}
	return "nft " + host.Quote(fmt.Sprintf("insert rule %s%s %s dport %d accept", chain, source, p.Protocol, p.First))
}

// sshUnits are those of sshd: what people start over SSH may be in them, and to stop them would lock
// everybody out.
var sshUnits = regexp.MustCompile(`^sshd?(@.*)?\.(service|socket)$`)

// checkFirewall is for hosts whose ports were not tried.
func checkFirewall(n *Node, s *Situation) []Finding {
	if len(n.Facts.Firewalls) == 0 || slices.ContainsFunc(s.Ways, func(w Way) bool { return w.To == n.Name && w.State != Untried }) || len(s.Nodes) < 2 {
		return nil
	}
	var ports []string
	for _, p := range serves(s.Cluster, n.Role) {
		ports = append(ports, fmt.Sprintf("%d/%s", p.First, p.Protocol))
	}
	ports = slices.Compact(ports)
	remedy := "for p in " + strings.Join(ports, " ") + "; do ufw allow $p; done"
	if slices.Contains(n.Facts.Firewalls, "firewalld") {
		remedy = "for p in " + strings.Join(ports, " ") + "; do firewall-cmd --permanent --add-port=$p; done && firewall-cmd --reload"
	}
	return found(remedy, "%s is active, and the other nodes have to reach its ports %s", strings.Join(n.Facts.Firewalls, ", "), strings.Join(ports, ", "))
}

// usualMTU is the MTU that most hosts have at the interface with the node's address; the largest of
// those that are equally frequent.
func (s *Situation) usualMTU() int {
	count := map[int]int{}
	for i := range s.Nodes {
		if mtu := s.Nodes[i].mtu(); mtu > 0 {
			count[mtu]++
		}
	}
	usual := 0
	for _, mtu := range slices.Sorted(maps.Keys(count)) {
		if count[mtu] >= count[usual] {
			usual = mtu
		}
	}
	return usual
}

func (n *Node) mtu() int { return n.Facts.Links[n.Facts.Interface].MTU }

func checkMTU(n *Node, s *Situation) []Finding {
	usual, mine := s.usualMTU(), n.mtu()
	if mine != 0 && mine != usual {
		return found(fmt.Sprintf("ip link set dev %s mtu %d", word(n.Facts.Interface), usual),
			"its interface %s has an MTU of %d, and those of most other nodes %d", n.Facts.Interface, mine, usual)
	}
	var from []string
	for _, w := range s.Ways {
		i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == w.From })
		if w.To == n.Name && w.State == Short && i >= 0 && s.Nodes[i].mtu() == usual {
			from = append(from, w.From)
		}
	}
	if len(from) == 0 {
		return nil
	}
	slices.Sort(from)
	return found(fmt.Sprintf("ip link set dev %s mtu %d # or less, on every node; or raise that of the network", word(n.Facts.Interface), usual-100),
		"packets of %d bytes, the MTU, do not arrive from %s, and shorter ones do: connections between pods would hang", usual, strings.Join(from, ", "))
}

func checkPorts(n *Node, s *Situation) []Finding {
	var all []Finding
	for _, u := range uses(s.Cluster, n.Role) {
		i := slices.IndexFunc(n.Facts.Listeners, func(l Listener) bool { return l.Port == u.port && l.Protocol == u.protocol })
		if i < 0 {
			continue
		}
		l := n.Facts.Listeners[i]
		who := fmt.Sprintf("%s (process %s, %s)", l.Command, l.PID, cmp.Or(l.Unit, "no unit"))
		if l.PID == "" {
			who = "the kernel (a VXLAN interface of another network plugin: `ip -d link show type vxlan`)"
		}
		all = append(all, found(stopCommand(l.PID, l.Unit), "%s listens on port %d/%s, which the node needs for %s", who, u.port, u.protocol, u.what)...)
	}
	return all
}

// plain are words that a shell takes as they are.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@-]+$`)

// word makes text, which a host has reported, one word of a shell.
func word(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return host.Quote(text)
}

// stopCommand stops a process: its unit, or else itself.
func stopCommand(pid, unit string) string {
	switch {
	case sshUnits.MatchString(unit):
		return "kill " + word(pid)
	case strings.HasSuffix(unit, ".service"), strings.HasSuffix(unit, ".socket"):
		return "systemctl disable " + word(unit) + "; systemctl stop " + word(unit)
	case pid != "":
		return "kill " + word(pid)
	}
	return ""
}
