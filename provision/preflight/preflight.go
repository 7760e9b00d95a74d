package preflight

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
)

// Severity of a finding.
type Severity string

// The severities. An Error refuses a host that is not part of the cluster yet.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Check is a row of the table Checks.
type Check struct {
	// Name is what --ignore takes.
	Name string
	// Severity of its findings, as a rule.
	Severity Severity
	// Title says what it checks.
	Title string
	// On is the role of the hosts that it is about; empty for all.
	On spec.Role
	// Computer means that it makes no sense on machines that share a computer (spec.Machine.SharedDisk):
	// they share its kernel, memory and disk.
	Computer bool
	// Newcomer means that it is only about hosts without anything of slipway's.
	Newcomer bool
	// Find is pure. Findings need no check, and a host only if it is another one.
	Find func(n *Node, s *Situation) []Finding
	// Remedy says in general what helps; findings have the command.
	Remedy string
	// Fix means that `slipway preflight --fix` may run the commands of its findings.
	Fix bool
}

// Finding is something that a check found on a host.
type Finding struct {
	Host     string   `json:"host"`
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	// Found is a clause.
	Found string `json:"found"`
	// Remedy is a command to run on the host as root.
	Remedy string `json:"remedy,omitempty"`
	// Fix means that slipway may run it.
	Fix bool `json:"fix,omitempty"`
}

// String is the line for people.
func (f Finding) String() string {
	line := fmt.Sprintf("%s: %s: %s: %s", f.Host, f.Severity, f.Check, f.Found)
	if f.Remedy != "" {
		line += "; run there: " + f.Remedy
	}
	return line
}

// Node is a machine with its facts.
type Node struct {
	Name       string
	Role       spec.Role
	ProxyMode  string // of kube-proxy
	Address    netip.Addr
	SharedDisk bool
	Copies     bool // the bundle is copied to it
	Facts      Facts
}

// ControlPlane reports whether the node is a control plane.
func (n *Node) ControlPlane() bool { return n.Role == spec.ControlPlane }

// Situation is what checks look at.
type Situation struct {
	Cluster *spec.Cluster
	// Nodes are those that answered.
	Nodes []Node
	// Endpoint is where clients reach the API, and Names what the API server's certificate will have.
	Endpoint string
	Names    []string
	// Ways are the results of the exchange among hosts; nil if there was none.
	Ways []Way
}

// Evaluate runs all checks but those in ignore. A finding on a host that has something of slipway's is
// no error: it runs already.
func Evaluate(s *Situation, ignore []string) []Finding {
	var all []Finding
	for _, c := range Checks {
		if slices.Contains(ignore, c.Name) {
			continue
		}
		for i := range s.Nodes {
			if n := &s.Nodes[i]; c.about(n) {
				all = append(all, c.on(n, s)...)
			}
		}
	}
	order := []Severity{Error, Warning, Info}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), slices.Index(order, a.Severity)-slices.Index(order, b.Severity))
	})
	return all
}

// about reports whether the check makes sense on a node.
func (c Check) about(n *Node) bool {
	if c.On != "" && c.On != n.Role {
		return false
	}
	return (!c.Computer || !n.SharedDisk) && (!c.Newcomer || !n.Facts.Member())
}

// on completes the check's findings on a node.
func (c Check) on(n *Node, s *Situation) []Finding {
	findings := c.Find(n, s)
	for i := range findings {
		f := &findings[i]
		f.Host, f.Check, f.Severity = n.Name, c.Name, cmp.Or(f.Severity, c.Severity)
		f.Fix = c.Fix && f.Remedy != ""
		if f.Severity == Error && n.Facts.Member() {
			f.Severity = Warning
		}
	}
	return findings
}

// Names returns the names of all checks.
func Names() []string {
	var all []string
	for _, c := range Checks {
		all = append(all, c.Name)
	}
	return all
}

// CheckNames refuses names that are no checks.
func CheckNames(names []string) error {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			meant := ""
			if c := spec.Closest(name, Names()); c != "" {
				meant = fmt.Sprintf("did you mean %s? ", c)
			}
			return fmt.Errorf("there is no check %q: %sthe checks are %s", name, meant, strings.Join(Names(), ", "))
		}
	}
	return nil
}

// Refused returns the findings that are errors, by host, as reasons not to change it.
func Refused(findings []Finding) map[string][]string {
	held := map[string][]string{}
	for _, f := range findings {
		if f.Severity == Error {
			held[f.Host] = append(held[f.Host], "preflight: "+strings.TrimPrefix(f.String(), f.Host+": error: ")+
				" (or --ignore "+f.Check+")")
		}
	}
	return held
}

// found is a finding without a remedy of its own, or with one.
func found(remedy, format string, args ...any) []Finding {
	return []Finding{{Found: fmt.Sprintf(format, args...), Remedy: remedy}}
}
