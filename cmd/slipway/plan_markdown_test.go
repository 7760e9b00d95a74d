package main

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/testing/fixture"
)

func markdownOf(t *testing.T, v planView) string {
	t.Helper()
	var out bytes.Buffer
	v.out, v.file = &out, "cluster.yaml"
	md := planMarkdown{planView: v}
	if md.print(); md.err != nil {
		t.Fatal(md.err)
	}
	return out.String()
}

func TestPlanMarkdown(t *testing.T) {
	held := &plan.Plan{Cluster: "demo", Alive: true, Held: map[string][]string{"demo-cp-2": {"its machine is gone"}}}
	for name, v := range map[string]planView{
		"plan-markdown":           {plan: samplePlan()},
		"plan-markdown-all":       {plan: samplePlan(), all: true, steps: true, diffs: converge.TextDiffs{}},
		"plan-markdown-none":      {plan: &plan.Plan{Cluster: "demo", Alive: true}},
		"plan-markdown-held":      {plan: held},
		"plan-markdown-resources": {plan: &plan.Plan{Cluster: "demo", Alive: true, Resources: sampleResources}},
		"plan-markdown-machines": {plan: &plan.Plan{Cluster: "demo", Resources: sampleResources[:1], Machines: []plan.MachineChange{
			{Name: "demo-cp-1", Action: plan.Create, Reason: "does not exist"},
		}}},
		"plan-markdown-unasked": {plan: &plan.Plan{Cluster: "demo", APIError: "no API server runs", Steps: []plan.Step{{Name: "cluster: wait for the API"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := markdownOf(t, v)
			fixture.Golden(t, name+".golden", got)
			if strings.Contains(got, strings.Repeat("ab", 8)) {
				t.Error("more of a secret's digest is shown than is needed")
			}
		})
	}
}

// hostileMarkdown are texts that would leave their place, or become something else than text.
var hostileMarkdown = []string{
	"a | b", `a \| b`, "a `b` | c", "a\nb\r\nc", "\n\n# title", "</summary></details><script>alert(1)</script>", "<!-- x", "a --> b", "&lt;b&gt;", "&#64;x",
	"![x](https://example.com/x.png)", "[x](javascript:alert(1))", "https://example.com", "www.example.com", "mailto:a@example.com", "@everyone", "#1", "o/r#1",
	"*a* _b_ ~~c~~ **d**", "$a$", "- a", "+ a", "1. a", "1) a", "> a", "    a", "===", "```\na\n```", "~~~", `a\`, "\x1b[31m\u202e\xff", "{{ a }}", "foo@bar.service",
}

// entities are those that mdEntities writes, and what it breaks mentions with.
var entities = regexp.MustCompile(`&#[0-9]+;`)

// TestMarkdownKeepsText: nothing but letters, digits and signs without a meaning stands outside entities, and what is read is
// what was written.
func TestMarkdownKeepsText(t *testing.T) {
	for _, text := range hostileMarkdown {
		got := mdText(text)
		if left := entities.ReplaceAllString(got, ""); strings.ContainsAny(left, "|`<>&[]*_~$!\\#@\n\r\"'{}^\x1b\u202e") || strings.Contains(left, "://") {
			t.Errorf("%q becomes %q", text, got)
		}
		if strings.HasPrefix(got, " ") || strings.HasPrefix(got, "-") || strings.HasPrefix(got, "1.") {
			t.Errorf("a block could begin with %q", got)
		}
		read := strings.ReplaceAll(html.UnescapeString(got), "\u200b", "")
		if want := escaped(strings.NewReplacer("\n", `\n`, "\t", " ").Replace(text)); read != want {
			t.Errorf("%q is read as %q", text, read)
		}
		code := mdCode(text)
		inner, ok := strings.CutSuffix(strings.TrimPrefix(code, "<code>"), "</code>")
		if inner = strings.ReplaceAll(inner, "&#64;<!-- -->", ""); !ok || strings.ContainsAny(strings.ReplaceAll(inner, "&#35;<!-- -->", ""), "<>|`\n") {
			t.Errorf("%q becomes %q", text, code)
		}
	}
}

// TestMarkdownOfHostileNames: each row of a table stays one, with its cells, and what is folded ends where it should.
func TestMarkdownOfHostileNames(t *testing.T) {
	for _, text := range hostileMarkdown {
		got := markdownOf(t, planView{all: true, steps: true, plan: &plan.Plan{
			Cluster: text, Alive: true, APIError: text, Held: map[string][]string{text: {text}}, Steps: []plan.Step{{Name: text, Deps: []string{text}}},
			Changes:     []plan.Change{{Host: text, Kind: plan.FileChange, Name: text, Action: plan.Update, Cause: plan.Drift, Reason: text}},
			Disruptions: []plan.Disruption{{What: text, Hosts: []string{text}, How: text, Effect: text}},
			LeftOut:     []plan.Change{{Host: text}},
			Resources:   []spec.ResourceChange{{Kind: "network", Name: text, Reason: text}},
		}})
		for line := range strings.Lines(got) {
			if strings.HasPrefix(line, "| update ") && strings.Count(line, "|") != 5 || strings.HasPrefix(line, "| create ") && strings.Count(line, "|") != 4 {
				t.Errorf("of %q the row is %q", text, line)
			}
		}
		if strings.Count(got, "| update ") != 1 || strings.Count(got, "<details>") != 2 || strings.Count(got, "\n\n</details>\n") != 2 || strings.Contains(got, "<script") {
			t.Errorf("of %q the plan is\n%s", text, got)
		}
	}
}

func TestMarkdownFence(t *testing.T) {
	text := detailIndent + "+a\n" + detailIndent + "+````\n"
	if got, want := mdFence(text), "`````diff\n+a\n+````\n`````\n"; got != want {
		t.Errorf("the fence is %q, want %q", got, want)
	}
}

// TestMarkdownFitsAComment: what does not fit is counted, and what matters most stays.
func TestMarkdownFitsAComment(t *testing.T) {
	p := &plan.Plan{Cluster: "demo", Alive: true, Steps: []plan.Step{{Name: "a"}}}
	var all []string
	for i := range 1000 {
		host := fmt.Sprintf("demo-worker-%d", i)
		all = append(all, host)
		p.Changes = append(p.Changes, plan.Change{
			Host: host, Kind: plan.FileChange, Name: fmt.Sprintf("/etc/%d", i), Action: plan.Create, Reason: "missing",
		})
	}
	p.Disruptions = []plan.Disruption{{What: "kubelet restarts", Hosts: all, Effect: "none"}}
	got := markdownOf(t, planView{plan: p, steps: true})
	shown := strings.Count(got, "<summary><code>demo-worker-")
	rest := fmt.Sprintf("The changes of %d more hosts do not fit here", 1000-shown)
	if len(got) > 65536 || shown < 100 || !strings.Contains(got, rest) {
		t.Errorf("%d bytes with %d hosts, without %q", len(got), shown, rest)
	}
	if !strings.Contains(got, "<code>demo-worker-7</code> and 992 more: none") {
		t.Error("the disruption does not name its hosts in short")
	}
}
