package journal

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// SGR codes: the colours of the eight that every terminal theme makes readable.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	bold   = "1"
	dim    = "2"
)

// mark is the symbol and the colour of a state; the symbol alone is sufficient.
type mark struct{ sign, color string }

var marks = map[State]mark{
	Pending: {"·", dim}, Running: {"▸", cyan}, Succeeded: {"✓", green}, Failed: {"✗", red}, Interrupted: {"!", yellow},
	Skipped: {"–", yellow}, Unchanged: {"✓", green},
}

// timeline draws into a buffer; Flush returns the first error.
type timeline struct {
	*layout
	out        *bufio.Writer
	color      bool
	names, bar int // widths of two columns
}

// WriteTimeline draws a run for a terminal of the given width: one line per step, grouped by host,
// with bars along one time axis. Steps that wait and steps that act have different bars. Dots are
// the time from when a step could start until it did, and a star marks the critical path. Full
// errors follow.
//
// now is the end of unfinished steps, and its zone is used for times.
func WriteTimeline(w io.Writer, r *Run, now time.Time, width int, color bool) error {
	t := &timeline{layout: newLayout(r, now), out: bufio.NewWriter(w), color: color}
	t.header(now)
	if len(r.Steps) > 0 {
		t.columns(width)
		t.axis()
		for _, lane := range t.lanes {
			t.line("", t.paint(bold, clean(hostName(lane.host))))
			for _, i := range lane.steps {
				t.step(i)
			}
		}
		t.line("")
		t.line(t.paint(dim, "█ changes   ░ waits for a condition   · waited for its turn   * decided how long the run took"))
	}
	t.failures()
	return t.out.Flush()
}

func (t *timeline) line(parts ...string) {
	// Errors stay in the writer until Flush.
	_, _ = t.out.WriteString(strings.TrimRight(strings.Join(parts, ""), " ") + "\n")
}

func (t *timeline) paint(color, text string) string {
	if !t.color || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (t *timeline) header(now time.Time) {
	r := t.run
	m := marks[r.Result]
	t.line(t.paint(m.color, m.sign), " ", t.paint(bold, fmt.Sprintf("Run %d", r.Number)), clean(fmt.Sprintf(": slipway %s of %s, ",
		r.Command, r.Cluster)), t.paint(m.color, clean(string(r.Result))), " after "+took(r.Took(now)))
	t.line(clean(fmt.Sprintf("  %s by %s, slipway %s", r.Began.In(now.Location()).Format("2006-01-02 15:04:05 MST"),
		cmp.Or(r.Operator, "unknown"), cmp.Or(r.Slipway, "unknown"))))
	var phases []string
	for _, p := range r.Phases {
		phases = append(phases, clean(p.Name)+" "+took(span(p.Began, p.Ended, t.end)))
	}
	if len(phases) > 0 {
		t.line("  ", strings.Join(phases, ", "))
	}
	for i := range r.Phases {
		t.parts(r.Phases[i].Parts)
	}
	if len(r.Steps) > 0 {
		t.line("  ", summary(r))
	}
	t.line("")
}

// parts is a line for each part of a phase.
func (t *timeline) parts(parts []Part) {
	longest := 0
	for i := range parts {
		longest = max(longest, runewidth.StringWidth(clean(parts[i].Name)))
	}
	for i := range parts {
		p := &parts[i]
		m := marks[p.State]
		t.line("    ", t.paint(m.color, cmp.Or(m.sign, " ")), " ", runewidth.FillRight(clean(p.Name), longest),
			fmt.Sprintf(" %*s  ", tookWidth, took(span(p.Began, p.Ended, t.end))), clean(p.describe(t.end)))
	}
}

// summary counts steps by what became of them, and changes.
func summary(r *Run) string {
	parts := []string{count(len(r.Steps), "step")}
	for _, c := range []struct {
		states []State
		text   string
	}{
		{[]State{Succeeded}, "done"},
		{[]State{Running}, "running"},
		{[]State{Failed}, "failed"},
		{[]State{Interrupted}, "interrupted"},
		{[]State{Pending, Skipped}, "not begun"},
	} {
		if n := r.Count(c.states...); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, c.text))
		}
	}
	if n := r.Changes(); n > 0 {
		parts = append(parts, count(n, "change"))
	}
	return strings.Join(parts, ", ")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// tookWidth is the column of durations.
const tookWidth = 8

func (t *timeline) columns(width int) {
	longest := 0
	for i := range t.run.Steps {
		longest = max(longest, runewidth.StringWidth(clean(t.run.Steps[i].short())))
	}
	width = max(width, 40)
	t.names = min(longest, width*2/5)
	t.bar = width - t.names - tookWidth - 7 // mark, spaces, star
}

func (t *timeline) axis() {
	row := []rune(strings.Repeat(" ", t.bar))
	free := 0
	for _, tick := range t.ticks(t.bar / 8) {
		label := []rune(moment(tick))
		at := int(t.at(tick) * float64(t.bar-1))
		if at < free || at+len(label) > t.bar {
			continue
		}
		copy(row[at:], label)
		free = at + len(label) + 1
	}
	t.line(strings.Repeat(" ", t.names+5), t.paint(dim, string(row)))
}

func (t *timeline) step(i int) {
	s := &t.run.Steps[i]
	m := marks[s.State]
	name := runewidth.FillRight(runewidth.Truncate(clean(s.short()), t.names, "…"), t.names)
	star, duration := " ", ""
	if t.chain[i] {
		star = "*"
	}
	if !s.Began.IsZero() {
		duration = took(s.Took(t.end))
	}
	t.line("  ", t.paint(m.color, m.sign), " ", name, " ", t.paint(m.color, t.cells(i)), " ", star, fmt.Sprintf("%*s", tookWidth, duration))
}

// eighths end a bar more exactly than a column.
var eighths = []rune("▏▎▍▌▋▊▉█")

// cells is the bar of a step in exactly t.bar columns.
func (t *timeline) cells(i int) string {
	row := []rune(strings.Repeat(" ", t.bar))
	s := &t.run.Steps[i]
	if s.Began.IsZero() {
		return string(row)
	}
	scale := float64(t.bar)
	from, to := t.span(s)
	begin := min(int(t.at(from)*scale), t.bar-1)
	end := t.at(to) * scale
	for c := int(t.at(t.ready(i)) * scale); c < begin; c++ {
		row[c] = '·'
	}
	for c := begin; c < t.bar && float64(c) < end; c++ {
		row[c] = '█'
		if rest := end - float64(c); rest < 1 {
			row[c] = eighths[int(rest*8)]
		}
		if s.Kind == Gate {
			row[c] = '░'
		}
	}
	if row[begin] == ' ' { // no time at all
		row[begin] = '▏'
	}
	return string(row)
}

// failures prints the error of each failed step, and the run's if no step's explains it.
func (t *timeline) failures() {
	told := false
	for i := range t.run.Steps {
		s := &t.run.Steps[i]
		if s.State == Failed || s.State == Interrupted && s.Error != "" {
			told = told || s.State == Failed
			t.failure(s.State, s.Name, s.Error)
		}
	}
	if t.run.Error != "" && !told {
		t.failure(t.run.Result, "the run", t.run.Error)
	}
}

func (t *timeline) failure(state State, what, text string) {
	m := marks[state]
	t.line("")
	t.line(t.paint(m.color, clean(m.sign+" "+string(state)+": "+what)))
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		t.line("    ", clean(line))
	}
}

// clean keeps what a host printed from steering the terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		}
		return r
	}, strings.TrimSuffix(text, "\r"))
}
