package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/journal"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/plan"
)

// hostile is what a host says that wants the operator's terminal.
const hostile = "\x1b]0;x\x07\x1b[31mred\u202e\u009b2J\x7f"

// harmless is how it is printed.
const harmless = `\x1b]0;x\x07\x1b[31mred\u202e\u009b2J\u007f`

// wantHarmless wants the text of hostile in what was printed, and nothing of it that steers.
func wantHarmless(t *testing.T, printed string) {
	t.Helper()
	if strings.ContainsAny(printed, "\a\u202e\u009b\x7f") || strings.Contains(printed, "\x1b]") || strings.Contains(printed, "\x1b[31mred") ||
		!strings.Contains(printed, harmless) {
		t.Errorf("printed %q", printed)
	}
}

func TestEscapingWriter(t *testing.T) {
	var out bytes.Buffer
	w := newEscapingWriter(&out)
	for _, b := range []byte("a\tü ✓\n" + hostile + "\xff\r") { // runes come in pieces
		if n, err := w.Write([]byte{b}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "a\tü ✓\n" + harmless + `\xff\x0d`; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
	if unescaped(w) != io.Writer(&out) || unescaped(&out) != io.Writer(&out) {
		t.Error("unescaped gives something else")
	}
	out.Reset()
	var back string
	if err := errors.Join(json.NewEncoder(w).Encode(hostile), json.Unmarshal(out.Bytes(), &back)); err != nil || back != hostile {
		t.Errorf("JSON became %q, %v", back, err)
	}
	if strings.ContainsAny(out.String(), "\x1b\a\u202e\u009b\x7f") {
		t.Errorf("the JSON is %q", &out)
	}
}

func TestViewsAreHarmless(t *testing.T) {
	for name, show := range map[string]func(io.Writer) error{
		"plan": func(w io.Writer) error {
			v := planView{out: w, plan: &plan.Plan{Cluster: "demo", APIError: hostile, Steps: []plan.Step{{Name: hostile}}, Changes: []plan.Change{{
				Host: "demo-cp-1", Kind: plan.FileChange, Name: "/etc/" + hostile, Action: plan.Update, Cause: plan.Drift, Reason: hostile,
			}}}, all: true, steps: true}
			v.print()
			return v.err
		},
		"status": func(w io.Writer) error {
			return printStatus(w, &observe.Status{Cluster: "demo", API: hostile, Reasons: []observe.Reason{{Text: hostile}}, Machines: []observe.MachineStatus{{
				Name: "demo-cp-1", State: "running", Units: map[string]string{"etcd.service": hostile},
				Node: &observe.NodeStatus{Reason: hostile, Taints: []string{hostile}},
			}}}, time.Now(), "")
		},
		"runs":  func(w io.Writer) error { return printRuns(w, []runSummary{{Command: "apply", Operator: hostile}}) },
		"error": func(w io.Writer) error { exitCode(t.Context(), errors.New(hostile), "apply", w); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := show(newEscapingWriter(&out)); err != nil {
				t.Fatal(err)
			}
			wantHarmless(t, out.String())
			if strings.Contains(out.String(), "\x1b") {
				t.Errorf("printed %q", &out)
			}
		})
	}
	run := &journal.Run{Command: "apply", Steps: []journal.Step{{Name: hostile, Host: "a", Error: hostile, State: journal.Failed}}}
	var out bytes.Buffer
	if err := journal.WriteTimeline(&out, run, time.Now(), 100, false); err != nil || strings.ContainsAny(out.String(), "\x1b\a\u202e\u009b\x7f") {
		t.Errorf("%v, the timeline has %q", err, &out)
	}
}

// All commands print through it.
func TestRunIsHarmless(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"validate", "-f", filepath.Join(t.TempDir(), hostile)}, strings.NewReader(""), &out, &errs); code == 0 {
		t.Error("it found the file")
	}
	if printed := out.String() + errs.String(); strings.ContainsAny(printed, "\x1b\a\u202e\u009b\x7f") || !strings.Contains(printed, "red") {
		t.Errorf("printed %q", printed)
	}
}

func TestProgressIsHarmless(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	for _, tty := range []bool{false, true} {
		t.Run(fmt.Sprint(tty), func(t *testing.T) {
			var log bytes.Buffer
			screen := &terminal{}
			p, _ := newTestProgress(newEscapingWriter(screen), &log, tty, "a")
			if tty {
				p.live.width = 200
			}
			p.Phase("converge")
			p.Host("a", hostile)
			p.Note("note " + hostile)
			step := &dag.Step{Name: "a: start", Host: "a"}
			p.Event(dag.Event{Step: step, Type: dag.Started})
			p.Event(dag.Event{Step: step, Type: dag.Failed, Err: errors.New(hostile)})
			p.Done(errors.New(hostile))
			screen.text() // waits for what is being drawn
			wantHarmless(t, screen.raw.String())
			if tty != strings.Contains(screen.raw.String(), "\x1b["+red+"m✗") {
				t.Errorf("our own colours: %q", screen.raw.String())
			}
			if strings.ContainsAny(log.String(), "\x1b\a\u202e\u009b\x7f") {
				t.Errorf("the log has %q", &log)
			}
		})
	}
}

func TestIsTerminalLooksThrough(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	if isTerminal(newEscapingWriter(file)) != isTerminal(file) {
		t.Error("it depends on the writer")
	}
	if p := newProgress(newEscapingWriter(file), true, io.Discard, nil); p.out != io.Writer(file) {
		t.Error("the live progress does not get the terminal itself")
	}
}
