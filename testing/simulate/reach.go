package simulate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/stack"
)

// reach is a run's way to the cluster, over its connections.
type reach struct{ run *Run }

var _ live.Reach = reach{}

// API implements live.Reach.
func (r reach) API(in stack.Input, hosts map[string]host.Host) (live.APIClient, error) {
	a := &api{run: r.run}
	for _, m := range in.Ours() {
		if k, ok := hosts[m.Name].(*Conn); ok {
			a.ways = append(a.ways, k)
		}
	}
	return a, nil
}

// Etcd implements live.Reach.
func (r reach) Etcd(in stack.Input, hosts map[string]host.Host) (live.EtcdClient, error) {
	e := &members{run: r.run}
	for _, m := range in.ControlPlanes() {
		if k, ok := hosts[m.Name].(*Conn); ok && in.Speaks(m.Name) {
			e.ways = append(e.ways, k)
		}
	}
	if len(e.ways) == 0 {
		return nil, errors.New("set up the etcd client: no endpoints")
	}
	return e, nil
}

// Health implements live.Reach.
func (r reach) Health(h host.Dialer, _ []byte) (ask func(ctx context.Context, url string) error, done func(), err error) {
	k := h.(*Conn)
	return func(ctx context.Context, address string) error {
		return k.ask(ctx, "health "+address, func() error {
			u, err := url.Parse(address)
			if err == nil && !k.h.healthy(u.Port()) {
				err = fmt.Errorf("%s: 500 Internal Server Error", address)
			}
			return err
		})
	}, func() {}, nil
}

// healthy is what the component answers that listens on a port. mu is held.
func (h *Host) healthy(port string) bool {
	switch port {
	case "6444":
		return h.works(stack.BalancerService) && h.c.serves()
	case "6443":
		return h.c.ready(h)
	case "10257":
		return h.works("kube-controller-manager.service") && h.c.serves()
	case "10259":
		return h.works("kube-scheduler.service") && h.c.serves()
	case "10248":
		return h.works(stack.KubeletService)
	case "10256":
		return h.works("kube-proxy.service") && h.c.serves()
	}
	return false
}

// ask is a question over a connection that takes a moment, and longer where the answer is an error.
func (k *Conn) ask(ctx context.Context, name string, question func() error) error {
	c := k.h.c
	if err := k.run.pause(ctx, k.h.name+" "+name, 2*time.Millisecond); err != nil {
		return err
	}
	c.mu.Lock()
	c.settle()
	frozen := k.h.frozen
	err := k.err
	if err == nil && !frozen {
		err = question()
	}
	c.mu.Unlock()
	if frozen {
		if err := k.run.pause(ctx, k.h.name+" hangs", 2*time.Second); err != nil {
			return err
		}
		return fmt.Errorf("%s: %w", k.h.name, context.DeadlineExceeded)
	}
	if err != nil {
		if later := k.run.pause(ctx, k.h.name+" refuses", 400*time.Millisecond); later != nil {
			return later
		}
	}
	return err
}

// PeerCertificate implements live.Reach.
func (reach) PeerCertificate(ctx context.Context, h host.Dialer, address, _ string) (cert *x509.Certificate, err error) {
	k := h.(*Conn)
	err = k.ask(ctx, "handshake "+address, func() error {
		e, ok := endpointAt(address)
		if !ok || !k.h.works(e.Unit) {
			return fmt.Errorf("dial %s: %w", address, syscall.ECONNREFUSED)
		}
		chain, err := certs.Parse(k.h.content(e.Cert))
		if err == nil {
			cert = chain[0]
		}
		return err
	})
	return cert, err
}

// endpointAt is the one that shows a certificate at an address.
func endpointAt(address string) (stack.Endpoint, bool) {
	_, port, _ := net.SplitHostPort(address)
	all := stack.Endpoints()
	i := slices.IndexFunc(all, func(e stack.Endpoint) bool { return strconv.Itoa(e.Port) == port && e.Cert != "" })
	if i < 0 {
		return stack.Endpoint{}, false
	}
	return all[i], true
}

// clientCAs are the files of the authorities whose clients endpoints take.
var clientCAs = map[string]string{
	certs.KubernetesCA: stack.PKIDir + "/ca.crt", certs.EtcdCA: stack.PKIDir + "/etcd/ca.crt", certs.FrontProxyCA: stack.PKIDir + "/front-proxy-ca.crt",
}

