package main

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// redraw is how often the terminal is redrawn, and how fast the spinner turns.
const redraw = 100 * time.Millisecond

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// SGR codes: the colours of the eight that every terminal theme makes readable.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	dim    = "2"
)

// liveView draws a progress on a terminal: a row per host, with the phase below. mpb handles
// cursors, widths and refreshing; each of its bars is one of our rows. All methods except the
// drawing of a row need progress.drawing held.
type liveView struct {
	*progress
	color bool
	width int // 0 is the terminal's
	bars  *mpb.Progress
	shown map[string]*mpb.Bar
}

// draw makes sure that every row is on the terminal; their contents follow by themselves.
func (l *liveView) draw() {
	if l.bars == nil {
		l.bars = mpb.New(mpb.WithOutput(l.out), mpb.WithAutoRefresh(), mpb.WithRefreshRate(redraw), mpb.WithWidth(l.width))
		l.shown = map[string]*mpb.Bar{}
		l.add("", math.MaxInt, l.phaseRow)
	}
	l.mu.Lock()
	rows := l.rows[:len(l.rows):len(l.rows)]
	l.mu.Unlock()
	for i, r := range rows {
		if l.shown[r.name] == nil {
			l.add(r.name, i, func() (string, string, string) { return l.hostRow(r) })
		}
	}
}

func (l *liveView) add(name string, priority int, content func() (mark, color, text string)) {
	row := mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		l.mu.Lock()
		mark, color, text := content()
		l.mu.Unlock()
		text = runewidth.Truncate(escaped(text), s.AvailableWidth-3, "…")
		_, err := io.WriteString(w, l.paint(color, mark)+" "+text)
		return err
	})
	l.shown[name] = l.bars.MustAdd(0, row, mpb.BarPriority(priority), mpb.BarFillerTrim())
}

// stop ends the drawing, which stays on the terminal or is removed.
func (l *liveView) stop(stay bool) {
	if l.bars == nil {
		return
	}
	for name, bar := range l.shown {
		if stay && name != "" {
			bar.SetTotal(-1, true)
		} else {
			bar.Abort(true)
		}
	}
	l.bars.Wait()
	l.bars, l.shown = nil, nil
}

// print puts a line above the drawing.
func (l *liveView) print(text string) {
	if l.bars == nil {
		l.line(l.out, text)
		return
	}
	l.line(l.bars, text)
}

func (l *liveView) line(w io.Writer, text string) { _, _ = io.WriteString(w, escaped(text)+"\n") }

func (l *liveView) paint(color, text string) string {
	if !l.color || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// phaseRow is the last row: the current phase.
func (l *liveView) phaseRow() (mark, color, text string) {
	if len(l.phases) == 0 {
		return " ", "", ""
	}
	running := 0
	for _, r := range l.rows {
		running += len(r.tasks)
	}
	last := l.phases[len(l.phases)-1]
	text = fmt.Sprintf("%s %s", last.name, seconds(l.now().Sub(last.begun)))
	if l.done+running > 0 {
		text += fmt.Sprintf(", %d of %d steps done, %d running", l.done, max(l.total, l.done+running), running)
	}
	return " ", "", text
}

// hostRow is a host's row: mark, name, duration and activity.
func (l *liveView) hostRow(r *row) (mark, color, text string) {
	a := l.activity(r)
	width := 0
	for _, other := range l.rows {
		width = max(width, runewidth.StringWidth(other.name))
	}
	return a.mark, a.color, fmt.Sprintf("%s  %6s  %s", runewidth.FillRight(r.name, width), a.took, a.what)
}

// activity is what a row says of its host.
type activity struct{ mark, color, took, what string }

func (l *liveView) activity(r *row) activity {
	took, now := seconds(r.ended.Sub(r.begun)), l.now()
	switch {
	case r.failure != "":
		return activity{"✗", red, took, r.failure}
	case r.interrupted:
		return activity{"–", yellow, took, "interrupted: " + r.note}
	case l.over:
		return l.outcome(r, took)
	case len(r.tasks) > 0:
		return r.running(now)
	case r.finished:
		return activity{"✓", green, took, r.note}
	case r.busy:
		return activity{spin(now), cyan, seconds(now.Sub(r.noted)), r.note}
	}
	return activity{"·", dim, "", r.note}
}

// outcome is a host's activity when the run is over and the host's part did not fail.
func (l *liveView) outcome(r *row, took string) activity {
	switch {
	case r.skipped > 0:
		return activity{"–", yellow, "", fmt.Sprintf("not begun (%d to do)", r.skipped)}
	case r.begun.IsZero():
		return activity{"✓", green, "", "nothing to do"}
	case r.steps > 0 && !l.failed:
		return activity{"✓", green, took, "ready"}
	}
	return activity{"✓", green, took, r.note}
}

// running is a host's activity while steps run: the last that began, and how many others run.
func (r *row) running(now time.Time) activity {
	last := r.tasks[len(r.tasks)-1]
	what := r.short(last.step.Name)
	if others := len(r.tasks) - 1; others > 0 {
		what += fmt.Sprintf(" (+%d)", others)
	}
	if r.busy {
		what += ": " + r.note
	}
	return activity{spin(now), cyan, seconds(now.Sub(last.begun)), what}
}

func spin(now time.Time) string {
	return string(spinner[int(now.UnixMilli()/redraw.Milliseconds())%len(spinner)])
}
