package diagnose

import (
	"fmt"
	"regexp"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

// slipway is a command of slipway for this cluster.
func (e *Evidence) slipway(command string) string { return "slipway " + command + e.FileArg }

// ssh is a command on a node. What the node's shell must not be given in parts is quoted.
func (e *Evidence) ssh(node, command string) string {
	if strings.ContainsAny(command, `|&;<>()$"'*`+"`\\") {
		command = host.Quote(command)
	}
	return fmt.Sprintf("slipway ssh%s %s -- %s", e.FileArg, word(node), command)
}

// plain are words that a shell takes as they are.
var plain = regexp.MustCompile(`^[A-Za-z0-9_.:/@%+=][A-Za-z0-9_.:/@%+=-]*$`)

// word makes a name one word of the command that a person types: it may come from a machine, or from
// an API server, that somebody else has taken over.
func word(name string) string {
	if plain.MatchString(name) {
		return name
	}
	return host.Quote(name)
}

// apply is the remedy of whatever differs from the spec.
func (e *Evidence) apply(text string) Remedy {
	return Remedy{Text: text, Commands: []string{e.slipway("apply")}}
}

// onNode is the remedy that is a command on a node.
func (e *Evidence) onNode(node string, commands ...string) Remedy {
	var r Remedy
	for _, c := range commands {
		r.Commands = append(r.Commands, e.ssh(node, c))
	}
	return r
}

// journal shows the end of a unit's log.
func (e *Evidence) journal(node, unit string) string {
	return e.ssh(node, "journalctl -u "+strings.TrimSuffix(unit, ".service")+" -n 50 --no-pager")
}

// etcdctl asks the member on a control plane.
func etcdctl(command string) string {
	pki := stack.PKIDir + "/etcd/"
	return fmt.Sprintf("etcdctl --endpoints=https://127.0.0.1:%d --cacert=%sca.crt --cert=%shealthcheck-client.crt --key=%shealthcheck-client.key %s",
		stack.EtcdClientPort, pki, pki, pki, command)
}

// hostNamed returns a host; nil if it was not looked at.
func (e *Evidence) hostNamed(name string) *Host {
	for i := range e.Hosts {
		if e.Hosts[i].Name == name {
			return &e.Hosts[i]
		}
	}
	return nil
}

// nodeNamed returns a node of the API; nil if it does not have it.
func (e *Evidence) nodeNamed(name string) *Node {
	for i := range e.API.Nodes {
		if e.API.Nodes[i].Name == name {
			return &e.API.Nodes[i]
		}
	}
	return nil
}

// reached are the hosts with a report.
func (e *Evidence) reached() []*Host {
	var all []*Host
	for i := range e.Hosts {
		if e.Hosts[i].Reached() {
			all = append(all, &e.Hosts[i])
		}
	}
	return all
}

// unitOn returns a unit of a host; nil if the report does not have it.
func (h *Host) unitOn(name string) *Unit {
	for i := range h.Units {
		if h.Units[i].Name == name {
			return &h.Units[i]
		}
	}
	return nil
}

// count is "3 pods", "1 pod".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// some lists the first names, and counts the others.
func some(names []string) string {
	const shown = 4
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}
