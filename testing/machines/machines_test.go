package machines

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("SLIPWAY_E2E") != "1" {
		println("machines: not run; set SLIPWAY_E2E=1 (make test does)")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestFleet is one fleet of both Debians behind two bastions: what the tests that use fleets rely on.
func TestFleet(t *testing.T) {
	f := New(t, Layout{
		Name: "fleet-test", Subnet: "10.89.252.0/22", Bastions: 2,
		Machines: []Spec{{"d12", Debian12}, {"d13", Debian13}},
	})
	config := f.SSHConfig(t, Agent(t, f.Keys...))
	enter := func(name, script string) (string, error) { return enterBy(t, config, name, script) }
	d12, d13 := f.Machine("d12"), f.Machine("d13")

	t.Run("no way but through the bastions", func(t *testing.T) {
		for _, a := range []netip.Addr{d12.Address, d12.Private, d13.Address, f.Bastions[1].Address} {
			wantUnreachable(t, a)
		}
		if out, err := f.Bastions[0].Run(t.Context(), "curl -m 1 -sS telnet://"+d12.SSH()); err == nil {
			t.Errorf("the first bastion reaches %s: %s", d12.SSH(), out)
		}
		if out, err := enter("bastion2", "id"); err == nil {
			t.Errorf("the bastion has a shell: %s", out)
		}
	})
	t.Run("systems", func(t *testing.T) {
		for name, version := range map[string]string{"d12": "12", "d13": "13"} {
			out, err := enter(name, `. /etc/os-release; echo "$VERSION_ID $(hostname) $(id -un) $(systemctl is-system-running)"`)
			if want := version + " " + name + " admin running"; err != nil || out != want {
				t.Errorf("%q, %v; want %q", out, err, want)
			}
		}
	})
	t.Run("sudo wants its password", func(t *testing.T) {
		if out, err := enter("d13", "sudo -n true"); err == nil || !strings.Contains(err.Error(), "password") {
			t.Errorf("%s, %v", out, err)
		}
		if out, err := enter("d13", "echo "+f.Password+" | sudo -S -p '' id -u"); err != nil || out != "0" {
			t.Errorf("%q, %v", out, err)
		}
		if out, err := enter("d13", "echo wrong | sudo -S -p '' id -u"); err == nil {
			t.Errorf("any password does: %q", out)
		}
		if out, err := enterBy(t, config, "root@d13", "id"); err == nil {
			t.Errorf("root may log in: %q", out)
		}
	})
	t.Run("an agent without the key", func(t *testing.T) {
		if out, err := enterBy(t, f.SSHConfig(t, Agent(t, f.Keys[0], NewKey(t))), "d12", "id"); err == nil || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("firewall", func(t *testing.T) { checkFirewall(t, d12, d13) })
	t.Run("full disk", func(t *testing.T) {
		d12.FillDisk(t, "/opt/full")
		if out, err := d12.Run(t.Context(), "head -c 9 /dev/zero >/opt/full/x"); err == nil || !strings.Contains(err.Error(), "No space left") {
			t.Errorf("%q, %v", out, err)
		}
		d12.EmptyDisk(t, "/opt/full")
		d12.MustRun(t, "head -c 9 /dev/zero >/opt/full/x")
	})
	t.Run("reboot", func(t *testing.T) {
		const boot, id = "stat -c %Z /proc/1", "cat /etc/machine-id"
		before, machine := d13.MustRun(t, boot), d13.MustRun(t, id)
		d13.Reboot(t)
		if after := d13.MustRun(t, boot); after == before {
			t.Error("it was not rebooted")
		}
		if after := d13.MustRun(t, id); after != machine || after == "" {
			t.Errorf("its machine-id was %q and is %q", machine, after)
		}
	})
	t.Run("pause", func(t *testing.T) {
		d13.Pause(t)
		if out, err := enter("-oConnectTimeout=2", "d13"); err == nil || !strings.Contains(err.Error(), "timed out") {
			t.Errorf("it does not hang: %q, %v", out, err)
		}
		d13.Unpause(t)
		if out, err := enter("d13", "id -un"); err != nil || out != "admin" {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("another host key", func(t *testing.T) {
		was := d12.HostKey
		defer func() {
			d12.RestoreHostKey(t)
			if out, err := enter("d12", "id -un"); err != nil || out != "admin" || d12.HostKey != was {
				t.Errorf("with the old key: %q, %v", out, err)
			}
		}()
		d12.ChangeHostKey(t)
		if d12.HostKey == was {
			t.Error("it is the same key")
		}
		if out, err := enter("d12", "id"); err == nil || !strings.Contains(err.Error(), "Host key verification failed") {
			t.Errorf("%q, %v", out, err)
		}
	})
}

// TestFleetCertificates has one bastion, and host certificates.
func TestFleetCertificates(t *testing.T) {
	f := New(t, Layout{
		Name: "fleet-cert", Subnet: "10.89.248.0/22", Bastions: 1, Certify: true, Machines: []Spec{{"d12", Debian12}},
	})
	config := f.SSHConfig(t, Agent(t, f.Keys...))
	if out, err := enterBy(t, config, "d12", "id -un"); err != nil || out != "admin" {
		t.Errorf("%q, %v", out, err)
	}
	f.Machine("d12").ChangeHostKey(t) // it has no certificate
	if out, err := enterBy(t, config, "d12", "id"); err == nil || !strings.Contains(err.Error(), "Host key verification failed") {
		t.Errorf("%q, %v", out, err)
	}
	wantUnreachable(t, f.Machine("d12").Address)
}

// TestLongUML is a machine with a kernel of its own beside one without. It boots for half a minute.
func TestLongUML(t *testing.T) {
	if os.Getenv("SLIPWAY_E2E_LONG") == "" {
		t.Skip("takes long; make e2e-all runs it")
	}
	f := New(t, Layout{Name: "fleet-uml", Subnet: "10.89.244.0/22", Machines: []Spec{{"own", UML}, {"d12", Debian12}}})
	config := f.SSHConfig(t, Agent(t, f.Keys...))
	own := f.Machine("own")
	out, err := enterBy(t, config, "own", "stat -fc %T /sys/fs/cgroup; systemctl is-system-running; id -un; hostname; grep MHz /proc/cpuinfo")
	if want := "cgroup2fs\nrunning\nadmin\nown\ncpu MHz\t\t: 1000.000"; err != nil || out != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	own.MustRun(t, "for m in ip_vs ip_vs_rr overlay vxlan br_netfilter nf_conntrack; do modprobe $m; done; iptables -t nat -nL >/dev/null")
	d12 := f.Machine("d12")
	t.Run("firewall", func(t *testing.T) { checkFirewall(t, own, d12) })
	t.Run("reboot", func(t *testing.T) {
		own.MustRun(t, "echo kept >/root/kept; sync")
		own.Reboot(t)
		if out := own.MustRun(t, "cat /root/kept"); out != "kept" {
			t.Error(out)
		}
		if out, err := enterBy(t, config, "own", "id -un"); err != nil || out != "admin" {
			t.Errorf("%q, %v", out, err)
		}
	})
}

// checkFirewall has two servers on m: only the one whose port is open answers the other machine.
func checkFirewall(t *testing.T, m, other *Machine) {
	const server = "systemd-run -q --unit serve%[1]s socat TCP-LISTEN:%[1]s,fork,reuseaddr SYSTEM:'echo from %[1]s'\n"
	m.MustRun(t, strings.ReplaceAll(server, "%[1]s", "7001")+strings.ReplaceAll(server, "%[1]s", "7002"))
	ask := func(port string) (string, error) {
		return other.Run(t.Context(), "socat -t10 - TCP:"+m.Private.String()+":"+port+",connect-timeout=2 </dev/null")
	}
	for _, port := range []string{"7001", "7002"} {
		eventually(t, 10*time.Second, port+" answers", func(context.Context) error {
			_, err := ask(port)
			return err
		})
	}
	m.Firewall(t, []Port{{"tcp", 22, nil}, {"tcp", 7001, []netip.Prefix{netip.PrefixFrom(other.Private, 32)}}})
	if out, err := ask("7001"); err != nil || out != "from 7001" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := ask("7002"); err == nil {
		t.Errorf("the firewall lets everything in: %q", out)
	}
}

func enterBy(t *testing.T, config, name, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ssh", "-F", config, name, script)
	cmd.WaitDelay = time.Second // those on the way may hold its output
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = &sshError{err, stderr.String()}
	}
	return strings.TrimSpace(string(out)), err
}

type sshError struct {
	error
	stderr string
}

func (e *sshError) Error() string { return e.error.Error() + ": " + e.stderr }

// wantUnreachable wants no greeting of an sshd at an address, as this computer sees it. What is on the
// way to other networks may take any connection.
func wantUnreachable(t *testing.T, address netip.Addr) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(address, 22).String(), time.Second)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 4)
	if n, _ := conn.Read(greeting); n > 0 {
		t.Errorf("%s can be reached directly: it says %q", address, greeting[:n])
	}
}
