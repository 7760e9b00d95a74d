package machines

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The kinds of containers, by the program that is their first process.
const (
	container = "machine"
	bastion   = "bastion"
	uml       = "uml"
)

// Machine is a computer, as far as SSH can tell.
type Machine struct {
	Name string
	// Address and Port are where sshd listens, for the last bastion or the operator.
	Address netip.Addr
	Port    int
	// Private is the address among the machines; bastions have none.
	Private netip.Addr
	// HostKey is sshd's, as in authorized_keys.
	HostKey string

	fleet       *Fleet
	kind        string
	system      System
	image       string
	certificate string
	attached    []attachment
}

type attachment struct {
	network string
	address netip.Addr
}

func (m *Machine) container() string { return m.fleet.name + "-" + m.Name }

// Memory and disk of user-mode Linux.
const (
	umlMemory = "2048M"
	umlDisk   = "12G"
)

// form is the end of the arguments of `docker create`.
func (m *Machine) form() []string {
	entry := "/usr/local/sbin/" + m.kind
	switch m.kind {
	case bastion:
		return []string{"--entrypoint", entry, m.image}
	case uml:
		// Its memory is a file that it executes from.
		return append(privileges(), "--tmpfs", "/memory:exec,size=4g", "--volume", "/var", "--entrypoint", entry, m.image, umlMemory, umlDisk)
	}
	return append(privileges(), "--cgroupns=private", "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/tmp:exec,mode=1777",
		"--volume", "/var", "--entrypoint", entry, m.image)
}

func (m *Machine) start(t testing.TB) {
	if _, err := docker(t.Context(), nil, "start", m.container()); err != nil {
		t.Errorf("start %s: %v", m.Name, err)
	}
}

