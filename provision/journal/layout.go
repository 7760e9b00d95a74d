package journal

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// layout is shared by both drawings: the positions of steps. Offsets are from the beginning of the
// run.
type layout struct {
	run   *Run
	end   time.Time // end of the drawing: the run's end, or now
	first time.Duration
	last  time.Duration // the axis goes from first to last, first < last
	lanes []lane
	index map[string]int // of steps, by name
	path  []int          // CriticalPath
	chain map[int]bool   // the same
}

// lane is one host and its steps, as indices into the run's steps, in the order of their start;
// those that never started come last.
type lane struct {
	host  string
	steps []int
}

// clusterLane is the lane of steps without a host.
const clusterLane = "cluster"

// newLayout arranges a run. now is the end of unfinished steps.
func newLayout(r *Run, now time.Time) *layout {
	l := &layout{run: r, end: r.Ended, index: map[string]int{}, path: CriticalPath(r.Steps), chain: map[int]bool{}}
	if r.Result == Running || l.end.IsZero() {
		l.end = now
	}
	places := map[string]int{}
	for i := range r.Steps {
		l.index[r.Steps[i].Name] = i
		host := r.Steps[i].Host
		at, ok := places[host]
		if !ok {
			at = len(l.lanes)
			places[host] = at
			l.lanes = append(l.lanes, lane{host: host})
		}
		l.lanes[at].steps = append(l.lanes[at].steps, i)
	}
	// The cluster's own come first, then hosts in the order of the plan.
	slices.SortStableFunc(l.lanes, func(a, b lane) int { return clusterFirst(a.host) - clusterFirst(b.host) })
	for _, lane := range l.lanes {
		slices.SortStableFunc(lane.steps, func(a, b int) int { return l.order(a).Compare(l.order(b)) })
	}
	for _, i := range l.path {
		l.chain[i] = true
	}
	l.bounds()
	return l
}

func clusterFirst(host string) int {
	if host == "" {
		return 0
	}
	return 1
}

// order returns when a step started; steps that never started come last.
func (l *layout) order(i int) time.Time {
	if s := &l.run.Steps[i]; !s.Began.IsZero() {
		return s.Began
	}
	return l.end.AddDate(100, 0, 0)
}

// bounds sets the axis: from the first step's beginning to the last one's end. What came before and
// after are phases.
func (l *layout) bounds() {
	began := false
	for i := range l.run.Steps {
		s := &l.run.Steps[i]
		if s.Began.IsZero() {
			continue
		}
		from, to := l.span(s)
		if !began || from < l.first {
			l.first = from
		}
		l.last = max(l.last, to)
		began = true
	}
	l.last = max(l.last, l.first+10*time.Millisecond)
}

// span is the position of a step that has started.
func (l *layout) span(s *Step) (from, to time.Duration) {
	from = l.offset(s.Began)
	if s.Ended.IsZero() {
		return from, max(from, l.offset(l.end))
	}
	return from, max(from, l.offset(s.Ended))
}

// horizon is longer than any run. Clocks may be changed by decades during a run.
const horizon = 1000 * time.Hour

func (l *layout) offset(t time.Time) time.Duration {
	return min(max(t.Sub(l.run.Began), -horizon), horizon)
}

// ready returns when all dependencies of a step were done, or its start if unknown.
func (l *layout) ready(i int) time.Duration {
	s := &l.run.Steps[i]
	from, _ := l.span(s)
	ready := l.first
	for _, name := range s.Deps {
		if d, ok := l.index[name]; ok && !l.run.Steps[d].Ended.IsZero() {
			ready = max(ready, l.offset(l.run.Steps[d].Ended))
		}
	}
	return min(ready, from)
}

// at is a moment's place on the axis, from 0 to 1.
func (l *layout) at(d time.Duration) float64 {
	return min(max(float64(d-l.first)/float64(l.last-l.first), 0), 1)
}

// tickSteps are the distances between ticks that people read easily.
var tickSteps = []time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second,
	30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
	30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// ticks are round moments on the axis, at most about n.
func (l *layout) ticks(n int) []time.Duration {
	span := l.last - l.first
	step := tickSteps[len(tickSteps)-1]
	for _, s := range tickSteps {
		if span/s < time.Duration(max(n, 1)) {
			step = s
			break
		}
	}
	var ticks []time.Duration
	for t := l.first.Truncate(step); t <= l.last; t += step {
		if t >= l.first {
			ticks = append(ticks, t)
		}
	}
	return ticks
}

// short is a step's name without the host's, or "cluster", that it begins with.
func (s *Step) short() string {
	host := s.Host
	if host == "" {
		host = clusterLane
	}
	return strings.TrimPrefix(s.Name, host+": ")
}

// hostName returns the name of a lane.
func hostName(host string) string {
	if host == "" {
		return clusterLane
	}
	return host
}

// took is a duration as people read it: 40ms, 0.4s, 12.3s, 2m05s, 1h02m.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < 95*time.Millisecond:
		return fmt.Sprintf("%dms", max(d.Round(time.Millisecond).Milliseconds(), 1))
	case d.Round(100*time.Millisecond) < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d.Round(time.Second) < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// moment labels a tick: as exact as it has to be.
func moment(d time.Duration) string {
	switch {
	case d == 0:
		return "0s"
	case d%time.Second != 0:
		return strings.TrimSuffix(fmt.Sprintf("%.3f", d.Seconds()), "00") + "s"
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d > time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
