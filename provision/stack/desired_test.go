package stack_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// The golden files are the review of what lands on machines: every path, and every public configuration's text.
func TestDesiredGolden(t *testing.T) {
	in := fixture.Input(t)
	state := fixture.Desired(t, in)
	for _, name := range []string{"demo-cp-1", "demo-worker-1"} {
		var b strings.Builder
		host := state.Hosts[name]
		for _, p := range slices.Sorted(maps.Keys(host.Files)) {
			f := host.Files[p]
			_, _ = fmt.Fprintf(&b, "%s %s %s", f.Mode, f.Owner, p)
			switch {
			case f.Secret:
				b.WriteString(" (secret)\n")
			case strings.HasSuffix(p, ".crt"), strings.HasSuffix(p, ".pub"):
				b.WriteString("\n")
			case p == stack.OwnedFile, p == stack.AuthoritiesFile:
				b.WriteString("\n")
			case f.Mode.IsRegular():
				b.WriteString("\n    " + strings.ReplaceAll(strings.TrimRight(stable(string(f.Content)), "\n"), "\n", "\n    ") + "\n")
			default:
				b.WriteString(" -> " + f.Digest + "\n")
			}
		}
		fixture.Golden(t, name+".golden", b.String())
	}
}

// stable takes out what differs from PKI to PKI: inputs hash the service-account key.
func stable(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if before, _, ok := strings.Cut(line, "SLIPWAY_INPUTS="); ok {
			line = before + "SLIPWAY_INPUTS=..."
		}
		if strings.HasPrefix(line, "ExecStartPost=") {
			line = "ExecStartPost=..."
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// What is asked for is what will be compared, whatever the facts turn out to be: only a file that depends on them may
// be missing.
func TestAskedHasTheKeysOfDesired(t *testing.T) {
	in := fixture.Input(t)
	asked, err := stack.Query(in)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range fixture.Desired(t, in).Hosts {
		got := asked.Hosts[name]
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want.Files)), slices.Sorted(maps.Keys(got.Files))); diff != "" {
			t.Errorf("files of %s (-want +got):\n%s", name, diff)
		}
		if !maps.Equal(want.Sysctls, got.Sysctls) || !maps.Equal(want.Modules, got.Modules) || !maps.Equal(want.Accounts, got.Accounts) {
			t.Errorf("%s: asked about sysctls %v, modules %v, accounts %v", name, got.Sysctls, got.Modules, got.Accounts)
		}
	}
}

func TestDesiredSecretsArePrivate(t *testing.T) {
	for host, state := range fixture.Desired(t, fixture.Input(t)).Hosts {
		for p, f := range state.Files {
			private := strings.HasSuffix(p, ".key") || strings.Contains(string(f.Content), "PRIVATE KEY") || strings.Contains(string(f.Content), "client-key-data") ||
				p == stack.EncryptionFile || strings.HasSuffix(p, ".conf") && strings.HasPrefix(p, stack.KubernetesDir) || strings.HasSuffix(p, ".kubeconfig")
			if private != f.Secret || private && f.Mode != 0o600 {
				t.Errorf("%s: %s: secret=%v mode=%v, want secret=%v", host, p, f.Secret, f.Mode, private)
			}
		}
	}
}

func TestDesiredNamesWhatIsMissing(t *testing.T) {
	in := fixture.Input(t)
	delete(in.Artifacts["amd64"], "runc")
	if _, err := stack.Desired(in); err == nil || !strings.Contains(err.Error(), `no artifact "runc"`) {
		t.Errorf("error is %v", err)
	}
}

func TestANodeWithoutAMachineIsLeftOut(t *testing.T) {
	in := fixture.Input(t)
	in.Machines = in.Machines[:3]
	s := fixture.Desired(t, in)
	if _, ok := s.Hosts["demo-worker-1"]; ok || len(s.Hosts) != 3 || len(s.Nodes) != 3 {
		t.Errorf("desired are %v", slices.Sorted(maps.Keys(s.Hosts)))
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"--v=2":           "--v=2",
		"--a=b c":         `"--a=b c"`,
		"--a=100%":        "--a=100%%",
		"--a=$HOME":       "--a=$$HOME",
		`--a="x"`:         `"--a=\"x\""`,
		"--a=one\ntwo":    `"--a=one\ntwo"`,
		`--a=back\slash`:  `"--a=back\\slash"`,
		"--a=b;reboot":    `"--a=b;reboot"`,
		"--map=a=b,c=d":   "--map=a=b,c=d",
		"--controllers=*": "--controllers=*",
	} {
		if got := stack.Quote(word); got != want {
			t.Errorf("quote(%q) = %s, want %s", word, got, want)
		}
	}
}
