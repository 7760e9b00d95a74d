package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway.dev/slipway/testing/machines"
)

// TestLongHostsEntry has a machine that a program lists by a name of the ssh_config, which alone says where it is, as whom and
// with which keys it is entered, and through which bastion. One key has a passphrase, sudo wants a password, both are typed on
// a terminal, and host keys are trusted on first use.
func TestLongHostsEntry(t *testing.T) {
	long(t)
	parallel(t, 2*time.Minute)
	c := newHostsCluster(t, machines.Layout{
		Name: "e2e-hostsentry", Subnet: "10.89.16.0/22", Bastions: 1, Machines: []machines.Spec{{Name: "e2e-hostsentry-cp-1", System: machines.Debian12}},
	}, clusterSpec{controlPlanes: 1})
	dir := filepath.Dir(c.file)
	c.env = nil // neither an agent nor a file with the password
	c.listed(t, dir)
	m := c.fleet.Machine(c.nodes()[0])

	t.Run("without a terminal nothing is typed", func(t *testing.T) {
		c.applyFails(t, "passphrase", "ssh-add")
		c.bare(t, m.Name)
	})
	typed := map[string]string{"Passphrase of the SSH key": passphrase, "assword": c.fleet.Password}
	if !t.Run("typed", func(t *testing.T) {
		out := c.onTerminal(t, typed, "apply", "-f", c.file, "--yes")
		for _, secret := range typed {
			if strings.Contains(out, secret) {
				t.Errorf("the terminal shows what was typed:\n%s", out)
			}
		}
		for question := range typed {
			if n := strings.Count(out, question); n != 1 {
				t.Errorf("%q was asked %d times:\n%s", question, n, out)
			}
		}
	}) {
		t.FailNow()
	}
	c.env = []string{"SSH_AUTH_SOCK=" + machines.Agent(t, c.fleet.Keys...), "SLIPWAY_SUDO_PASSWORD_FILE=" + filepath.Join(dir, "password")}
	t.Run("recorded", func(t *testing.T) {
		if err := os.Rename(filepath.Join(dir, "agent_config"), filepath.Join(dir, "ssh_config")); err != nil {
			t.Fatal(err)
		}
		c.checkNoChange(t)
		c.noPassword(t, m)
	})
	t.Run("another host key", func(t *testing.T) {
		m.ChangeHostKey(t)
		r := c.applyFails(t, "trusted on first use", "state forget-host-key")
		forget := regexp.MustCompile("slipway (state forget-host-key [^`]*)`").FindStringSubmatch(r.stderr)
		if forget == nil {
			t.Fatalf("no command is printed that forgets the key: %v", r)
		}
		c.ok(t, append(strings.Fields(forget[1]), "-f", c.file, "--yes")...)
		c.checkNoChange(t)
	})
}

const passphrase = "correct horse battery staple"

// listed writes a spec that names a program, the program, and what it and the spec refer to: two ssh_configs, of which the
// second has the keys of an agent.
func (c *hostsCluster) listed(t *testing.T, dir string) {
	t.Helper()
	m, b := c.fleet.Machine(c.nodes()[0]), c.fleet.Bastions[0]
	files := map[string]string{
		"jump": string(c.fleet.Keys[0].PEM(t)), "admin": string(c.fleet.Keys[1].Encrypted(t, passphrase)),
		"machines.sh": fmt.Sprintf("#!/bin/sh\necho '[{\"address\": \"'$1'\", \"privateAddress\": \"%s\"}]'\n", m.Private), "known_hosts": "",
		filepath.Base(c.file): fmt.Sprintf(`apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: %s}
spec:
  kubernetes: {version: %s, kubelet: {configPatch: %s}}
  allowCgroupV1: true
  provider: {hosts: {sshConfig: ssh_config, ssh: {trustOnFirstUse: true}}}
  nodePools:
  - {name: cp, role: control-plane, hostsFrom: {command: [./machines.sh, first]}}
`, c.name, kubernetesVersion, evictsNever),
	}
	hosts := fmt.Sprintf("Host first\n  HostName %s\n  Port %d\n  User %s\n  ProxyJump gate\nHost gate\n  HostName %s\n  Port %d\n  User %s\n",
		m.Address, m.Port, c.fleet.User, b.Address, b.Port, c.fleet.JumpUser)
	always := "Host *\n  GlobalKnownHostsFile /dev/null\n  UserKnownHostsFile " + filepath.Join(dir, "known_hosts") + "\n"
	files["ssh_config"] = fmt.Sprintf("Host first\n  IdentityFile %[1]s/admin\nHost gate\n  IdentityFile %[1]s/jump\n", dir) + hosts + always + "  IdentityAgent none\n"
	files["agent_config"] = hosts + always
	for name, content := range files {
		mode := os.FileMode(0o600)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o700
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// onTerminal runs slipway on a terminal, where each question gets its answer; it must succeed. It returns what the terminal showed.
func (c *cluster) onTerminal(t *testing.T, answers map[string]string, args ...string) string {
	t.Helper()
	slipway := c.command(t.Context(), args...)
	line := ""
	for _, word := range slipway.Args {
		line += " '" + word + "'"
	}
	cmd := exec.CommandContext(t.Context(), "script", "--quiet", "--return", "--command", line, os.DevNull)
	cmd.Env = slipway.Env
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen := &screen{keys: stdin, answers: answers, answered: map[string]bool{}}
	cmd.Stdout = screen
	err = cmd.Run()
	screen.mu.Lock()
	defer screen.mu.Unlock()
	if err != nil {
		t.Fatalf("slipway %s on a terminal: %v\n%s", strings.Join(args, " "), err, &screen.text)
	}
	return screen.text.String()
}

// screen is what a terminal shows. It types the answer to each question once.
type screen struct {
	mu       sync.Mutex
	text     bytes.Buffer
	keys     io.Writer
	answers  map[string]string
	answered map[string]bool
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	for question, answer := range s.answers {
		if !s.answered[question] && strings.Contains(s.text.String(), question) {
			s.answered[question] = true
			if _, err := io.WriteString(s.keys, answer+"\n"); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}
