package journal

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io"
	"regexp"
	"strings"
	"time"
)

//go:embed page
var pageFiles embed.FS

// pageTemplate escapes whatever it is given; style.css and script.js are templates without anything
// to fill in.
var pageTemplate = template.Must(template.New("page.html").ParseFS(pageFiles, "page/*"))

// page is the data of page.html. Lengths are percentages of the axis, for CSS.
type page struct {
	Number                 int
	Command, Cluster, Took string
	Result                 State
	Sign                   string
	Facts                  []fact
	Error                  string // the run's, if no step's explains it
	Failures               []*stepView
	Phases                 []phaseView
	Ticks                  []tick
	Groups                 []*group
	Path                   []*stepView
	Many                   bool // hosts: too many to see at once
	Written                string
}

type fact struct{ Name, Value string }

type phaseView struct {
	Name, Took string
	Grow       string // its width relative to the others
	Parts      []partView
}

type partView struct {
	Sign, Name, Took, Text string
	State                  State
}

type tick struct{ Left, Label string }

// group is hosts that are called alike, such as those of a pool; without a name it is all of them.
type group struct {
	Name, Summary string
	Failed        bool
	Lanes         []*laneView
}

type laneView struct {
	Host, Summary string
	Failed        bool
	Tracks        int
	Idle          int // steps that have not begun
	Bars          []bar
	Steps         []*stepView
}

// bar is a step on a lane, on one of its tracks: steps that ran at one time do not cover each
// other.
type bar struct {
	*stepView
	Left, Width         string
	WaitLeft, WaitWidth string // empty if it did not wait
	Track               int
}

type stepView struct {
	*Step
	ID, Short, Sign    string
	Took, From, Waited string // Took and From are empty for one that never began
	Share              string // of the run, in percent
	Needs              []need
	Said               []said
	Critical           bool
}

type need struct{ ID, Name string }

type said struct{ At, Text string }

// Label describes a bar in words.
func (s *stepView) Label() string {
	parts := []string{s.Name, string(s.State) + ", " + s.Took + ", from " + s.From}
	if s.Kind == Gate {
		parts[1] = "waits for a condition: " + parts[1]
	}
	if s.Waited != "" {
		parts = append(parts, "waited "+s.Waited+" for its turn")
	}
	if n := len(s.Changes); n > 0 {
		parts = append(parts, count(n, "change"))
	}
	if n := len(s.Notes); n > 0 {
		parts = append(parts, s.Notes[n-1].Text)
	}
	if s.Critical {
		parts = append(parts, "on the critical path")
	}
	return strings.Join(parts, "\n")
}

// WriteHTML writes a run as a self-contained page, which needs no network and is readable without
// scripts. now is the end of unfinished steps, and its zone is used for times.
func WriteHTML(w io.Writer, r *Run, now time.Time) error {
	if err := pageTemplate.Execute(w, newPage(r, now)); err != nil {
		return fmt.Errorf("write the page of run %d: %w", r.Number, err)
	}
	return nil
}

func newPage(r *Run, now time.Time) *page {
	b := &pageBuilder{layout: newLayout(r, now)}
	p := &page{
		Number: r.Number, Command: r.Command, Cluster: r.Cluster, Took: took(r.Took(now)), Result: r.Result,
		Sign: marks[r.Result].sign, Facts: facts(r, now), Phases: b.phases(), Written: clock(now, now.Location()),
	}
	for i := range r.Steps {
		b.steps = append(b.steps, b.step(i))
	}
	explained := false
	for _, s := range b.steps {
		if s.Error != "" && (s.State == Failed || s.State == Interrupted) {
			p.Failures = append(p.Failures, s)
			explained = explained || s.State == Failed
		}
	}
	if !explained {
		p.Error = r.Error
	}
	for _, i := range b.path {
		p.Path = append(p.Path, b.steps[i])
	}
	p.Many = len(b.lanes) > fewLanes
	p.Groups = b.groups()
	if len(p.Path) > 0 {
		for _, t := range b.ticks(9) {
			p.Ticks = append(p.Ticks, tick{percent(b.at(t)), moment(t)})
		}
	}
	return p
}

func facts(r *Run, now time.Time) []fact {
	zone := now.Location()
	f := []fact{
		{"Cluster", r.Cluster},
		{"Operator", cmp.Or(r.Operator, "unknown")},
		{"Slipway", cmp.Or(r.Slipway, "unknown")},
		{"Began", clock(r.Began, zone)},
	}
	if !r.Ended.IsZero() {
		f = append(f, fact{"Ended", clock(r.Ended, zone)})
	}
	if len(r.Steps) > 0 {
		f = append(f, fact{"Steps", summary(r)})
	}
	return f
}

