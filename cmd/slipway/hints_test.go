package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/host"
)

// TestHintsOfSSH: each way in which a machine is not entered has its own remedy.
func TestHintsOfSSH(t *testing.T) {
	refused := func(source string, want ...string) error {
		return &host.HostKeyError{Host: "cp-1", Address: "192.0.2.1:22", Got: "ssh-ed25519 SHA256:a", Want: want, Source: source}
	}
	for name, test := range map[string]struct {
		err  error
		says string
	}{
		"pinned":  {refused(host.SourcePinned, "ssh-ed25519 SHA256:b"), "destroyed and created again"},
		"trusted": {refused(host.SourceTrusted, "ssh-ed25519 SHA256:b"), "`slipway state forget-host-key 192.0.2.1:22`"},
		"changed": {refused("known_hosts:3", "ssh-ed25519 SHA256:b"), "remove the line of known_hosts"},
		"revoked": {&host.HostKeyError{Host: "cp-1", Source: "known_hosts:3", Revoked: true}, "remove the line of known_hosts"},
		"unknown": {refused("known_hosts"), "have it added to your known_hosts"},
		"agent":   {&host.AgentError{Host: "cp-1"}, "SSH_AUTH_SOCK"},
		"key":     {&host.AuthError{Host: "cp-1", Err: errors.New("no")}, "authorized_keys"},
		"keys":    {&host.AuthError{Host: "cp-1", TooMany: true, Err: errors.New("no")}, "identityFiles: [FILE]"},
		"sudo":    {&host.SudoError{Host: "cp-1", Reason: host.SudoForbidden}, "/etc/sudoers.d"},
		"tty":     {&host.SudoError{Host: "cp-1", Reason: host.SudoTerminal}, "!requiretty"},
		"unasked": {&host.SudoError{Host: "cp-1", Reason: host.SudoNoAnswer}, "SLIPWAY_SUDO_PASSWORD_FILE"},
		"wrong":   {&host.SudoError{Host: "cp-1", Reason: host.SudoWrong}, "right password"},
		"bastion": {&host.JumpError{To: "a:22", Err: &ssh.OpenChannelError{Reason: ssh.Prohibited}}, "AllowTcpForwarding"},
		"locked":  {&host.PassphraseError{Host: "cp-1", File: "id"}, "ssh-add FILE"},
		"full":    {&host.WriteError{Host: "cp-1", Err: &host.ExitError{Stderr: "x: No space left on device"}}, "`slipway ssh NODE -- df -h`"},
		"here":    {&fs.PathError{Op: "write", Path: "/srv/mirror/x", Err: syscall.ENOSPC}, "on this computer (`df -h`)"},
		"expired": {&host.HostKeyError{Host: "cp-1", Certificate: errors.New("expired")}, "ssh-keygen -s CA -h"},
	} {
		if all := hints(fmt.Errorf("connect: %w", test.err), "slipway apply"); len(all) != 1 || !strings.Contains(all[0], test.says) {
			t.Errorf("%s: %q", name, all)
		}
	}
}

// TestHintOfAStalePlan: who applies a plan that no longer fits is told to make another.
func TestHintOfAStalePlan(t *testing.T) {
	err := &provision.MovedError{Moved: []string{"balancer demo-balancer: the plan has create, today it would be nothing"}}
	if all := hints(err, "slipway apply"); len(all) != 1 || !strings.Contains(all[0], "slipway plan -o") {
		t.Errorf("hints are %q", all)
	}
}

// TestWayIn: what is in the environment gets to where machines are entered.
func TestWayIn(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "/run/agent")
	t.Setenv("HOME", "/home/alice")
	in := new(app).wayIn(0)
	if in.Agent != "/run/agent" || len(in.KnownHosts) != 2 || in.KnownHosts[0] != "/home/alice/.ssh/known_hosts" {
		t.Errorf("got %+v", in)
	}
}
