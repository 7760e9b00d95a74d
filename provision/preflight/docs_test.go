package preflight

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// TestDocs compares the tables in docs with those of the package; -update writes them.
func TestDocs(t *testing.T) {
	var checks strings.Builder
	checks.WriteString("| check | what it checks | finding | what helps | where |\n|---|---|---|---|---|\n")
	for _, c := range Checks {
		where := []string{"every machine"}
		if c.On != "" {
			where = []string{"control planes"}
		}
		if c.Newcomer {
			where = append(where, "new ones")
		}
		if c.Computer {
			where = append(where, "not local ones")
		}
		remedy := c.Remedy
		if c.Fix {
			remedy += " (`--fix`)"
		}
		fmt.Fprintf(&checks, "| `%s` | %s | %s | %s | %s |\n", c.Name, c.Title, c.Severity, remedy, strings.Join(where, ", "))
	}
	compareDocs(t, "../../docs/preflight.md", checks.String())
	var ports strings.Builder
	ports.WriteString("| port | from | to | for | |\n|---|---|---|---|---|\n")
	for _, p := range Ports {
		when := p.When
		if p.Optional && when == "" {
			when = "if you want it"
		}
		fmt.Fprintf(&ports, "| %s/%s | %s | %s | %s | %s |\n", p.Number(), p.Protocol, p.From, p.To, p.For, when)
	}
	compareDocs(t, "../../docs/ports.md", ports.String())
}

// compareDocs compares the table that begins with the same header.
func compareDocs(t *testing.T, file, table string) {
	t.Helper()
	data, err := os.ReadFile(file) //nolint:gosec // a file of this repository
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	header, _, _ := strings.Cut(table, "\n")
	begin := strings.Index(text, header+"\n")
	if begin < 0 {
		t.Fatalf("%s has no table with the header\n%s", file, header)
	}
	end := begin + strings.Index(text[begin:]+"\n\n", "\n\n") + 1
	if text[begin:min(end, len(text))] == table {
		return
	}
	if !fixture.Update() {
		t.Errorf("%s differs from the table in Go; run with -update. It should be:\n%s", file, table)
		return
	}
	text = text[:begin] + table + text[min(end, len(text)):]
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // docs are for everybody
		t.Fatal(err)
	}
}

// TestPortsOfTheStack: every endpoint of the stack that others can reach is in Ports, or is known to
// need no other machine.
func TestPortsOfTheStack(t *testing.T) {
	alone := []int{stack.EtcdClientPort} // API servers and slipway use the member on their own machine
	for _, e := range stack.Endpoints() {
		if e.Loopback || slices.Contains(alone, e.Port) {
			if !slices.ContainsFunc(localPorts, func(l struct {
				port         int
				controlPlane bool
				what         string
			},
			) bool {
				return l.port == e.Port && l.controlPlane == e.ControlPlane
			}) {
				t.Errorf("port %d of %s is in no table", e.Port, e.Unit)
			}
			continue
		}
		if !slices.ContainsFunc(Ports, func(p Port) bool {
			return !p.Optional && p.First == e.Port && p.Protocol == TCP && (p.To == ControlPlanes) == e.ControlPlane
		}) {
			t.Errorf("port %d of %s, which others reach, is not in Ports", e.Port, e.Unit)
		}
	}
}
