package machines

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Layout is what a fleet is made of.
type Layout struct {
	// Name is that of the fleet, the beginning of its objects' names in the engine.
	Name string
	// Subnet is a /22 that no other fleet has: the networks between the operator and the first bastion,
	// between the bastions, of the machines' sshds, and of the machines among each other.
	Subnet string
	// Bastions are 0, 1 or 2. Each knows only the next, and the last the machines. Without any, the
	// operator reaches the machines' sshds.
	Bastions int
	// Machines by name, in this order.
	Machines []Spec
	// Certify gives each sshd a certificate of an SSH authority, which alone is in known_hosts.
	Certify bool
}

// Spec is a machine as it should be.
type Spec struct {
	Name   string // its host name
	System System
}

// Fleet is the machines of one test, the bastions before them, and what their operator has.
type Fleet struct {
	Machines []*Machine
	Bastions []*Machine
	// User has sudo on the machines, and Password is what it asks for.
	User, Password string
	// JumpUser may forward connections on bastions, and nothing else.
	JumpUser string
	// Keys let in: the first on bastions, the second on machines.
	Keys []Key
	// KnownHosts is a file with the keys of all sshds, or that of the authority.
	KnownHosts string

	name      string
	authority Key
	certify   bool
	console   Key
	dir       string
}

// The networks' places in Layout.Subnet.
const (
	edge = iota
	between
	public
	private
)

// first is the place of the first machine in its networks; the bastions are before.
const first = 11

// New makes a fleet, waits until every sshd answers, and removes it at the end of the test.
func New(t testing.TB, layout Layout) *Fleet {
	t.Helper()
	f := &Fleet{
		User: "admin", JumpUser: "jump", Password: rand.Text(), Keys: []Key{NewKey(t), NewKey(t)}, console: NewKey(t),
		authority: NewKey(t), certify: layout.Certify, name: layout.Name, dir: t.TempDir(),
	}
	f.KnownHosts = filepath.Join(f.dir, "known_hosts")
	removeAll(t, f.name) // of a run that was killed
	t.Cleanup(func() { removeAll(t, f.name) })
	subnet := netip.MustParsePrefix(layout.Subnet)
	f.networks(t, subnet, layout.Bastions)
	f.place(subnet, layout)
	f.writeKnownHosts(t)
	var started sync.WaitGroup
	for _, m := range f.all() {
		m.image = ensureImage(t, m.system)
		f.create(t, m)
		started.Go(func() { m.start(t) })
	}
	started.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, m := range f.all() {
		m.waitSSH(t)
	}
	return f
}

func (f *Fleet) all() []*Machine {
	return append(append([]*Machine(nil), f.Bastions...), f.Machines...)
}

// Machine returns the machine of that name.
func (f *Fleet) Machine(name string) *Machine {
	for _, m := range f.all() {
		if m.Name == name {
			return m
		}
	}
	panic("no machine " + name)
}

func nth(subnet netip.Prefix, network, host int) netip.Addr {
	a := subnet.Masked().Addr().As4()
	a[2] += byte(network)
	a[3] = byte(host)
	return netip.AddrFrom4(a)
}

func (f *Fleet) network(n int) string { return fmt.Sprintf("%s-%d", f.name, n) }

// networks makes those that are used. This computer has an address only in the one that the
// operator is to reach.
func (f *Fleet) networks(t testing.TB, subnet netip.Prefix, bastions int) {
	t.Helper()
	open := public
	if bastions > 0 {
		open = edge
	}
	for n := edge; n <= private; n++ {
		if n < open || n == between && bastions < 2 {
			continue
		}
		args := []string{
			"network", "create", "--label", label + "=" + f.name, "--subnet", netip.PrefixFrom(nth(subnet, n, 0), 24).String(),
			"--gateway", nth(subnet, n, 1).String(),
		}
		if n != open {
			args = append(args, "--opt", "com.docker.network.bridge.inhibit_ipv4=true")
		}
		must(t, nil, append(args, f.network(n))...)
	}
}

