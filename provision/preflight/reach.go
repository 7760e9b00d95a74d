package preflight

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

const (
	// exchangeTimeout bounds the exchange; the scripts end by themselves after a minute.
	exchangeTimeout = 50 * time.Second
	// neighbours is how many hosts that are no control planes a worker tries. In smaller clusters it
	// tries all of them.
	neighbours = 16
	// udpOverhead are the headers of IPv4 and UDP.
	udpOverhead = 28
)

// target is a way that a host tries.
type target struct {
	to   string
	port Port
}

// targets returns what a host tries: nothing between two hosts that have something of slipway's.
func (s *Situation) targets(from int) []target {
	var all []target
	n := &s.Nodes[from]
	for k := range len(s.Nodes) - 1 {
		to := &s.Nodes[(from+1+k)%len(s.Nodes)]
		if n.Role == spec.Worker && to.Role == spec.Worker && k >= neighbours {
			continue
		}
		if n.Facts.Member() && to.Facts.Member() {
			continue
		}
		for _, p := range between(s.Cluster, n.Role, to.Role) {
			if p.Protocol == UDP && to.Facts.Member() {
				continue // the kernel has the port: what arrives cannot be seen
			}
			all = append(all, target{to.Name, p})
		}
	}
	return all
}

// listens returns the ports on which a host has to listen for the exchange: those that nothing listens
// on yet.
func (s *Situation) listens(n *Node, protocol string) []string {
	var ports []string
	for _, p := range serves(s.Cluster, n.Role) {
		if p.Protocol == protocol && !n.taken(p) && !n.Facts.Member() {
			ports = append(ports, strconv.Itoa(p.First))
		}
	}
	return slices.Compact(ports)
}

// exchange tries all ways among hosts, with one session each: every host listens, then all try, then
// all say what they have received. Where a host cannot listen or try, its ways are Untried.
func exchange(ctx context.Context, s *Situation, hosts map[string]host.Host) []Way {
	if len(s.Nodes) < 2 || !slices.ContainsFunc(s.Nodes, func(n Node) bool { return !n.Facts.Member() }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	calls := make([]*call, len(s.Nodes))
	for i := range s.Nodes {
		calls[i] = newCall(s, i)
	}
	var running sync.WaitGroup
	for i, c := range calls {
		running.Go(func() { c.run(ctx, hosts[s.Nodes[i].Name]) })
	}
	await := func(line string) {
		for _, c := range calls {
			c.await(ctx, line)
		}
	}
	await("ready")
	for _, c := range calls {
		c.say("go")
	}
	await("tried")
	for i, c := range calls {
		c.say(strconv.Itoa(2 * sendersTo(s, calls, &s.Nodes[i])))
	}
	await("[end]")
	for _, c := range calls {
		_ = c.in.Close()
	}
	running.Wait()
	return ways(s, calls)
}

// sendersTo counts the hosts that send messages to a host that listens to them.
func sendersTo(s *Situation, calls []*call, to *Node) int {
	if !to.Facts.SocketActivate || len(s.listens(to, UDP)) == 0 {
		return 0
	}
	n := 0
	for _, c := range calls {
		if slices.ContainsFunc(c.targets, func(t target) bool { return t.to == to.Name && t.port.Protocol == UDP }) && s.Nodes[c.node].Facts.Bash {
			n++
		}
	}
	return n
}

// taken reports whether a program listens on a port of a host. Of slipway's own it is known where
// they listen; what others do says nothing about the network.
func (n *Node) taken(p Port) bool {
	return slices.ContainsFunc(n.Facts.Listeners, func(l Listener) bool { return l.Protocol == p.Protocol && l.Port == p.First })
}

// call is the exchange's session on a host.
type call struct {
	node    int
	name    string
	targets []target
	script  string
	in      *io.PipeWriter
	stdin   *io.PipeReader

	mu    sync.Mutex
	bytes int // that it has said
	rest  []byte
	lines []string
	heard chan struct{} // has a value when there are new lines
	ended chan struct{}
}

func newCall(s *Situation, node int) *call {
	n := &s.Nodes[node]
	c := &call{node: node, name: n.Name, targets: s.targets(node), heard: make(chan struct{}, 1), ended: make(chan struct{})}
	c.stdin, c.in = io.Pipe()
	vars := map[string]string{"ADDRESS": n.Address.String(), "MESSAGE": n.Name, "TARGETS": "", "TCP": "", "UDP": ""}
	if n.Facts.Bash {
		var lines []string
		for _, t := range c.targets {
			lines = append(lines, fmt.Sprintf("%s %s %d %d", t.port.Protocol, s.address(t.to), t.port.First, min(max(n.mtu(), 1280), 65500)-udpOverhead))
		}
		vars["TARGETS"] = strings.Join(lines, "\n")
	}
	if n.Facts.SocketActivate {
		vars["TCP"], vars["UDP"] = strings.Join(s.listens(n, TCP), " "), strings.Join(s.listens(n, UDP), " ")
	}
	c.script = assign(vars) + templates.ReachScript()
	return c
}

func (s *Situation) address(name string) netip.Addr {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == name })
	return s.Nodes[i].Address
}

