package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// userOf is how a user who is not root reaches a server with this sudo.
func userOf(t *testing.T, sudo *hosttest.Sudo, a *asker) host.Config {
	t.Helper()
	c := hosttest.NewSSHD(t, hosttest.Options{Env: sudo.Env()}).Config("cp-1")
	c.User, c.Shared = "ops", new(host.Shared)
	if a != nil {
		c.Secret = a.ask
	}
	return c
}

// TestConformanceThroughSudo: all that a host does, it does through a sudo that wants a password too.
func TestConformanceThroughSudo(t *testing.T) {
	hosttest.Conformance(t, func(t *testing.T) host.Host {
		return dial(t, userOf(t, hosttest.NewSudo(t, "right"), &asker{answers: []string{"right"}}))
	})
}

// TestSudoPassword: it is asked for once, only if it is needed, and appears nowhere.
func TestSudoPassword(t *testing.T) {
	const password = "correct horse battery staple"
	for name, test := range map[string]struct {
		set   []string
		asked []string
	}{
		"not wanted":             {[]string{"nopasswd"}, nil},
		"wanted":                 {nil, []string{"Password for sudo of user ops"}},
		"wanted, and remembered": {[]string{"cached"}, []string{"Password for sudo of user ops"}},
	} {
		sudo, a := hosttest.NewSudo(t, password, test.set...), &asker{answers: []string{password}}
		c := userOf(t, sudo, a)
		for range 2 {
			h := dial(t, c)
			var stdout bytes.Buffer
			r, err := h.Run(t.Context(), host.Cmd{Script: `cat; echo $VIA; echo err >&2; set; for p in $$ $PPID; do tr '\0' '\n' </proc/$p/cmdline; tr '\0' '\n' </proc/$p/environ; done`, Stdin: strings.NewReader("in"), Stdout: &stdout})
			if err != nil || !strings.HasPrefix(stdout.String(), "insudo\n") || string(r.Stderr) != "err\n" {
				t.Errorf("%s: %q, %q, %v", name, stdout.String(), r.Stderr, err)
			}
			if strings.Contains(stdout.String(), password) {
				t.Errorf("%s: the password is to be seen: %s", name, stdout.String())
			}
			if r, err := h.Run(t.Context(), host.Cmd{Script: `cat; echo err >&2`}); err != nil || len(r.Stdout) > 0 || string(r.Stderr) != "err\n" {
				t.Errorf("%s: without input: %q, %q, %v", name, r.Stdout, r.Stderr, err)
			}
			_ = h.Close()
		}
		if !slices.Equal(a.asked, test.asked) {
			t.Errorf("%s: asked %q", name, a.asked)
		}
	}
}

func TestSudoFails(t *testing.T) {
	empty := hosttest.Options{Env: []string{"PATH=" + t.TempDir()}}
	cause := errors.New("there is no terminal")
	for name, test := range map[string]struct {
		set      []string
		asker    *asker
		reason   host.SudoReason
		attempts int
		says     string
	}{
		"wrong password": {nil, &asker{answers: []string{"wrong"}}, host.SudoWrong, 1, "refuses the password"},
		"not allowed":    {[]string{"forbidden"}, &asker{answers: []string{"right"}}, host.SudoForbidden, 1, "not in the sudoers file"},
		"terminal":       {[]string{"requiretty"}, &asker{answers: []string{"right"}}, host.SudoTerminal, 0, "requiretty"},
		"nobody to ask":  {nil, nil, host.SudoNoAnswer, 0, "nobody to ask"},
		"no answer":      {nil, &asker{err: cause}, host.SudoNoAnswer, 0, cause.Error()},
		"no sudo":        {nil, nil, host.SudoMissing, 0, "not installed"},
	} {
		t.Run(name, func(t *testing.T) {
			sudo := hosttest.NewSudo(t, "right", test.set...)
			c := userOf(t, sudo, test.asker)
			if name == "no sudo" {
				c.Address, c.HostKeys, c.Identities = elsewhere(hosttest.NewSSHD(t, empty))
			}
			h := dial(t, c)
			defer func() { _ = h.Close() }()
			for _, do := range []func() error{
				func() error { return h.Become(t.Context()) },
				func() error { _, err := h.Run(t.Context(), host.Cmd{Script: "echo ran"}); return err },
				func() error { _, err := h.Read(t.Context(), "/etc/hostname"); return err },
			} {
				err := do()
				var refused *host.SudoError
				if !errors.As(err, &refused) || refused.Reason != test.reason {
					t.Fatalf("got %v", err)
				}
				names(t, err, `"ops"`, test.says)
				for _, password := range []string{"right\n", "wrong"} {
					if strings.Contains(fmt.Sprintf("%v %+v", err, refused), password) {
						t.Errorf("the password is printed: %+v", refused)
					}
				}
			}
			if got := sudo.Attempts(); len(got) != test.attempts {
				t.Errorf("attempts: %q", got)
			}
		})
	}
}

