package diagnose

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

const (
	kubeletPort  = 10250
	etcdPeerPort = 2380
	// allPairs is up to how many nodes every pair is tried; with more, each node tries the next ones.
	allPairs  = 12
	nextNodes = 3
	// dialsAtOnce bounds the attempts of all nodes together.
	dialsAtOnce = 64
)

// paths tries the ways between nodes, each from the node's own network, as far as docs/ports.md has
// them open: from control planes to kubelets and to etcd, from all nodes to API servers, and to the
// others' part of the pod network. There the target is a pod; if the node has none, its own address
// in it, at which the kubelet listens. Either is reached the way that pods' packets go (with
// flannel's vxlan, as UDP on port 8472).
func (g *gathering) paths(ctx context.Context) []Path {
	var all []Path
	hosts := g.Evidence.Hosts
	for i := range hosts {
		if g.dialer(hosts[i].Name) == nil {
			continue
		}
		for _, j := range partners(i, len(hosts)) {
			all = append(all, g.pathsTo(hosts[i], hosts[j])...)
		}
		for _, m := range g.Input.ControlPlanes() {
			all = append(all, Path{Kind: ToAPI, From: hosts[i].Name, To: m.Name, Address: netip.AddrPortFrom(m.Address, stack.APIPort).String()})
			if hosts[i].Role == spec.ControlPlane && m.Name != hosts[i].Name {
				all = append(all, Path{Kind: ToEtcd, From: hosts[i].Name, To: m.Name, Address: netip.AddrPortFrom(m.Address, etcdPeerPort).String()})
			}
		}
	}
	slots := make(chan struct{}, dialsAtOnce)
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			all[i].try(ctx, g.dialer(all[i].From))
		})
	}
	wait.Wait()
	return all
}

// partners are the nodes that a node tries to reach.
func partners(i, n int) []int {
	var all []int
	for step := 1; step < n && (n <= allPairs || step <= nextNodes); step++ {
		all = append(all, (i+step)%n)
	}
	return all
}

// pathsTo are the ways from a node to another.
func (g *gathering) pathsTo(from, to Host) []Path {
	var all []Path
	if to.Address.IsValid() && from.Role == spec.ControlPlane {
		all = append(all, Path{Kind: NodeNetwork, From: from.Name, To: to.Name, Address: netip.AddrPortFrom(to.Address, kubeletPort).String()})
	}
	if g.Input.Cluster.Spec.Network.Plugin != "flannel" {
		return all
	}
	if at, ok := g.Evidence.API.Targets[to.Name]; ok {
		return append(all, Path{Kind: PodNetwork, From: from.Name, To: to.Name, Address: at.String()})
	}
	if slices.ContainsFunc(to.Drops, func(rule string) bool { return strings.HasPrefix(rule, "-P INPUT DROP") }) {
		return all // only some ports of the node are open there, and which is not known
	}
	for _, name := range []string{"flannel.1", "cni0"} { // the bridge exists only once there are pods
		if at, ok := to.Networks[name]; ok {
			return append(all, Path{Kind: PodNetwork, From: from.Name, To: to.Name, Address: netip.AddrPortFrom(at.Addr(), kubeletPort).String()})
		}
	}
	return all
}

// try connects, and once more if there was no answer: a busy node may miss the first deadline.
func (p *Path) try(ctx context.Context, d host.Dialer) {
	for range 2 {
		err := connect(ctx, d, p.Address)
		if p.Error, p.Refused = text(err), errors.Is(err, syscall.ECONNREFUSED); err == nil || p.Refused {
			return
		}
	}
}

func connect(ctx context.Context, d host.Dialer, address string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, fmt.Errorf("no answer within %s", probeTimeout))
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// resolve asks the cluster's DNS for the API's name, over TCP through the Service's address, from
// a node: that needs kube-proxy's rules there, the pod network and CoreDNS. It returns why there was
// no answer.
func (g *gathering) resolve(ctx context.Context, d host.Dialer) string {
	network := g.Input.Cluster.Spec.Network
	server := netip.AddrPortFrom(network.DNSServiceIP(), 53).String()
	name := "kubernetes.default.svc." + network.DNSDomain + "."
	var err error
	for range 2 { // one of its pods may just be leaving
		if err = ask(ctx, d, server, name); err == nil {
			return ""
		}
	}
	return err.Error()
}

func ask(ctx context.Context, d host.Dialer, server, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, fmt.Errorf("no answer within %s", probeTimeout))
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if limit, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(limit)
	}
	code, err := query(conn, name)
	switch {
	case err != nil:
		return fmt.Errorf("%s does not answer: %w", server, err)
	case code != dnsmessage.RCodeSuccess:
		return fmt.Errorf("%s answers %s for %s", server, code, name)
	}
	return nil
}

// query asks for an address over TCP (RFC 1035, 4.2.2).
func query(conn net.Conn, name string) (dnsmessage.RCode, error) {
	asked, err := dnsmessage.NewName(name)
	if err != nil {
		return 0, err
	}
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(time.Now().UnixNano()), RecursionDesired: true}, //nolint:gosec // G115: any number does
		Questions: []dnsmessage.Question{{Name: asked, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packed, err := message.Pack()
	if err != nil {
		return 0, err
	}
	length := binary.BigEndian.AppendUint16(nil, uint16(len(packed))) //nolint:gosec // G115: one question
	if _, err := conn.Write(slices.Concat(length, packed)); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, length); err != nil {
		return 0, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(length))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return 0, err
	}
	var parser dnsmessage.Parser
	header, err := parser.Start(answer)
	if err != nil {
		return 0, err
	}
	if header.ID != message.ID {
		return 0, errors.New("an answer to another question")
	}
	return header.RCode, nil
}
