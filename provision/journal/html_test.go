package journal

import (
	"bytes"
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// write gives a run's page, parsed and as text.
func write(t *testing.T, run *Run, now time.Time) (*html.Node, string) {
	t.Helper()
	var out bytes.Buffer
	if err := WriteHTML(&out, run, now); err != nil {
		t.Fatal(err)
	}
	checkNesting(t, out.String())
	node, err := html.Parse(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return node, out.String()
}

// checkNesting wants every element closed in its turn: a browser would repair it, but not as was meant.
func checkNesting(t *testing.T, text string) {
	t.Helper()
	void := map[string]bool{"meta": true, "input": true, "br": true}
	var open []string
	for z := html.NewTokenizer(strings.NewReader(text)); ; {
		kind := z.Next()
		name, _ := z.TagName()
		switch {
		case kind == html.ErrorToken:
			if len(open) > 0 {
				t.Fatalf("the page ends within %v", open)
			}
			return
		case kind == html.StartTagToken && !void[string(name)]:
			open = append(open, string(name))
		case kind == html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != string(name) {
				t.Fatalf("</%s> within %v", name, open)
			}
			open = open[:len(open)-1]
		}
	}
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// find gives the elements of a name.
func find(root *html.Node, name string) []*html.Node {
	var found []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name {
			found = append(found, n)
		}
	}
	return found
}

func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

var external = regexp.MustCompile(`https?:|@import|url\(|\bsrc=`)

// TestHTML looks at every sample: a bar for each step that began, at its place; every link leads somewhere; nothing is
// loaded from anywhere.
func TestHTML(t *testing.T) {
	runs, now := samples(t)
	delete(runs, "many") // manyfailed has all that it has
	for name, run := range runs {
		t.Run(name, func(t *testing.T) {
			root, text := write(t, run, now)
			if m := external.FindString(text); m != "" {
				t.Errorf("the page refers to something outside: %s", m)
			}
			ids := map[string]bool{}
			for n := range root.Descendants() {
				if id := attribute(n, "id"); id != "" {
					if ids[id] {
						t.Errorf("id %s is there twice", id)
					}
					ids[id] = true
				}
			}
			bars := 0
			for _, a := range find(root, "a") {
				if !ids[strings.TrimPrefix(attribute(a, "href"), "#")] {
					t.Errorf("a link leads nowhere: %s", attribute(a, "href"))
				}
				if strings.HasPrefix(attribute(a, "class"), "bar ") {
					bars++
				}
			}
			if want := len(run.Steps) - run.Count(Pending, Skipped); bars != want {
				t.Errorf("%d bars, want %d", bars, want)
			}
			if n := len(find(root, "article")) - run.Count(Failed); len(run.Steps) > 0 && n != len(run.Steps) {
				t.Errorf("%d steps in detail, want %d", n, len(run.Steps))
			}
			if strings.Contains(text, "ZgotmplZ") {
				t.Error("the template refused a value")
			}
		})
	}
	var out bytes.Buffer
	if err := WriteHTML(&out, runs["failed"], now); err != nil {
		t.Fatal(err)
	}
	golden(t, "failed.html", out.Bytes())
}

func TestHTMLShowsFailuresFirst(t *testing.T) {
	runs, now := samples(t)
	root, _ := write(t, runs["failed"], now)
	first := find(root, "section")[0]
	if attribute(first, "class") != "failures failed" || !strings.Contains(words(first), "demo-cp-2: install failed after 9.3s") {
		t.Errorf("the first section says %s", words(first))
	}
	pre := find(first, "pre")
	if len(pre) != 1 || pre[0].FirstChild.Data != runs["failed"].Steps[1].Error {
		t.Error("the error is not there in full")
	}
	if strings.Contains(words(first), "2 steps failed") {
		t.Error("the run repeats what its steps say")
	}
}

const hostile = `</script></style></pre><script>alert(1)</script>" onmouseover="alert(2)' <img src=x onerror=alert(3)> {{.}} javascript:alert(4) ;}*{display:none}` + "\x1b[2J\x00\u202e"

// hostileRun has it everywhere.
func hostileRun() *Run {
	run := sample(1)
	run.Cluster, run.Command, run.Operator, run.Slipway, run.Error = hostile, hostile, hostile, hostile, hostile
	run.Result, run.Phases[0].Name, run.Plan = State(hostile), hostile, []byte(`"`+"x"+`"`)
	run.Phases[0].Parts = []Part{{Name: hostile, State: State(hostile), Began: began, Detail: hostile, Phases: []Phase{{Name: hostile, Began: began}}}}
	run.Steps = []Step{
		{Name: hostile, Host: hostile, Kind: Kind(hostile), State: State(hostile), Began: began, Ended: began.Add(time.Second)},
		{
			Name: hostile + "2", Kind: Gate, State: Failed, Began: began, Ended: began.Add(time.Second), Deps: []string{hostile},
			Error: hostile, Changes: []string{hostile}, Notes: []Note{{began, hostile}},
		},
	}
	return run
}

// TestHTMLEscapes shows hostile names and errors as the text that they are.
func TestHTMLEscapes(t *testing.T) {
	root, _ := write(t, hostileRun(), began.Add(time.Minute))
	if n := len(find(root, "script")); n != 1 {
		t.Errorf("%d scripts", n)
	}
	if n := len(find(root, "img")) + len(find(root, "iframe")); n != 0 {
		t.Errorf("%d elements that were not meant", n)
	}
	for n := range root.Descendants() {
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "style" && strings.Contains(a.Val, "display") {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
			if a.Key == "href" && !strings.HasPrefix(a.Val, "#s") {
				t.Errorf("href=%q", a.Val)
			}
		}
	}
	if pre := find(root, "pre"); len(pre) == 0 || !strings.HasPrefix(pre[0].FirstChild.Data, "</script></style></pre><script>") {
		t.Error("the error is not there as text")
	}
}

// TestHTMLShowsParts has what took long in a phase and is no step, with the durations of what it went through.
func TestHTMLShowsParts(t *testing.T) {
	root, _ := write(t, cold(), began.Add(time.Hour))
	for _, want := range []string{
		"✓ etcd v3.6.16 2m30s fetching 54.0s, compiling 1m30s",
		"! kubernetes v1.36.3 6m30s fetching 1m30s, compiling 5m00s: 444 of 1,480 packages",
		"✗ pause 3.10.2 6m30s gcc: exit status 1",
	} {
		if !slices.ContainsFunc(find(root, "li"), func(n *html.Node) bool { return words(n) == want }) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestTimelineCleans(t *testing.T) {
	var out bytes.Buffer
	if err := WriteTimeline(&out, hostileRun(), began.Add(time.Minute), 80, false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\x00\u202e") {
		t.Errorf("control characters get through:\n%q", out.String())
	}
}

func TestWritersGiveErrors(t *testing.T) {
	runs, now := samples(t)
	broken := errors.New("pipe is closed")
	if err := WriteTimeline(failingWriter{broken}, runs["install"], now, 80, false); !errors.Is(err, broken) {
		t.Errorf("timeline: %v", err)
	}
	if err := WriteHTML(failingWriter{broken}, runs["install"], now); !errors.Is(err, broken) {
		t.Errorf("page: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestTracks keeps steps that ran at one time from covering each other.
func TestTracks(t *testing.T) {
	runs, now := samples(t)
	for name, run := range runs {
		for _, group := range newPage(run, now).Groups {
			for _, lane := range group.Lanes {
				for i, a := range lane.Bars {
					for _, b := range lane.Bars[:i] {
						if a.Track == b.Track && a.Began.Before(b.Ended) {
							t.Errorf("%s, %s: %s and %s are both on track %d", name, lane.Host, a.Name, b.Name, a.Track)
						}
					}
				}
			}
		}
	}
}

func TestCriticalPath(t *testing.T) {
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	step := func(name string, from, to int, deps ...string) Step {
		s := Step{Name: name, Deps: deps, Began: at(from)}
		if to > 0 {
			s.Ended = at(to)
		}
		return s
	}
	for name, test := range map[string]struct {
		steps []Step
		want  []string
	}{
		"nothing":        {nil, nil},
		"nothing begun":  {[]Step{{Name: "a"}, {Name: "b", Deps: []string{"a"}}}, nil},
		"a diamond":      {[]Step{step("a", 0, 1), step("b", 1, 5, "a"), step("c", 1, 3, "a"), step("d", 5, 6, "b", "c")}, []string{"a", "b", "d"}},
		"a long loner":   {[]Step{step("a", 0, 1), step("b", 1, 2, "a"), step("c", 0, 9)}, []string{"c"}},
		"one that runs":  {[]Step{step("a", 0, 1), step("b", 1, 0, "a"), step("c", 0, 9)}, []string{"a", "b"}},
		"a circle":       {[]Step{step("a", 0, 1, "b"), step("b", 0, 2, "a")}, []string{"a", "b"}},
		"what is absent": {[]Step{step("a", 0, 1, "gone")}, []string{"a"}},
	} {
		var got []string
		for _, i := range CriticalPath(test.steps) {
			got = append(got, test.steps[i].Name)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// FuzzDecode takes any bytes for a stored run and its steps: they are refused, or can be drawn.
func FuzzDecode(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed, []byte(`[{"name":"a","kind":"gate","deps":["b"]},{"name":"b","changes":["x"]}]`))
	}
	f.Fuzz(func(t *testing.T, content, steps []byte) {
		run, err := decode(content)
		if err != nil {
			return
		}
		if _, err := run.encode(); err != nil {
			t.Fatal(err)
		}
		if run.planned > 0 && run.join(steps) != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteTimeline(&out, run, began, 80, true); err != nil {
			t.Fatal(err)
		}
		if err := WriteHTML(&out, run, began); err != nil {
			t.Fatal(err)
		}
		run.abandon()
		if run.Count(Running, Pending) != 0 {
			t.Errorf("an abandoned run goes on: %s", summary(run))
		}
	})
}