func elsewhere(s *hosttest.SSHD) (address string, keys []string, identities []host.Identity) {
	c := s.Config("")
	return c.Address, c.HostKeys, c.Identities
}

// TestWrongSudoPasswordOnce: of many hosts, one counts a wrong password.
func TestWrongSudoPasswordOnce(t *testing.T) {
	a, shared := &asker{answers: []string{"wrong"}}, new(host.Shared)
	var sudos []*hosttest.Sudo
	var ends sync.WaitGroup
	reasons := make(chan host.SudoReason, 5)
	for range cap(reasons) {
		sudo := hosttest.NewSudo(t, "right")
		sudos = append(sudos, sudo)
		c := userOf(t, sudo, a)
		c.Shared = shared
		h := dial(t, c)
		defer func() { _ = h.Close() }()
		ends.Go(func() {
			var refused *host.SudoError
			if err := h.Become(t.Context()); errors.As(err, &refused) {
				reasons <- refused.Reason
			}
		})
	}
	ends.Wait()
	close(reasons)
	count := map[host.SudoReason]int{}
	for r := range reasons {
		count[r]++
	}
	attempts := 0
	for _, s := range sudos {
		attempts += len(s.Attempts())
	}
	if count[host.SudoWrong] != 1 || count[host.SudoUntried] != 4 || attempts != 1 || len(a.asked) != 1 {
		t.Errorf("%v, %d attempts, asked %q", count, attempts, a.asked)
	}
}

// TestSudoPasswordChanges while a run works: the script's input never reaches sudo as another password.
func TestSudoPasswordChanges(t *testing.T) {
	sudo := hosttest.NewSudo(t, "right")
	h := dial(t, userOf(t, sudo, &asker{answers: []string{"right"}}))
	defer func() { _ = h.Close() }()
	if _, err := h.Run(t.Context(), host.Cmd{Script: ":"}); err != nil {
		t.Fatal(err)
	}
	sudo.Password("other")
	before := len(sudo.Attempts())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := h.Run(ctx, host.Cmd{Script: "cat", Stdin: strings.NewReader("secret input\n")})
	var refused *host.SudoError
	if !errors.As(err, &refused) || refused.Reason != host.SudoWrong {
		t.Fatalf("got %v", err)
	}
	if _, err := h.Run(ctx, host.Cmd{Script: ":"}); !errors.As(err, &refused) || refused.Reason != host.SudoWrong {
		t.Errorf("the next script: %v", err)
	}
	if got := sudo.Attempts()[before:]; !slices.Equal(got, []string{"right"}) { // a second wrong one may lock the account
		t.Errorf("sudo was given %q", got)
	}
}

// TestSudoThatHangs ends with the host's time, and holds no other host.
func TestSudoThatHangs(t *testing.T) {
	shared := new(host.Shared)
	enter := func(set ...string) error {
		c := userOf(t, hosttest.NewSudo(t, "right", set...), &asker{answers: []string{"right"}})
		c.Shared, c.ConnectTimeout = shared, 2*time.Second
		h := dial(t, c)
		defer func() { _ = h.Close() }()
		return h.Become(t.Context())
	}
	err := enter("hangs")
	if err == nil {
		t.Fatal("it is root")
	}
	names(t, err, "cp-1", "sudo has not answered within 2s")
	if err := enter(); err != nil {
		t.Errorf("another host: %v", err)
	}
}
