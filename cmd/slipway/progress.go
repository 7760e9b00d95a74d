package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/journal"
)

// progress shows what is going on: on a terminal a live line per host, otherwise a line for each
// completed step, and everything in the log. All methods are safe for concurrent use.
type progress struct {
	out io.Writer
	log *slog.Logger
	now func() time.Time
	// recorder also receives phases, reports and steps; nil if nothing is recorded. It is set
	// before the first call.
	recorder *journal.Recorder

	drawing sync.Mutex // held to draw; taken before mu
	live    *liveView  // nil where nothing is drawn

	mu     sync.Mutex // guards the fields below; never held while drawing
	begun  time.Time
	rows   []*row
	byName map[string]*row
	phases []phase
	done   int // steps that succeeded
	total  int // steps to do; 0 while unknown
	over   bool
	failed bool // over, with an error
}

type phase struct {
	name  string
	begun time.Time
	took  time.Duration // 0 while it runs
}

// row is one host, or another thing that takes time.
type row struct {
	name         string
	tasks        []task // running; steps in the order of their start
	note         string // the last report
	noted        time.Time
	busy         bool // note is about something that is running
	begun, ended time.Time
	steps        int
	skipped      int
	failure      string // the first failed step and the first line of its error
	interrupted  bool   // a step ended because the run was cancelled
	component    bool   // of the bundle
	finished     bool   // a finished component
}

type task struct {
	step  *dag.Step
	begun time.Time
}

// clusterRow shows steps that belong to no host.
const clusterRow = "cluster"

// newProgress writes to out, drawing when it is a terminal (tty), and the full log to log. hosts are listed from the
// beginning, in that order; others appear when something is said about them.
func newProgress(out io.Writer, tty bool, log io.Writer, hosts []string) *progress {
	p := &progress{out: unescaped(out), log: slog.New(slog.NewTextHandler(log, nil)), now: time.Now, byName: map[string]*row{}}
	p.begun = p.now()
	for _, name := range hosts {
		p.row(name)
	}
	if tty && os.Getenv("TERM") != "dumb" {
		p.live = &liveView{progress: p, color: os.Getenv("NO_COLOR") == ""} // no-color.org
	}
	return p
}

// Phase begins a part of the work; the previous one ends.
func (p *progress) Phase(name string) {
	p.log.Info("phase", "name", name)
	p.recorder.Phase(name)
	p.update(func() string {
		p.endPhase()
		p.phases = append(p.phases, phase{name: name, begun: p.now()})
		return name
	})
}

// Steps sets the number of steps to do.
func (p *progress) Steps(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = n
}

// Host reports what a host, or anything else with a name, is doing now.
func (p *progress) Host(name, what string) {
	p.log.Info("report", "host", name, "what", what)
	p.recorder.Note(name, what)
	p.update(func() string {
		r := p.row(cmp.Or(name, clusterRow))
		if r.note == what && r.busy {
			return ""
		}
		r.note, r.noted, r.busy = what, p.now(), true
		r.touch(r.noted)
		return r.name + ": " + what
	})
}

// Event shows a step's progress; it is a report function for dag.Run.
func (p *progress) Event(e dag.Event) {
	p.logEvent(e)
	p.recorder.Event(e)
	p.update(func() string {
		r := p.row(cmp.Or(e.Step.Host, clusterRow))
		r.event(e)
		what := r.name + ": " + r.short(e.Step.Name)
		switch e.Type {
		case dag.Succeeded:
			p.done++
			return fmt.Sprintf("%s ... done (%s)", what, seconds(e.Elapsed))
		case dag.Failed:
			return fmt.Sprintf("%s ... failed (%s): %v", what, seconds(e.Elapsed), e.Err)
		case dag.Skipped:
			return fmt.Sprintf("%s ... not begun: %v", what, e.Err)
		}
		return ""
	})
}

func (p *progress) logEvent(e dag.Event) {
	switch e.Type {
	case dag.Started:
		p.log.Info("step started", "step", e.Step.Name, "host", e.Step.Host)
	case dag.Succeeded:
		p.log.Info("step succeeded", "step", e.Step.Name, "host", e.Step.Host, "took", e.Elapsed)
	case dag.Failed:
		p.log.Error("step failed", "step", e.Step.Name, "host", e.Step.Host, "took", e.Elapsed, "error", e.Err)
	case dag.Skipped:
		p.log.Warn("step skipped", "step", e.Step.Name, "host", e.Step.Host, "why", e.Err)
	}
}

