package hosttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sudoScript does what sudo and its policy do, as far as stdin, stderr and exit status show it.
const sudoScript = `#!/bin/sh
d=DIR n= k=
while :; do
	case $1 in -n) n=1 ;; -k) k=1 ;; -S) ;; *) break ;; esac
	shift
done
has() { [ -e "$d/$1" ]; }
if has requiretty; then echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1; fi
VIA=sudo; export VIA
if has hangs; then exec sleep 600; fi
if has nopasswd; then exec "$@"; fi
if has cached && [ -z "$k" ]; then exec "$@"; fi
if [ "$n" ]; then echo 'sudo: a password is required' >&2; exit 1; fi
read -r right <"$d/password"
tries=0
while [ $tries -lt 3 ]; do
	printf '[sudo] password for ops: ' >&2
	IFS= read -r given || { echo >&2; echo 'sudo: no password was provided' >&2; break; }
	echo "$given" >>"$d/attempts"
	if [ "$given" = "$right" ]; then
		if has forbidden; then echo 'ops is not in the sudoers file.' >&2; exit 1; fi
		unset given right
		exec "$@"
	fi
	tries=$((tries + 1))
	[ $tries -ge 3 ] || echo 'Sorry, try again.' >&2
done
echo "sudo: $tries incorrect password attempt" >&2
exit 1
`

// Sudo is a program that behaves like sudo, with a policy that tests change. Put it first in the PATH of an SSHD
// (Options.Env); commands run through it have VIA=sudo in their environment.
type Sudo struct {
	t   testing.TB
	dir string
}

// NewSudo has a password, and whatever of "nopasswd", "cached" (which sudo -k ignores), "forbidden", "requiretty" and
// "hangs" is set.
func NewSudo(t testing.TB, password string, set ...string) *Sudo {
	t.Helper()
	s := &Sudo{t, t.TempDir()}
	s.write("sudo", strings.ReplaceAll(sudoScript, "DIR", s.dir), 0o700)
	s.Password(password)
	for _, name := range set {
		s.Set(name)
	}
	return s
}

func (s *Sudo) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

// Env has it in the PATH.
func (s *Sudo) Env() []string { return []string{"PATH=" + s.dir + ":" + os.Getenv("PATH")} }

// Password changes the password.
func (s *Sudo) Password(password string) { s.write("password", password+"\n", 0o600) }

// Set sets a part of the policy.
func (s *Sudo) Set(name string) { s.write(name, "", 0o600) }

// Attempts are the passwords that it was given, oldest first.
func (s *Sudo) Attempts() []string {
	text, err := os.ReadFile(filepath.Join(s.dir, "attempts"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
