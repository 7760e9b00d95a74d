package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway.dev/slipway/provision/dag"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newTestProgress(out, log io.Writer, tty bool, hosts ...string) (*progress, *clock) {
	c := &clock{at: time.Date(2026, 1, 2, 12, 3, 4, 0, time.UTC)}
	p := newProgress(out, tty, log, hosts)
	p.now, p.begun = c.now, c.at
	return p, c
}

// story tells a progress what happens in an apply with one failure. look is called at points of interest.
func story(p *progress, c *clock, look func(string)) error {
	start := &dag.Step{Name: "demo-cp-1: start etcd", Host: "demo-cp-1"}
	fetch := &dag.Step{Name: "demo-cp-1: fetch images", Host: "demo-cp-1"}
	broken := &dag.Step{Name: "demo-cp-2: start etcd", Host: "demo-cp-2"}
	after := &dag.Step{Name: "demo-cp-2: start kubelet", Host: "demo-cp-2"}
	whole := &dag.Step{Name: "apply manifests"}
	step := func(kind dag.EventType, s *dag.Step, elapsed time.Duration, err error) {
		p.Event(dag.Event{Type: kind, Step: s, Time: c.now(), Elapsed: elapsed, Err: err})
	}
	p.Phase("machines")
	p.Host("demo-cp-1", "creating")
	p.Host("demo-cp-1", "creating") // said twice, shown once
	p.Host("machine image", "importing")
	c.pass(1500 * time.Millisecond)
	look("machines")
	p.Phase("converge")
	p.Steps(5)
	step(dag.Started, start, 0, nil)
	step(dag.Started, fetch, 0, nil)
	step(dag.Started, broken, 0, nil)
	c.pass(time.Second)
	p.Host("demo-cp-2", "waiting for its peers")
	p.Note("a line that stays")
	look("running")
	step(dag.Succeeded, fetch, time.Second, nil)
	c.pass(time.Second)
	err := errors.New("demo-cp-2: \"systemctl start etcd\" failed with exit code 1: no space left\nsecond line")
	step(dag.Failed, broken, 2*time.Second, err)
	step(dag.Skipped, after, 0, fmt.Errorf("needs %q, which failed", broken.Name))
	step(dag.Succeeded, start, 2*time.Second, nil)
	step(dag.Started, whole, 0, nil)
	c.pass(70 * time.Second)
	step(dag.Succeeded, whole, 70*time.Second, nil)
	look("before the end")
	p.Done(err)
	p.Host("demo-cp-1", "too late to be shown")
	return err
}

func TestProgressWithoutTerminal(t *testing.T) {
	var out, log bytes.Buffer
	p, c := newTestProgress(&out, &log, false, "demo-cp-1", "demo-cp-2")
	_ = story(p, c, func(string) {})
	want := `12:03:04 machines
12:03:04 demo-cp-1: creating
12:03:04 machine image: importing
12:03:05 converge
12:03:06 demo-cp-2: waiting for its peers
12:03:06 a line that stays
12:03:06 demo-cp-1: fetch images ... done (1.0s)
12:03:07 demo-cp-2: start etcd ... failed (2.0s): demo-cp-2: "systemctl start etcd" failed with exit code 1: no space left
second line
12:03:07 demo-cp-2: start kubelet ... not begun: needs "demo-cp-2: start etcd", which failed
12:03:07 demo-cp-1: start etcd ... done (2.0s)
12:04:17 cluster: apply manifests ... done (1m10s)
12:04:17 machines 1.5s, converge 1m12s, total 1m14s
`
	if got := out.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	for _, line := range []string{
		`msg=phase name=machines`,
		`msg=report host=demo-cp-1 what=creating`,
		`msg="step started" step="demo-cp-1: fetch images" host=demo-cp-1`,
		`level=ERROR msg="step failed" step="demo-cp-2: start etcd" host=demo-cp-2 took=2s error="demo-cp-2: \"systemctl`,
		`second line`,
		`level=WARN msg="step skipped" step="demo-cp-2: start kubelet"`,
		`msg=note text="a line that stays"`,
		`msg=over took=1m13.5s error=`,
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %s:\n%s", line, log.String())
		}
	}
}

func TestProgressOnTerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	t.Setenv("TERM", "xterm")
	screen := &terminal{}
	p, c := newTestProgress(screen, io.Discard, true, "demo-cp-1", "demo-cp-2")
	p.live.width = 80
	want := map[string]string{
		"machines": `
⠋ demo-cp-1        1.5s  creating
· demo-cp-2
⠋ machine image    1.5s  importing
  machines 1.5s`,
		"running": `
a line that stays
⠋ demo-cp-1        1.0s  fetch images (+1)
⠋ demo-cp-2        1.0s  start etcd: waiting for its peers
· machine image          importing
  converge 1.0s, 0 of 5 steps done, 3 running`,
		"end": `
a line that stays
✓ demo-cp-1        3.5s  start etcd
✗ demo-cp-2        2.0s  start etcd: demo-cp-2: "systemctl start etcd" failed …
✓ machine image    1.5s  importing
✓ cluster         1m10s  apply manifests
machines 1.5s, converge 1m12s, total 1m14s`,
	}
	look := func(at string) {
		if want[at] == "" {
			return
		}
		deadline := time.Now().Add(5 * time.Second)
		for screen.text() != strings.TrimPrefix(want[at], "\n") {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the terminal shows\n%s\nwant%s", at, screen.text(), want[at])
			}
			time.Sleep(redraw / 4)
		}
	}
	_ = story(p, c, look)
	look("end")
	if strings.Contains(screen.raw.String(), "\x1b[3") {
		t.Error("colours in spite of NO_COLOR")
	}
}

