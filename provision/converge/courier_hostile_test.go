package converge

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"slipway.dev/slipway/provision/host"
)

// TestPeerThatSaysACommandInsteadOfAPort: what a machine says becomes no part of what others run.
func TestPeerThatSaysACommandInsteadOfAPort(t *testing.T) {
	f := newFleet(t, 3)
	taken := filepath.Join(t.TempDir(), "taken")
	f.before("# serve", func(_ *rooted, _ string, cmd *host.Cmd) {
		cmd.Script = "echo 'listening 22 x || touch " + taken + " || ssh -p 22'\nwhile read -r line; do echo \"serving $line\"; done\n"
	})
	defer func() {
		if _, err := os.Stat(taken); err == nil {
			t.Error("a machine had another run a command")
		}
	}()
	f.deliver(t)
}

// TestMessagesOfPeers: only the first port of a machine counts, and only if it is one.
func TestMessagesOfPeers(t *testing.T) {
	for said, port := range map[string]string{
		"listening 7946\nlistening 22\n": "7946", "listening 0\n": "", "listening 65536\n": "", "listening -1\n": "", "listening\n": "",
		"listening 22;reboot\n": "", "listening $(reboot)\n": "",
	} {
		p := &parcel{courier: newCourier(&Runner{}, 2), name: "a", peer: &peer{say: make(chan string), over: make(chan struct{})}}
		close(p.peer.over)
		if _, err := (&lines{line: p.heard}).Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		if p.peer.port != port {
			t.Errorf("%q: the port is %q, want %q", said, p.peer.port, port)
		}
	}
}

// TestLineWithoutEnd ends the script that prints it, and costs no memory.
func TestLineWithoutEnd(t *testing.T) {
	n := 0
	l := &lines{line: func(string) { n++ }}
	if _, err := l.Write([]byte("at 1\nat")); err != nil || n != 1 {
		t.Errorf("%d lines: %v", n, err)
	}
	if _, err := l.Write(append(bytes.Repeat([]byte("x"), longestLine), '\n')); err == nil || len(l.part) > longestLine {
		t.Errorf("it is kept: %d bytes, %v", len(l.part), err)
	}
}
