package diagnose

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// question is what a host is asked.
type question struct {
	units, configs []string
	// servers of kubeconfigs by path, and the digests of private keys by path.
	servers, keys map[string]string
	proxyMode     string
}

// directories whose disks matter.
var directories = []string{
	"/", "/etc", stack.KubernetesDir, "/opt", "/tmp", "/var", "/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet", "/var/log",
}

// questionFor asks for what the components of a node have.
func (g *gathering) questionFor(name string) question {
	q := question{servers: map[string]string{}, keys: map[string]string{}}
	for _, n := range g.Input.Cluster.Nodes() {
		if n.Name != name {
			continue
		}
		q.proxyMode = n.ProxyMode
		node := stack.Node{Input: &g.Input, Node: n}
		for _, c := range stack.Components {
			if c.On(node) {
				q.component(c, node)
			}
		}
	}
	for _, f := range g.files(name) {
		if f.Secret && strings.HasSuffix(f.Path, ".key") && len(f.Content) > 0 {
			sum := sha256.Sum256(f.Content.Reveal())
			q.keys[f.Path] = hex.EncodeToString(sum[:])
		}
	}
	return q
}

// component asks for what a component has on a node.
func (q *question) component(c stack.Component, node stack.Node) {
	if c.Unit != nil {
		q.units = append(q.units, c.Unit.Name)
		q.configs = append(q.configs, stack.UnitDir+c.Unit.Name)
	}
	for _, f := range c.Files {
		if !f.Secret && (f.On == nil || f.On(node)) {
			q.configs = append(q.configs, f.Path)
		}
	}
	for _, k := range c.Kubeconfigs {
		q.servers[stack.KubernetesDir+"/"+k.Name] = stack.LoopbackURL(k.Port)
	}
	for _, k := range c.Embedded {
		q.servers[stack.KubernetesDir+"/"+k.Name] = stack.LoopbackURL(k.Port)
	}
}

// files returns the PKI's files on a machine.
func (g *gathering) files(name string) []certs.File {
	if g.Input.PKI == nil {
		return nil
	}
	for _, m := range g.Input.Machines {
		if m.Name == name {
			return g.Input.PKI.Files(stack.CertsNode(m))
		}
	}
	return nil
}

// script is templates.DiagnoseScript with its variables.
func (q question) script(lines int) string {
	words := func(list []string) string { return host.Quote(strings.Join(list, " ")) }
	return fmt.Sprintf("# diagnose\nUNITS=%s\nDIRS=%s\nKUBECONFIGS=%s\nKEYS=%s\nMODE=%s\nLINES=%d\nCONFIGS=%s\n%s",
		words(q.units), words(directories), words(sortedKeys(q.servers)), words(sortedKeys(q.keys)), host.Quote(q.proxyMode), lines, words(q.configs),
		templates.DiagnoseScript())
}

// host reads one host's report, and asks its health endpoints meanwhile.
func (g *gathering) host(ctx context.Context, h *Host) {
	connected, ok := g.Hosts[h.Name]
	if !ok {
		return
	}
	var answers Host
	var wait sync.WaitGroup
	if g.Input.PKI != nil {
		wait.Go(func() { g.askNode(ctx, connected, &answers) })
	}
	g.report(ctx, connected, h)
	wait.Wait()
	h.Health, h.DNS, h.DNSAsked = answers.Health, answers.DNS, answers.DNSAsked
}

// output keeps what a host has said, also if it does not come to an end.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// maxReport is how many bytes of a report are kept; the rest is dropped, as if it were cut off.
const maxReport = 48 << 20

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := maxReport - o.text.Len(); room > 0 {
		o.text.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (g *gathering) report(ctx context.Context, connected host.Host, h *Host) {
	ctx, cancel := observe.Within(ctx, connected, hostTimeout)
	defer cancel()
	q, said := g.questionFor(h.Name), &output{}
	sent := time.Now()
	_, err := connected.Run(ctx, host.Cmd{Script: q.script(g.Lines), Stdout: said})
	returned := time.Now()
	r := parseReport(said.String())
	if err != nil && len(r.facts) == 0 {
		if h.Hop, h.Problem = hopOf(h.Name, err); h.Hop == HopNone {
			h.Hop = HopShell
		}
		return
	}
	r.into(h, q)
	h.Offset = stack.Clock{Read: secondsOf(r.facts["now"]).Truncate(time.Second), Sent: sent, Returned: returned}.Offset()
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, text := range r.texts {
		g.Texts[h.Name+"/"+name] = text
	}
	for unit, lines := range r.logs {
		g.Logs[h.Name+"/"+unit] = strings.Join(lines, "\n") + "\n"
	}
}

// askNode asks what serves on the node's loopback interface.
func (g *gathering) askNode(ctx context.Context, connected host.Host, h *Host) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	d, ok := connected.(host.Dialer)
	if !ok {
		return
	}
	client, done, err := live.HealthClient(d, g.Input.PKI.Bundle(certs.KubernetesCA))
	if err != nil {
		return
	}
	defer done()
	ask := func(url string) string {
		err := live.Healthy(ctx, client, url)
		if err != nil && ctx.Err() == nil {
			err = live.Healthy(ctx, client, url) // a busy node may miss the first deadline
		}
		return text(err)
	}
	var wait sync.WaitGroup
	units := g.questionFor(connected.Name()).units
	var urls []Health
	for _, u := range stack.Units() {
		if u.Health != "" && slices.Contains(units, u.Name) {
			urls = append(urls, Health{Unit: u.Name, URL: u.Health})
		}
	}
	for i := range urls {
		wait.Go(func() { urls[i].Error = ask(urls[i].URL) })
	}
	wait.Go(func() { h.DNS, h.DNSAsked = g.resolve(ctx, d), true })
	wait.Wait()
	h.Health = urls
}

// hopOf returns at which hop the way to a machine ends, and why.
func hopOf(name string, err error) (Hop, string) {
	if err == nil {
		return HopNone, ""
	}
	said := host.Reason(name, err)
	var exit *host.ExitError
	switch {
	case errors.As(err, new(*host.JumpError)):
		return HopBastion, said
	case errors.As(err, new(*net.DNSError)):
		return HopName, said
	case errors.As(err, new(*host.HostKeyError)):
		return HopHostKey, said
	case errors.As(err, new(*host.AuthError)), errors.As(err, new(*host.AgentError)), errors.As(err, new(*host.PassphraseError)):
		return HopAuth, said
	case errors.As(err, &exit) && strings.Contains(exit.Stderr, "sudo"), strings.Contains(said, "sudo"):
		return HopSudo, said
	case errors.As(err, new(*host.UnreachableError)), errors.As(err, new(*host.LostError)):
		return HopTCP, said
	case errors.As(err, &exit), errors.As(err, new(*observe.HungError)):
		return HopShell, said
	}
	return HopTCP, said
}

// text is an error's text, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
