package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// another is a build of slipway with other bytes, which does the same.
func another(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(t.TempDir(), "slipway")
	if err := os.WriteFile(at, append(text, '\n'), 0o755); err != nil {
		t.Fatal(err)
	}
	return at
}

// checkVersions changes to another build of slipway. The old one stays on the nodes, until the spec keeps
// none: then the plan lists it, and what something still runs from stays even so.
func (c *cluster) checkVersions(t *testing.T) {
	const look = `ls -d /opt/slipway/slipway/*`
	before := strings.TrimSpace(c.sshOK(t, c.nodes()[0], look))
	c.other = another(t)
	defer func() { c.other = "" }()
	c.apply(t)
	c.checkNothingPlanned(t)
	for _, node := range c.nodes() {
		if out := c.sshOK(t, node, look); strings.Count(out, "\n") != 2 || !strings.Contains(out, before+"\n") {
			t.Errorf("%s has %q", node, out)
		}
	}
	user := c.nodes()[len(c.nodes())-1]
	c.sshOK(t, user, "printf '[Service]\\nExecStart=%s version\\n' "+before+"/bin/slipway >/run/systemd/system/others.service")
	spec := c.spec
	spec.extra += "  bundle: {keepVersions: 0}\n"
	c.write(t, spec)
	p := c.plan(t)
	if len(p.Changes) != len(c.nodes())-1 || len(p.Steps) != len(p.Changes) {
		t.Errorf("planned is %+v", p)
	}
	for _, change := range p.Changes {
		if change.Kind != "version" || change.Action != "delete" || change.Name != before || change.Host == user {
			t.Errorf("planned is %+v", change)
		}
	}
	c.apply(t)
	c.checkNothingPlanned(t)
	for _, node := range c.nodes() {
		if out := c.sshOK(t, node, look); strings.Contains(out, before+"\n") != (node == user) {
			t.Errorf("%s has %q", node, out)
		}
	}
	c.sshOK(t, user, "rm /run/systemd/system/others.service")
	if text := c.ok(t, "plan", "-f", c.file).stdout; !strings.Contains(text, "- version") || !strings.Contains(text, "1 to delete, in 1 step, ") {
		t.Errorf("the plan is\n%s", text)
	}
	c.apply(t)
	if out := c.sshOK(t, user, look+"; find /opt/slipway -type d -empty"); strings.Count(out, "\n") != 1 {
		t.Errorf("%s has %q", user, out)
	}
	c.checkNothingPlanned(t)
	// Back to the first build: what it replaces is removed by the same run.
	c.other = ""
	c.apply(t)
	for _, node := range c.nodes() {
		if out := c.sshOK(t, node, look); strings.TrimSpace(out) != before {
			t.Errorf("%s has %q", node, out)
		}
		c.checkUnits(t, node)
	}
}