func TestProgressSuspended(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	screen := &terminal{}
	p, _ := newTestProgress(screen, io.Discard, true, "a", "b")
	p.live.width = 60
	p.Phase("one")
	p.Host("a", "working")
	answer := errors.New("no")
	err := p.Suspend(func() error {
		if got := screen.text(); got != "" {
			t.Errorf("suspended, the terminal shows\n%s", got)
		}
		_, _ = io.WriteString(screen, "Really? n\n")
		return answer
	})
	if !errors.Is(err, answer) {
		t.Errorf("error %v", err)
	}
	p.Host("b", "working too")
	p.Done(nil)
	want := "Really? n\n✓ a    0.0s  working\n✓ b    0.0s  working too\none 0.0s, total 0.0s"
	if got := screen.text(); got != want {
		t.Errorf("in the end the terminal shows\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(screen.raw.String(), "\x1b["+green+"m✓") {
		t.Error("no colours")
	}
}

func TestProgressEnds(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"well":        {nil, "✓ a    2.0s  ready\n✓ b          nothing to do\np 2.0s, total 2.0s"},
		"interrupted": {fmt.Errorf("run: %w", context.Canceled), "– a    2.0s  interrupted: s\n– b          not begun (1 to do)\np 2.0s, total 2.0s"},
	} {
		t.Run(name, func(t *testing.T) {
			screen := &terminal{}
			p, c := newTestProgress(screen, io.Discard, true, "a", "b")
			p.Phase("p")
			step := &dag.Step{Name: "a: s", Host: "a"}
			p.Event(dag.Event{Type: dag.Started, Step: step, Time: c.now()})
			c.pass(2 * time.Second)
			if tt.err == nil {
				p.Event(dag.Event{Type: dag.Succeeded, Step: step, Time: c.now()})
			} else {
				p.Event(dag.Event{Type: dag.Failed, Step: step, Time: c.now(), Err: tt.err})
				p.Event(dag.Event{Type: dag.Skipped, Step: &dag.Step{Name: "b: s", Host: "b"}, Time: c.now(), Err: tt.err})
			}
			p.Done(tt.err)
			if got := screen.text(); got != tt.want {
				t.Errorf("shown\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestProgressConcurrently(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, tty := range []bool{false, true} {
		var log bytes.Buffer
		p := newProgress(&terminal{}, tty, &log, []string{"a"})
		p.Phase("p")
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				host := fmt.Sprint("h", i)
				step := &dag.Step{Name: host + ": s", Host: host}
				for range 20 {
					p.Event(dag.Event{Type: dag.Started, Step: step, Time: time.Now()})
					p.Host(host, "x")
					p.Note("y")
					p.Event(dag.Event{Type: dag.Succeeded, Step: step, Time: time.Now()})
				}
			})
		}
		all.Wait()
		p.Done(nil)
		if n := strings.Count(log.String(), "step succeeded"); n != 160 {
			t.Errorf("%d successes in the log", n)
		}
		if p.done != 160 {
			t.Errorf("%d done", p.done)
		}
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 1234 * time.Millisecond: "1.2s", 59 * time.Second: "59.0s", 61 * time.Second: "1m01s", 2 * time.Hour: "120m00s",
		59970 * time.Millisecond: "1m00s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

// terminal understands what a drawing sends: text, line feeds, cursor up, erase below; other sequences do nothing.
type terminal struct {
	mu    sync.Mutex
	raw   bytes.Buffer
	lines []string
	at    int
}

var sequence = regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)

func (s *terminal) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(p)
	text := string(p)
	for text != "" {
		for len(s.lines) <= s.at {
			s.lines = append(s.lines, "")
		}
		if m := sequence.FindStringSubmatch(text); m != nil {
			n, _ := strconv.Atoi(m[1])
			switch m[2] {
			case "A":
				s.at -= max(n, 1)
			case "J":
				s.lines = append(s.lines[:s.at], "")
			case "K":
				s.lines[s.at] = ""
			}
			text = text[len(m[0]):]
			continue
		}
		switch text[0] {
		case '\n':
			s.at++
		case '\r':
		default:
			s.lines[s.at] += text[:1]
		}
		text = text[1:]
	}
	return len(p), nil
}

// text is what is on the screen, without blanks at the ends of lines; a spinner always as its first form.
func (s *terminal) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, line := range s.lines {
		for _, r := range spinner {
			line = strings.ReplaceAll(line, string(r), string(spinner[0]))
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// TestApplySaysWhatIsNext: with the spec that was given, so that the line can be copied.
func TestApplySaysWhatIsNext(t *testing.T) {
	for _, test := range []struct {
		file        string
		first       bool
		want, other string
	}{
		{"cluster.yaml", true, "`slipway kubeconfig --merge` ", "-f"},
		{"prod.yaml", true, "`slipway kubeconfig --merge -f prod.yaml` ", "nothing else"},
		{"prod.yaml", false, "`slipway status -f prod.yaml` ", "kubeconfig"},
	} {
		r := applyRun{work: work{app: &app{file: test.file}}}
		if got := r.next(test.first); !strings.Contains(got, test.want) || strings.Contains(got, test.other) {
			t.Errorf("after an apply of %s: %q", test.file, got)
		}
	}
}
