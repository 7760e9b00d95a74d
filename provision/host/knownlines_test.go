package host

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"
)

// TestLinesOfAnIndexedFile: the lines about a host are those that reading all lines finds, in their order, whatever names, patterns
// and markers the file has.
func TestLinesOfAnIndexedFile(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVzjvQHyXl2zqGNO0h3zh8mHf0DyPNjsZ8IpB5qOU8N"
	looked := []string{"a", "A", "a.example", "[a]:2222", "[A]:2222", "[a.example]:2222", "10.0.0.1", "[10.0.0.1]:2222", "::1", "[::1]:2222", "b"}
	hosts := []string{"[a]:22", "*", "a*", "[a]:*", "?", "!a", "![a]:2222", "!*.example", "[10.0.0.?]:2222", "a,b", "b,!b", "B"}
	for _, name := range looked {
		hosts = append(hosts, name, knownhosts.HashHostname(name))
	}
	markers := []string{"", "", "", "@cert-authority ", "@revoked "}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // G404: a seed that repeats
	found := 0
	for range 500 {
		var text strings.Builder
		for range 1 + random.IntN(12) {
			var names []string
			for range 1 + random.IntN(3) {
				names = append(names, hosts[random.IntN(len(hosts))])
			}
			text.WriteString(markers[random.IntN(len(markers))] + strings.Join(names, ",") + " " + key + "\n")
		}
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		indexed, err := readKnownHosts(file)
		if err != nil || len(indexed.malformed) > 0 {
			t.Fatalf("%v, malformed: %q", err, indexed.malformed)
		}
		every := &knownFile{lines: indexed.lines}
		for i := range indexed.lines {
			every.others = append(every.others, i)
		}
		for _, name := range looked {
			got, want := linesAbout([]*knownFile{indexed}, name), linesAbout([]*knownFile{every}, name)
			found += len(want.keys) + len(want.authorities)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s in\n%s: %v, want %v", name, text.String(), got, want)
			}
		}
	}
	if found < 500 {
		t.Errorf("only %d lines were about a host", found)
	}
}

// TestIndexLeavesOutOtherHosts: the lines of a thousand other hosts are not read for one.
func TestIndexLeavesOutOtherHosts(t *testing.T) {
	f := &knownFile{}
	for _, hosts := range []string{"a", "b", "c,d", "*.example", "|1|eA==|eA==", "e,!f"} {
		f.add(knownLine{hosts: strings.Split(hosts, ",")})
	}
	f.add(knownLine{marker: markRevoked, hosts: []string{"g"}})
	var got []string
	for _, l := range f.candidates("d", "d") {
		got = append(got, strings.Join(l.hosts, ","))
	}
	if text := strings.Join(got, " "); text != "c,d *.example |1|eA==|eA== e,!f g" {
		t.Errorf("for d it reads %s", text)
	}
}