// Note prints a line that stays.
func (p *progress) Note(text string) {
	p.log.Info("note", "text", text)
	p.drawing.Lock()
	defer p.drawing.Unlock()
	if p.live != nil {
		p.live.print(text)
		return
	}
	p.println(p.now(), text)
}

// Suspend removes the drawing from the terminal while f runs, which may ask a question. f must not
// call p's methods; other goroutines that do wait for it.
func (p *progress) Suspend(f func() error) error {
	p.drawing.Lock()
	defer p.drawing.Unlock()
	if p.live != nil {
		p.live.stop(false)
	}
	return f()
}

// Done ends everything and prints how long each phase took. Nothing is shown afterwards.
func (p *progress) Done(err error) {
	p.drawing.Lock()
	defer p.drawing.Unlock()
	p.mu.Lock()
	p.endPhase()
	p.over, p.failed = true, err != nil
	drawn := p.live != nil
	summary := p.summary()
	now := p.now()
	p.mu.Unlock()
	attributes := []any{"took", now.Sub(p.begun)}
	if err != nil {
		attributes = append(attributes, "error", err)
	}
	p.log.Info("over", attributes...)
	if drawn {
		p.live.stop(true)
		p.live.line(p.out, summary)
		return
	}
	p.println(now, summary)
}

// update changes the state and shows the change; change returns the line to print if nothing is
// drawn, "" for none.
func (p *progress) update(change func() string) {
	p.drawing.Lock()
	defer p.drawing.Unlock()
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	line := change()
	now := p.now()
	p.mu.Unlock()
	switch {
	case p.live != nil:
		p.live.draw()
	case line != "":
		p.println(now, line)
	}
}

func (p *progress) println(now time.Time, line string) {
	_, _ = io.WriteString(p.out, now.Format("15:04:05")+" "+escaped(line)+"\n")
}

func (p *progress) row(name string) *row {
	r := p.byName[name]
	if r == nil {
		r = &row{name: name}
		p.byName[name] = r
		p.rows = append(p.rows, r)
	}
	return r
}

// endPhase ends the current phase, and with it everything that was only reported, not run as a
// step.
func (p *progress) endPhase() {
	now := p.now()
	for _, r := range p.rows {
		if r.busy {
			r.busy, r.ended = false, now
			r.interrupted = r.interrupted || r.component
		}
	}
	if n := len(p.phases); n > 0 && p.phases[n-1].took == 0 {
		p.phases[n-1].took = max(now.Sub(p.phases[n-1].begun), 1)
	}
}

func (p *progress) summary() string {
	var b strings.Builder
	for _, phase := range p.phases {
		fmt.Fprintf(&b, "%s %s, ", phase.name, seconds(phase.took))
	}
	fmt.Fprintf(&b, "total %s", seconds(p.now().Sub(p.begun)))
	return b.String()
}

func (r *row) touch(now time.Time) {
	if r.begun.IsZero() {
		r.begun = now
	}
	r.ended = now
}

func (r *row) event(e dag.Event) {
	if e.Type == dag.Skipped {
		r.skipped++
		return
	}
	r.touch(e.Time)
	if e.Type == dag.Started {
		r.tasks = append(r.tasks, task{e.Step, e.Time})
		r.busy = false
		return
	}
	for i, t := range r.tasks {
		if t.step == e.Step {
			r.tasks = slices.Delete(r.tasks, i, i+1) // it clears what is behind: a step holds on to all that was observed
			break
		}
	}
	r.busy = false
	r.steps++
	r.note = r.short(e.Step.Name)
	switch {
	case e.Type != dag.Failed:
	case errors.Is(e.Err, context.Canceled):
		r.interrupted = true
	case r.failure == "":
		first, _, _ := strings.Cut(errorText(e.Err), "\n")
		r.failure = r.note + ": " + first
	}
}

// short returns a step's name without its host.
func (r *row) short(name string) string { return strings.TrimPrefix(name, r.name+": ") }

func errorText(err error) string { return cmp.Or(err, errors.New("unknown error")).Error() }

// seconds formats a duration for people: 0.4s, 12.3s, 2m05s.
func seconds(d time.Duration) string {
	if d = d.Round(100 * time.Millisecond); d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