// place says where every machine is.
func (f *Fleet) place(subnet netip.Prefix, layout Layout) {
	add := func(name string, system System, kind string, host int, networks ...int) *Machine {
		m := &Machine{Name: name, Port: 22, system: system, kind: kind, fleet: f}
		for _, n := range networks {
			m.attached = append(m.attached, attachment{f.network(n), nth(subnet, n, host)})
		}
		m.Address = m.attached[0].address
		return m
	}
	way := []int{edge, between, public}
	if layout.Bastions == 1 {
		way = []int{edge, public}
	}
	for i := range layout.Bastions {
		f.Bastions = append(f.Bastions, add(fmt.Sprintf("bastion%d", i+1), Debian12, bastion, 2+i, way[i], way[i+1]))
	}
	for i, spec := range layout.Machines {
		kind := container
		if spec.System.isUML() {
			kind = uml
		}
		m := add(spec.Name, spec.System, kind, first+i, public, private)
		m.Private = m.attached[1].address
		f.Machines = append(f.Machines, m)
	}
}

// writeKnownHosts makes the host keys and the file.
func (f *Fleet) writeKnownHosts(t testing.TB) {
	t.Helper()
	var known strings.Builder
	for _, m := range f.all() {
		key := NewKey(t)
		f.write(t, m.Name+".key", key.PEM(t))
		m.HostKey = key.Public()
		if f.certify {
			m.certificate = key.certify(t, f.authority, []string{m.Address.String(), m.Name})
			continue
		}
		_, _ = fmt.Fprintf(&known, "%s %s\n", m.Address, m.HostKey)
	}
	if f.certify {
		_, _ = fmt.Fprintf(&known, "@cert-authority * %s\n", f.authority.Public())
	}
	f.write(t, filepath.Base(f.KnownHosts), []byte(known.String()))
}

func (f *Fleet) write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// create makes the container and puts in what only it has.
func (f *Fleet) create(t testing.TB, m *Machine) {
	t.Helper()
	args := []string{
		"create", "--name", m.container(), "--hostname", m.Name, "--label", label + "=" + f.name,
		"--network", m.attached[0].network, "--ip", m.attached[0].address.String(),
		"--env", "container=docker", "--stop-signal", "SIGRTMIN+3", "--stop-timeout", "10",
	}
	args = append(args, m.form()...)
	must(t, nil, args...)
	for _, a := range m.attached[1:] {
		must(t, nil, "network", "connect", "--ip", a.address.String(), a.network, m.container())
	}
	must(t, f.seed(t, m), "cp", "-", m.container()+":/")
}

// seed is the directory /seed of a machine, as a tar.
func (f *Fleet) seed(t testing.TB, m *Machine) *bytes.Buffer {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(f.dir, m.Name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"host_key": string(key), "host_key.pub": m.HostKey + "\n",
		"jump.pub": f.Keys[0].Public() + "\n", "admin.pub": f.Keys[1].Public() + "\n",
		"passwords": f.User + ":" + f.Password + "\n", "hostname": m.Name + "\n",
		"hosts": "127.0.0.1 localhost\n127.0.1.1 " + m.Name + "\n",
	}
	if m.certificate != "" {
		files["host_cert"] = m.certificate
	}
	if m.kind == uml {
		files["console"], files["console.pub"] = string(f.console.PEM(t)), f.console.Public()+"\n"
	}
	return pack("seed", files)
}

// SSHConfig writes a file for `ssh -F`, with which `ssh NAME` enters the machine NAME as User with the
// keys of the agent at socket, through the bastions, and returns its path.
func (f *Fleet) SSHConfig(t testing.TB, socket string) string {
	t.Helper()
	var b strings.Builder
	jump := "none"
	for _, m := range f.all() {
		user := f.User
		if m.kind == bastion {
			user = f.JumpUser
		}
		host, port, _ := net.SplitHostPort(m.SSH())
		_, _ = fmt.Fprintf(&b, "Host %s\n  HostName %s\n  Port %s\n  User %s\n  ProxyJump %s\n", m.Name, host, port, user, jump)
		if m.kind == bastion {
			jump = m.Name
		}
	}
	_, _ = fmt.Fprintf(&b, "Host *\n  IdentityAgent %s\n  UserKnownHostsFile %s\n"+
		"  StrictHostKeyChecking yes\n  BatchMode yes\n  LogLevel ERROR\n", socket, f.KnownHosts)
	path := filepath.Join(t.TempDir(), "ssh_config")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// SSH is the address of sshd, as seen from the last bastion or the operator.
func (m *Machine) SSH() string { return net.JoinHostPort(m.Address.String(), strconv.Itoa(m.Port)) }