// run returns when the script has ended, however.
func (c *call) run(ctx context.Context, h host.Host) {
	defer close(c.ended)
	_, _ = h.Run(ctx, host.Cmd{Script: c.script, Stdin: c.stdin, Stdout: c}) // what it has not said is untried
	_ = c.stdin.CloseWithError(io.ErrClosedPipe)
}

// Write takes the script's output.
func (c *call) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes += len(p); c.bytes > maxReport || len(c.lines) > mostLines {
		return 0, errTooMuch
	}
	c.rest = append(c.rest, p...)
	for {
		line, rest, ok := bytes.Cut(c.rest, []byte("\n"))
		if !ok {
			break
		}
		c.lines, c.rest = append(c.lines, string(line)), rest
	}
	select {
	case c.heard <- struct{}{}:
	default:
	}
	return len(p), nil
}

// await waits until the script has printed a line, or has ended.
func (c *call) await(ctx context.Context, line string) {
	for {
		if slices.Contains(c.said(), line) {
			return
		}
		select {
		case <-c.heard:
		case <-c.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *call) said() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lines)
}

// say sends a line; a script that has ended takes none.
func (c *call) say(line string) { _, _ = io.WriteString(c.in, line+"\n") }

// account is what a host has said in the exchange.
type account struct {
	tried    map[string]string // "tcp ADDRESS PORT": state and reason
	got      map[string]bool   // "short NAME", "long NAME"
	deaf     map[string]bool   // "tcp PORT"
	complete bool
}

func readAccount(lines []string) account {
	a := account{tried: map[string]string{}, got: map[string]bool{}, deaf: map[string]bool{}}
	for _, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		fields := strings.SplitN(rest, " ", 4)
		switch {
		case line == "[end]":
			a.complete = true
		case word == "got":
			a.got[strings.TrimSpace(rest)] = true
		case word == "deaf" && len(fields) > 1:
			a.deaf[fields[0]+" "+fields[1]] = true
		case len(fields) > 2:
			a.tried[strings.Join(fields[:3], " ")] = strings.TrimSpace(word + " " + strings.Join(fields[3:], ""))
		}
	}
	return a
}

// ways evaluates what all hosts have said.
func ways(s *Situation, calls []*call) []Way {
	accounts := map[string]account{}
	for _, c := range calls {
		accounts[c.name] = readAccount(c.said())
	}
	all := []Way{}
	for _, c := range calls {
		for _, t := range c.targets {
			all = append(all, s.way(&s.Nodes[c.node], t, accounts))
		}
	}
	return all
}

// way is the result of a way that a host has tried.
func (s *Situation) way(from *Node, t target, accounts map[string]account) Way {
	to := &s.Nodes[slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == t.to })]
	w := Way{From: from.Name, To: t.to, Protocol: t.port.Protocol, Port: t.port.First, State: Untried}
	sender, receiver := accounts[from.Name], accounts[t.to]
	listens := to.Facts.Member() || to.Facts.SocketActivate && !to.taken(t.port) && !receiver.deaf[fmt.Sprintf("%s %d", w.Protocol, w.Port)]
	switch {
	case !listens || !from.Facts.Bash || !sender.complete || !receiver.complete:
	case w.Protocol == UDP:
		w.State = heardOf(receiver.got, from.Name)
	default:
		state, why, _ := strings.Cut(sender.tried[fmt.Sprintf("tcp %s %d", to.Address, w.Port)], " ")
		w.State, w.Why = WayState(state), why
		if state == "" || w.State == Closed && to.Facts.Member() {
			w.State = Untried // its server does not run: that is no affair of the network
		}
	}
	return w
}

// heardOf is the state of a way over UDP, by what the receiver has got of the sender's messages.
func heardOf(got map[string]bool, from string) WayState {
	switch {
	case got["long "+from]:
		return Open
	case got["short "+from]:
		return Short
	}
	return Silent
}
