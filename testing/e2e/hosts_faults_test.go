package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/testing/machines"
)

// hostFault is what can be wrong with one machine.
type hostFault struct {
	name string
	// plant and mend change the machine, or what the spec says of it.
	plant, mend func(t *testing.T, c *hostsCluster, m *machines.Machine)
	// says are words of the error.
	says []string
	// entered means that something may have been written before it was noticed.
	entered bool
}

// setting is a fault of the spec: it says this of the machine.
func setting(format string, args ...any) (plant, mend func(t *testing.T, c *hostsCluster, m *machines.Machine)) {
	put := func(text string) func(t *testing.T, c *hostsCluster, m *machines.Machine) {
		return func(t *testing.T, c *hostsCluster, m *machines.Machine) {
			c.settings[m.Name] = text
			c.write(t)
		}
	}
	return put(fmt.Sprintf(format, args...)), put("")
}

func hostFaults(t *testing.T, c *hostsCluster) []hostFault {
	run := func(script string) func(t *testing.T, c *hostsCluster, m *machines.Machine) {
		return func(t *testing.T, _ *hostsCluster, m *machines.Machine) { m.MustRun(t, script) }
	}
	faults := []hostFault{
		{
			name: "wrong host key", says: []string{"shows the key ssh-ed25519", "known_hosts"},
			plant: func(t *testing.T, _ *hostsCluster, m *machines.Machine) { m.ChangeHostKey(t) },
			mend:  func(t *testing.T, _ *hostsCluster, m *machines.Machine) { m.RestoreHostKey(t) },
		},
		{name: "wrong user", says: []string{`does not let user "nobody" in`}},
		{name: "agent without the key", says: []string{`does not let user "admin" in`}},
		{
			name: "wrong password for sudo", says: []string{"does not become root"},
			plant: run("echo admin:another | chpasswd"), mend: run("echo admin:" + c.fleet.Password + " | chpasswd"),
		},
		{name: "unreachable bastion", says: []string{"bastion", "10.89.4.99"}},
		{
			name: "hangs", says: []string{"no SSH at", "no SSH answers"},
			plant: func(t *testing.T, _ *hostsCluster, m *machines.Machine) { m.Pause(t) },
			mend:  func(t *testing.T, _ *hostsCluster, m *machines.Machine) { m.Unpause(t) },
		},
		{
			name: "full disk", entered: true,
			plant: func(t *testing.T, _ *hostsCluster, m *machines.Machine) { m.FillDisk(t, "/opt") },
			mend:  func(t *testing.T, _ *hostsCluster, m *machines.Machine) { m.EmptyDisk(t, "/opt") },
		},
	}
	for i := range faults {
		switch f := &faults[i]; f.name {
		case "wrong user":
			f.plant, f.mend = setting("user: nobody")
		case "agent without the key": // that of the bastion it has
			f.plant, f.mend = setting("agent: %s", machines.Agent(t, c.fleet.Keys[0], machines.NewKey(t)))
		case "unreachable bastion": // nobody has that address
			f.plant, f.mend = setting(`jumps: [jump@10.89.4.99, "%s@%s"]`, c.fleet.JumpUser, c.fleet.Bastions[0].SSH())
		}
	}
	return faults
}

// TestLongHostsFaults plants one fault after another on one machine: each ends within its deadline with one error of that
// machine, and the others are managed. Nothing is half-written, and with all mended apply finishes.
func TestLongHostsFaults(t *testing.T) {
	long(t)
	parallel(t, 4*time.Minute)
	c := newHostsCluster(t, machines.Layout{
		Name: "e2e-hostsfault", Subnet: "10.89.4.0/22", Bastions: 1,
		Machines: []machines.Spec{{Name: "e2e-hostsfault-cp-1", System: machines.Debian12}, {Name: "e2e-hostsfault-worker-1", System: machines.Debian13}},
	}, clusterSpec{controlPlanes: 1, workers: 1})
	cp, worker := c.nodes()[0], c.nodes()[1]
	m := c.fleet.Machine(worker)
	for i, f := range hostFaults(t, c) {
		if !t.Run(f.name, func(t *testing.T) {
			f.plant(t, c, m)
			defer func() {
				f.mend(t, c, m)
				c.nothingCut(t, worker)
				if !f.entered {
					c.bare(t, worker)
				}
			}()
			began := time.Now()
			r := c.run(t, nil, "apply", "-f", c.file, "--yes", "--connect-timeout", "10s")
			if took := time.Since(began); i > 0 && took > 2*time.Minute {
				t.Errorf("it took %v to say so", took)
			}
			if r.code != 1 {
				t.Fatalf("want exit code 1: %v", r)
			}
			wantError(t, r, append([]string{worker}, f.says...)...)
			if _, message, _ := strings.Cut("\n"+r.stderr, "\nError: "); strings.Contains(message, cp+": ") {
				t.Errorf("the error is of another machine, too: %v", r)
			}
			if out, err := c.fleet.Machine(cp).Run(t.Context(), "systemctl is-active kube-apiserver kubelet"); err != nil {
				t.Errorf("%s was not managed: %s, %v; %v", cp, out, err, r)
			}
		}) {
			return
		}
	}
	t.Run("reboot in the middle", func(t *testing.T) { c.checkReboot(t, m) })
	c.apply(t)
	c.waitReady(t, c.kube(t), 30*time.Second)
	c.checkNoChange(t)
}

// checkReboot takes the power from a machine while it is changed. If apply fails, then with one error, of this machine.
func (c *hostsCluster) checkReboot(t *testing.T, m *machines.Machine) {
	t.Helper()
	cmd := c.command(t.Context(), "apply", "-f", c.file, "--yes")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, 3*time.Minute, "files arrive on "+m.Name, func(ctx context.Context) error {
		_, err := m.Run(ctx, "ls -A /opt/slipway | grep -q .")
		return err
	})
	m.PowerOff(t)
	m.PowerOn(t)
	select {
	case err := <-ended:
		if err != nil && !strings.Contains(said.String(), "Error: ") {
			t.Errorf("apply said no error: %v\n%s", err, &said)
		}
		t.Logf("apply ended with %v", err)
	case <-time.After(5 * time.Minute):
		_ = cmd.Process.Kill()
		t.Fatalf("apply still runs 5 minutes after the reboot, and ended with %v:\n%s", <-ended, &said)
	}
	c.apply(t)
	c.nothingCut(t, m.Name)
}
