package preflight

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFactsOfCutReports: whatever of a report is missing, it is refused, and nothing panics.
func TestFactsOfCutReports(t *testing.T) {
	whole := report + ""
	for n := range len(whole) - len("[end]\n") {
		if _, err := ParseFacts(whole[:n]); err == nil {
			t.Fatalf("a report that was cut after %d of %d bytes was accepted", n, len(whole))
		}
	}
}

func TestParseFacts(t *testing.T) {
	f, err := ParseFacts(report)
	if err != nil {
		t.Fatal(err)
	}
	if f.OS.ID != "debian" || f.Kernel != "6.1.0-30-amd64" || f.Nft != "1.0.6" || f.Systemd != 252 || !f.Bash || len(f.Syncs) != 6 || f.Syncs[1] != 2*time.Millisecond ||
		f.Links["eth0"].MTU != 1500 || f.Disks["/opt"].Free != 20000000000 || f.Clock.UnixNano() != 1795805193787384933 || len(f.Controllers) != 5 {
		t.Errorf("the report was read as %+v", f)
	}
	f, err = ParseFacts("listens=tcp6 00000000000000000000000000000000 280A 812 kubelet.service kubelet\nlistens=udp 00000000 2118 - -\n" +
		"process=7 dockerd docker.service\nchain=nft kube-proxy\n[end]\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Listeners) != 2 || f.Listeners[0] != (Listener{TCP, 10250, "812", "kubelet.service", "kubelet"}) || f.Listeners[1] != (Listener{Protocol: UDP, Port: 8472}) {
		t.Errorf("listeners were read as %+v", f.Listeners)
	}
	if len(f.Processes) != 1 || f.Processes[0] != (Process{"7", "dockerd", "docker.service"}) || len(f.Chains) != 1 {
		t.Errorf("processes were read as %+v, chains as %+v", f.Processes, f.Chains)
	}
}

// TestReportsWithoutEnd: what a host prints without end is neither kept, nor compared for ever.
func TestReportsWithoutEnd(t *testing.T) {
	line := []byte(strings.Repeat("x", 1<<20) + "\n")
	short := []byte(strings.Repeat("x\n", 1000))
	for name, w := range map[string]struct {
		to   io.Writer
		says []byte
	}{
		"report": {&timed{}, line}, "exchange": {&call{heard: make(chan struct{}, 1)}, line}, "lines of the exchange": {&call{heard: make(chan struct{}, 1)}, short},
	} {
		var err error
		for n := 0; n < 100 && err == nil; n++ {
			_, err = w.to.Write(w.says)
		}
		if err == nil {
			t.Errorf("%s: all is kept", name)
		}
	}
	var f Facts
	for n := range mostValues + 10 {
		f.list("failed", strconv.Itoa(n))
		f.listener(func(i int) string { return []string{"tcp", "0", "17", strconv.Itoa(n)}[min(i, 3)] })
	}
	if len(f.FailedUnits) > mostValues || len(f.Listeners) > mostValues {
		t.Errorf("%d units and %d listeners are kept", len(f.FailedUnits), len(f.Listeners))
	}
}

func FuzzParseFacts(f *testing.F) {
	f.Add(report)
	f.Add("disk=/a b c d e f g\nlink=\nsync=NaN\nlistens=tcp x y\nnow=-1\n[end]\n")
	f.Fuzz(func(t *testing.T, text string) {
		facts, err := ParseFacts(text)
		if err != nil {
			return
		}
		if !strings.Contains(text, "[end]") {
			t.Errorf("a report without an end was accepted")
		}
		s := healthy(t)
		s.Nodes[1].Facts = facts
		for _, finding := range Evaluate(s, nil) {
			if strings.Contains(finding.String(), "\n") {
				t.Errorf("a finding has more than one line: %q", finding)
			}
		}
	})
}