// Run runs a script as root, on a way that neither sshd nor a firewall is in, and returns what it
// printed.
func (m *Machine) Run(ctx context.Context, script string) (string, error) {
	args := []string{"exec", "-i", m.container()}
	if m.kind == uml {
		args = append(args, "ssh", "-i", "/seed/console", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60", "root@169.254.9.2")
	}
	out, err := docker(ctx, strings.NewReader(script), append(args, "sh", "-es")...)
	if err != nil {
		return out, fmt.Errorf("on %s: %w", m.Name, err)
	}
	return out, nil
}

// MustRun is Run for what must succeed.
func (m *Machine) MustRun(t testing.TB, script string) string {
	t.Helper()
	out, err := m.Run(t.Context(), script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// waitSSH waits until systemd has started everything and sshd greets.
func (m *Machine) waitSSH(t testing.TB) {
	t.Helper()
	limit := time.Minute
	if m.kind == uml {
		limit = 5 * time.Minute
	}
	eventually(t, limit, m.Name+" answers SSH", func(ctx context.Context) error {
		script := "systemctl is-system-running || [ $? = 1 ]; " // degraded is no concern of the operator's
		if m.kind == bastion {
			script = ""
		}
		out, err := m.Run(ctx, script+`ss -Hltn 'sport = :22' | grep -q . || { echo "sshd does not listen"; exit 1; }`)
		if err == nil && strings.Contains(out, "starting") {
			err = errors.New("systemd is still starting")
		}
		return err
	})
}

// Reboot takes the power away and gives it back, and waits until sshd answers.
func (m *Machine) Reboot(t testing.TB) {
	t.Helper()
	m.PowerOff(t)
	m.PowerOn(t)
}

// PowerOff takes the power away.
func (m *Machine) PowerOff(t testing.TB) {
	t.Helper()
	must(t, nil, "kill", m.container())
}

// PowerOn gives it back, and waits until sshd answers.
func (m *Machine) PowerOn(t testing.TB) {
	t.Helper()
	must(t, nil, "start", m.container())
	m.waitSSH(t)
}

// Pause stops everything on the machine; its kernel goes on to accept connections.
func (m *Machine) Pause(t testing.TB) {
	t.Helper()
	must(t, nil, "pause", m.container())
	t.Cleanup(func() { _, _ = docker(context.WithoutCancel(t.Context()), nil, "unpause", m.container()) }) // unless it goes on
}

// Unpause lets it go on.
func (m *Machine) Unpause(t testing.TB) {
	t.Helper()
	must(t, nil, "unpause", m.container())
}

// ChangeHostKey gives sshd another key, as a new installation would.
func (m *Machine) ChangeHostKey(t testing.TB) {
	t.Helper()
	m.MustRun(t, `cp -a /etc/ssh /root/; rm -f /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
rm -f /etc/ssh/sshd_config.d/cert.conf; systemctl restart ssh`)
	m.HostKey = m.readHostKey(t)
}

// RestoreHostKey gives sshd the key back that it had before ChangeHostKey.
func (m *Machine) RestoreHostKey(t testing.TB) {
	t.Helper()
	m.MustRun(t, `cp -a /root/ssh/. /etc/ssh/; rm -r /root/ssh; systemctl restart ssh`)
	m.HostKey = m.readHostKey(t)
}

func (m *Machine) readHostKey(t testing.TB) string {
	t.Helper()
	return strings.Join(strings.Fields(m.MustRun(t, "cat /etc/ssh/ssh_host_ed25519_key.pub"))[:2], " ")
}

// FillDisk puts a disk of one MB, which is full, at a directory; EmptyDisk takes it away.
func (m *Machine) FillDisk(t testing.TB, dir string) {
	t.Helper()
	m.MustRun(t, fmt.Sprintf(`mkdir -p %[1]s; mount -t tmpfs -o size=1m,mode=755 full %[1]s; head -c 2M /dev/zero >%[1]s/.full 2>/dev/null || true`, dir))
}

// EmptyDisk ends FillDisk.
func (m *Machine) EmptyDisk(t testing.TB, dir string) {
	t.Helper()
	m.MustRun(t, "umount "+dir)
}

// Port is one that a firewall lets in.
type Port struct {
	Protocol string // "tcp" or "udp"
	Number   int
	From     []netip.Prefix // whom; empty for all
}

// Firewall drops all packets that arrive from the machine's networks, but answers, ping, and those to
// these ports. Calling it again replaces the rules.
func (m *Machine) Firewall(t testing.TB, ports []Port) {
	t.Helper()
	const allow = "iptables -w -A MACHINE "
	script := []string{"iptables -w -N MACHINE 2>/dev/null || iptables -w -F MACHINE"}
	for _, a := range m.attached {
		script = append(script, fmt.Sprintf("dev=$(ip -o -4 address show to %s | awk '{print $2}')", a.address),
			"iptables -w -C INPUT -i $dev -j MACHINE 2>/dev/null || iptables -w -I INPUT -i $dev -j MACHINE")
	}
	script = append(script, allow+"-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN", allow+"-p icmp -j RETURN")
	for _, p := range ports {
		from := []string{""}
		if len(p.From) > 0 {
			from = nil
		}
		for _, f := range p.From {
			from = append(from, " -s "+f.String())
		}
		for _, f := range from {
			script = append(script, fmt.Sprintf("%s-p %s --dport %d%s -j RETURN", allow, p.Protocol, p.Number, f))
		}
	}
	m.MustRun(t, strings.Join(append(script, allow+"-j DROP"), "\n"))
}

// Limit bounds what the machine's sshd interface sends, in Mbit/s; 0 is no bound.
func (m *Machine) Limit(t testing.TB, mbits int) {
	t.Helper()
	script := "tc qdisc del dev $dev root 2>/dev/null || true\n"
	if mbits > 0 {
		script += fmt.Sprintf("tc qdisc add dev $dev root tbf rate %dmbit burst 64kb latency 200ms\n", mbits)
	}
	m.MustRun(t, fmt.Sprintf("dev=$(ip -o -4 address show to %s | awk '{print $2}')\n", m.Address)+script)
}