func clock(t time.Time, zone *time.Location) string {
	return t.In(zone).Format("2006-01-02 15:04:05 MST")
}

func percent(f float64) string { return fmt.Sprintf("%.3f", f*100) }

// pageBuilder turns a layout into what the template shows.
type pageBuilder struct {
	*layout
	steps []*stepView
}

func (b *pageBuilder) phases() []phaseView {
	var views []phaseView
	total := max(b.run.Took(b.end), time.Millisecond)
	for _, p := range b.run.Phases {
		d := span(p.Began, p.Ended, b.end)
		// The shortest still is a strip that can be pointed at.
		view := phaseView{Name: p.Name, Took: took(d), Grow: fmt.Sprintf("%.4f", max(min(float64(d)/float64(total), 1), 0.004))}
		for i := range p.Parts {
			part := &p.Parts[i]
			view.Parts = append(view.Parts, partView{
				marks[part.State].sign, part.Name, took(span(part.Began, part.Ended, b.end)), part.describe(b.end), part.State,
			})
		}
		views = append(views, view)
	}
	return views
}

func (b *pageBuilder) step(i int) *stepView {
	s := &b.run.Steps[i]
	v := &stepView{Step: s, ID: fmt.Sprintf("s%d", i), Short: s.short(), Sign: marks[s.State].sign, Critical: b.chain[i]}
	for _, name := range s.Deps {
		if d, ok := b.index[name]; ok {
			v.Needs = append(v.Needs, need{fmt.Sprintf("s%d", d), name})
		}
	}
	if s.Began.IsZero() {
		return v
	}
	from, to := b.span(s)
	v.From, v.Took = "+"+took(from), took(to-from)
	v.Share = fmt.Sprintf("%.0f %%", 100*float64(to-from)/float64(b.last-b.first))
	if wait := from - b.ready(i); b.visible(wait) {
		v.Waited = took(wait)
	}
	for _, n := range s.Notes {
		v.Said = append(v.Said, said{"+" + took(b.offset(n.At)), n.Text})
	}
	return v
}

// visible distinguishes a wait from the overhead of starting a step.
func (b *pageBuilder) visible(wait time.Duration) bool {
	return wait >= 10*time.Millisecond && float64(wait) >= 0.002*float64(b.last-b.first)
}

// fewLanes are seen at a glance: they are not grouped.
const fewLanes = 20

var ordinal = regexp.MustCompile(`-[0-9]+$`)

func (b *pageBuilder) groups() []*group {
	if len(b.lanes) == 0 {
		return nil
	}
	var groups []*group
	byName := map[string]*group{}
	for _, lane := range b.lanes {
		name := ""
		if len(b.lanes) > fewLanes && lane.host != "" {
			name = ordinal.ReplaceAllString(lane.host, "")
		}
		g := byName[name]
		if g == nil {
			g = &group{Name: name}
			byName[name] = g
			groups = append(groups, g)
		}
		v := b.lane(lane)
		g.Lanes = append(g.Lanes, v)
		g.Failed = g.Failed || v.Failed
	}
	for _, g := range groups {
		part := Run{}
		failed := 0
		for _, v := range g.Lanes {
			for _, s := range v.Steps {
				part.Steps = append(part.Steps, *s.Step)
			}
			if v.Failed {
				failed++
			}
		}
		g.Summary = count(len(g.Lanes), "host") + ", " + summary(&part)
		if failed > 0 {
			g.Summary += fmt.Sprintf("; failures on %s", count(failed, "host"))
		}
	}
	return groups
}

func (b *pageBuilder) lane(lane lane) *laneView {
	v := &laneView{Host: hostName(lane.host), Tracks: 1}
	part := Run{}
	var free []time.Duration // when each track is
	for _, i := range lane.steps {
		s := b.steps[i]
		v.Steps = append(v.Steps, s)
		part.Steps = append(part.Steps, *s.Step)
		v.Failed = v.Failed || s.State == Failed
		if s.Began.IsZero() {
			v.Idle++
			continue
		}
		from, to := b.span(s.Step)
		bar := bar{stepView: s, Left: percent(b.at(from)), Width: percent(b.at(to) - b.at(from))}
		begin := from
		if s.Waited != "" {
			begin = b.ready(i)
			bar.WaitLeft, bar.WaitWidth = percent(b.at(begin)), percent(b.at(from)-b.at(begin))
		}
		for bar.Track < len(free) && free[bar.Track] > begin {
			bar.Track++
		}
		if bar.Track == len(free) {
			free = append(free, 0)
		}
		free[bar.Track] = to
		v.Bars = append(v.Bars, bar)
	}
	v.Tracks = max(len(free), 1)
	v.Summary = summary(&part)
	return v
}