// Admits implements live.Reach: a client is taken whose certificate is of an authority in the host's file.
func (reach) Admits(ctx context.Context, h host.Dialer, e stack.Endpoint, address string, _ []byte, client certs.Item) (taken bool, how string, err error) {
	k := h.(*Conn)
	err = k.ask(ctx, "admits "+address+e.Client, func() error {
		if !k.h.works(e.Unit) {
			return fmt.Errorf("dial %s: %w", address, syscall.ECONNREFUSED)
		}
		chain, err := certs.Parse(client.Cert)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(k.h.content(clientCAs[e.Client]))
		_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		taken, how = err == nil, "200 OK"
		if err != nil {
			how = "unknown certificate authority"
		}
		return nil
	})
	return taken, how, err
}

// AuthenticationOf implements live.Reach.
func (reach) AuthenticationOf(ctx context.Context, _ *certs.PKI, h host.Dialer) (hash string, err error) {
	k := h.(*Conn)
	err = k.ask(ctx, "authentication", func() error {
		hash = stack.ConfigHash(k.h.content(stack.AuthenticationFile))
		return nil
	})
	return hash, err
}

// EncryptionConfigs implements live.Reach.
func (reach) EncryptionConfigs(ctx context.Context, _ *certs.PKI, h host.Dialer) (hashes []string, err error) {
	k := h.(*Conn)
	err = k.ask(ctx, "encryption", func() error {
		if !k.h.c.ready(k.h) {
			return errors.New("connection refused")
		}
		hashes = []string{stack.ConfigHash(k.h.content(stack.EncryptionFile))}
		return nil
	})
	return hashes, err
}

// members is a client of etcd.
type members struct {
	run  *Run
	ways []*Conn
}

// Status implements live.EtcdClient: it is as patient as the real one.
func (m *members) Status(ctx context.Context) ([]etcd.Member, error) {
	c := m.run.c
	if err := m.run.pause(ctx, "etcd status", 3*time.Millisecond); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.settle()
	waits, all, err := m.status()
	m.run.asked = time.Now()
	c.mu.Unlock()
	if waits > 0 {
		if err := m.run.pause(ctx, "etcd waits", waits); err != nil {
			return nil, err
		}
	}
	return all, err
}

// status says how the members are, and how long it takes to know.
func (m *members) status() (waits time.Duration, all []etcd.Member, err error) {
	c := m.run.c
	ways := map[string]*Conn{}
	for _, k := range m.ways {
		if k.err == nil {
			ways[k.h.name] = k
		}
	}
	answered := false
	for i, h := range c.controlPlanes() {
		e := etcd.Member{Name: h.name, ID: uint64(i + 1), PeerURLs: []string{"https://" + h.machine.Address.String() + ":2380"}} //nolint:gosec // G115: small
		switch {
		case ways[h.name] == nil:
			e.Err = errors.New("not asked: it is none of the endpoints given")
		case h.frozen:
			waits, e.Err = max(waits, 4*time.Second), context.DeadlineExceeded
		case h.member():
			answered = true
			e.Answers, e.ClusterID, e.Version = c.quorate(h), mix(uint64(len(h.etcd))), "3.6.0"
			if e.Healthy, e.Out = e.Answers, !e.Answers; e.Out {
				waits, e.Err = max(waits, 3*time.Second), errors.New("etcdserver: no leader")
			}
		default:
			waits, e.Out, e.Err = max(waits, 200*time.Millisecond), true, fmt.Errorf("dial %s: %w", h.machine.Address, syscall.ECONNREFUSED)
		}
		all = append(all, e)
	}
	if !answered {
		return max(waits, time.Second), nil, errors.New("no member of etcd answers")
	}
	return waits, all, nil
}

// EncryptionPrefixes implements live.EtcdClient.
func (m *members) EncryptionPrefixes(ctx context.Context) (map[string]int, error) {
	c := m.run.c
	if err := m.run.pause(ctx, "etcd prefixes", 3*time.Millisecond); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range m.ways {
		if key := firstKey(string(k.h.content(stack.EncryptionFile))); key != "" {
			return map[string]int{"k8s:enc:secretbox:v1:" + key + ":": 1}, nil
		}
	}
	return nil, errors.New("no member of etcd answers")
}

// firstKey is the name of the key that encrypts, in an EncryptionConfiguration.
func firstKey(text string) string {
	_, rest, _ := strings.Cut(text, "secretbox:")
	_, rest, _ = strings.Cut(rest, "name:")
	name, _, _ := strings.Cut(strings.TrimLeft(rest, ` "`), "\n")
	name, _, _ = strings.Cut(name, ",")
	return strings.Trim(strings.TrimSpace(name), `"`)
}

func clone(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
