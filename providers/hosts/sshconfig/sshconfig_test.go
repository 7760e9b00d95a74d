package sshconfig

import (
	"cmp"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const config = `
# a comment
Host bastion
	HostName 192.0.2.1
	User jump
	Port=2222

Host "quoted name" web* !web-old
  IdentityFile "~/.ssh/web key"
  IdentityFile ~/.ssh/%r_at_%h # the rest is a comment
  ProxyJump bastion,second:2022
Include extra/*.conf
Match host *.internal.example user admin
  HostKeyAlias by-match
Host *.short
  HostName %h.internal.example
  User admin
Match originalhost a.short
  Port 2022
Match final host *.internal.example
  UserKnownHostsFile ~/.ssh/final /etc/final
Match !host web*,db*
  IdentitiesOnly yes
Host direct
  ProxyJump none
Host command
  ProxyCommand nc -x "proxy" %h %p
  ProxyJump bastion
Host agent
  IdentityAgent ${SLIPWAY_TEST_AGENT}
Host *
  User everyone
  ProxyJump last
  IdentityFile ~/.ssh/id_%u
Match all
  Port 22022
`

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLikeOpenSSH compares every host with what ssh -G prints of it.
func TestLikeOpenSSH(t *testing.T) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("ssh is not installed")
	}
	t.Setenv("SLIPWAY_TEST_AGENT", "/run/test agent")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{"config": "", "extra/1.conf": "Host included\n  User inc\nMatch user nobody\n User never\n", "extra/2.conf": "Port 4444\n"})
	path := filepath.Join(dir, "config")
	// ssh takes relative paths of a file given with -F as below ~/.ssh.
	text := strings.Replace(config, "Include extra", "Include "+dir+"/extra", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	files := Files{User: path, Home: me.HomeDir, LocalUser: me.Username}
	for _, host := range []string{
		"bastion", "quoted name", "web1", "web-old", "a.short", "b.short", "direct", "command", "agent", "included", "x.internal.example", "db1", "192.0.2.7",
	} {
		for _, as := range []string{"", "admin"} {
			arguments := []string{"-G", "-F", path}
			if as != "" {
				arguments = append(arguments, "-l", as)
			}
			out, err := exec.Command(program, append(arguments, "--", host)...).CombinedOutput() //nolint:gosec // the test's own arguments
			if err != nil {
				if strings.Contains(host, " ") {
					continue // ssh refuses the name, not the pattern
				}
				t.Fatalf("ssh -G %s: %v\n%s", host, err, out)
			}
			got, err := files.Lookup(host, as)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, host+" as "+as, got, as, me, printed(string(out)))
		}
	}
}

func printed(out string) map[string][]string {
	values := map[string][]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		values[key] = append(values[key], value)
	}
	return values
}

func compare(t *testing.T, what string, got Options, as string, me *user.User, want map[string][]string) {
	t.Helper()
	check := func(key, got, def string) {
		if got = cmp.Or(got, def); got != strings.Join(want[key], " ") {
			t.Errorf("%s: %s is %q, ssh says %q", what, key, got, want[key])
		}
	}
	check("hostname", got.HostName, "")
	check("user", cmp.Or(as, got.User), me.Username)
	check("port", got.Port, "22")
	check("proxyjump", got.ProxyJump, "")
	check("identitiesonly", got.IdentitiesOnly, "no")
	check("hostkeyalias", got.HostKeyAlias, "")
	check("identityagent", got.IdentityAgent, "")
	if command := strings.Join(want["proxycommand"], ""); (command != "") != (got.ProxyCommand != "") {
		t.Errorf("%s: ProxyCommand is %q, ssh says %q", what, got.ProxyCommand, command)
	}
	if len(got.UserKnownHostsFiles) > 0 {
		check("userknownhostsfile", strings.Join(got.UserKnownHostsFiles, " "), "")
	}
	tokens := strings.NewReplacer("~", me.HomeDir, "%r", cmp.Or(as, got.User, me.Username), "%h", got.HostName, "%u", me.Username)
	files := slices.Clone(want["identityfile"]) // ssh -G prints them as they are written
	for i := range files {
		files[i] = tokens.Replace(files[i])
	}
	if len(got.IdentityFiles) > 0 && !slices.Equal(got.IdentityFiles, files) {
		t.Errorf("%s: identity files %q, ssh says %q", what, got.IdentityFiles, files)
	}
}

// TestWithoutCommands: a block that needs a command is left out and named, one that cannot be read is an error with its place.
func TestWithoutCommands(t *testing.T) {
	dir := write(t, map[string]string{
		"exec": "Host x\n  Port 1\nMatch host a exec \"touch /never\"\n  Port 2\n", "unknown": "\nMatch colour blue\n", "quote": "Host a\n  User \"b\n",
		"loop": "Include loop\n",
	})
	got, err := Files{User: filepath.Join(dir, "exec"), Home: dir}.Lookup("a", "")
	if want := []string{filepath.Join(dir, "exec") + ":3: the block of Match exec is left out"}; err != nil || !reflect.DeepEqual(got.Notes, want) || got.Port != "" {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, want := range map[string]string{"unknown": ":2: criterion \"colour\" of Match is unknown", "quote": ":2: a quote has no end", "loop": "nested more than"} {
		if err := os.MkdirAll(filepath.Join(dir, ".ssh"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ".ssh", "loop"), []byte("Include loop\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (Files{User: filepath.Join(dir, name), Home: dir}).Lookup("a", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got, err := (Files{User: filepath.Join(dir, "absent"), System: filepath.Join(dir, "absent")}).Lookup("a", ""); err != nil || got.HostName != "a" {
		t.Errorf("without files: %+v, %v", got, err)
	}
}

func FuzzLookup(f *testing.F) {
	f.Add(config, "web1")
	f.Add("Match host=a\nUser b", "a")
	f.Fuzz(func(t *testing.T, text, host string) {
		if strings.Contains(strings.ToLower(text), "include") {
			t.Skip() // it may name any file
		}
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = Files{User: path, Home: "/nowhere"}.Lookup(host, "") // must not panic
	})
}
