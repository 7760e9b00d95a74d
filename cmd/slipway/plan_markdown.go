package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/plan"
)

// markdownOutput is the value of --output that only plan has.
const markdownOutput = "markdown"

// commentLimit is how long the Markdown of a plan may be, in bytes: GitHub accepts comments of
// 65,536 characters.
const commentLimit = 60_000

// manyHosts is how many hosts are named in one place; the others are counted.
const manyHosts = 8

// planMarkdown writes a plan as GitHub Flavored Markdown, for a pull request's comment. All text
// from hosts, the API and the spec passes through mdText or mdCode.
type planMarkdown struct {
	planView
	text strings.Builder
}

func (v *planMarkdown) print() {
	p := v.plan
	v.line("### Plan for cluster %s", mdCode(p.Cluster))
	v.line("")
	v.summary()
	v.held()
	if len(p.Machines) == 0 && !p.Empty() {
		v.disruptions()
	}
	v.leftOut()
	v.details()
	v.printf("%s", v.text.String())
}

func (v *planMarkdown) line(format string, args ...any) { fmt.Fprintf(&v.text, format+"\n", args...) }

// summary is one line, and the machines to create first.
func (v *planMarkdown) summary() {
	p := v.plan
	defer v.resourceTable()
	switch {
	case len(p.Machines) > 0:
		v.line("**%s to create or start.** Further changes can be planned once they run; apply continues with them.", plan.Count(len(p.Machines), "machine"))
		v.line("")
		v.line("| action | machine | reason |\n|---|---|---|")
		for _, m := range p.Machines {
			v.line("| %s | %s | %s |", actionWord(m.Action), mdCode(m.Name), mdText(m.Reason))
		}
	case p.Empty() && len(p.Held) > 0:
		v.line("**No changes on the other nodes.**")
	case p.Empty():
		v.line("**No changes.** The cluster is as %s requires.", mdCode(v.file))
	default:
		drift := ""
		if n := driftOf(p.Changes); n > 0 {
			drift = fmt.Sprintf(" Drift: %s that slipway did not make.", plan.Count(n, "change"))
		}
		v.line("**%s.**%s", totals(p), drift)
	}
	if p.APIError != "" {
		v.line("\nThe API could not be queried (%s); objects and nodes are handled once it answers.", mdText(p.APIError))
	}
}

// resourceTable is what the provider creates or changes besides machines.
func (v *planMarkdown) resourceTable() {
	if len(v.plan.Resources) == 0 {
		return
	}
	v.line("\n| action | resource | reason |\n|---|---|---|")
	for _, r := range v.plan.Resources {
		v.line("| %s | %s %s | %s |", actionWord(actionOf(r)), r.Kind, mdCode(r.Name), mdText(r.Reason))
	}
}

// driftOf counts the changes that are drift.
func driftOf(changes []plan.Change) int {
	n := 0
	for _, c := range changes {
		if c.Cause == plan.Drift && !c.Bookkeeping() {
			n++
		}
	}
	return n
}

func (v *planMarkdown) held() {
	if len(v.plan.Held) == 0 {
		return
	}
	v.line("\n**Not changed**\n")
	for _, host := range slices.Sorted(maps.Keys(v.plan.Held)) {
		v.line("- %s: %s", mdCode(host), mdText(strings.Join(v.plan.Held[host], "; ")))
	}
}

func (v *planMarkdown) disruptions() {
	switch d := v.plan.Disruptions; {
	case len(d) == 0 && !v.plan.Alive:
		v.line("\n**Disruption**: none, the cluster is not up.")
		return
	case len(d) == 0:
		v.line("\n**Disruption**: none, nothing that runs is restarted.")
		return
	}
	v.line("\n**Disruption**\n")
	for _, d := range v.plan.Disruptions {
		text := mdText(d.What)
		if len(d.Hosts) > 0 {
			text += " on " + mdHosts(d.Hosts)
		}
		if d.How != "" {
			text += ", " + mdText(d.How)
		}
		v.line("- %s: %s", text, mdText(d.Effect))
	}
}

func (v *planMarkdown) leftOut() {
	if n := len(v.plan.LeftOut); n > 0 {
		hosts, _ := byHost(v.plan.LeftOut)
		v.line("\n**Excluded by --only**: %s on %s.", plan.Count(n, "change"), mdHosts(clusterNamed(hosts)))
	}
}

// clusterNamed returns a name for changes that belong to no host.
func clusterNamed(hosts []string) []string {
	named := slices.Clone(hosts)
	for i, h := range named {
		if h == "" {
			named[i] = "the cluster's API"
		}
	}
	return named
}

// details are folded: one section per group of hosts, as many as fit into a comment, and the steps.
func (v *planMarkdown) details() {
	if len(v.plan.Machines) > 0 {
		return
	}
	left := 0
	for _, g := range v.groups() {
		text := fmt.Sprintf("\n<details><summary>%s: %s</summary>\n\n%s\n</details>\n", mdHosts(g.hosts), counts(g.changes), v.table(g.changes))
		if v.text.Len()+len(text) > commentLimit {
			left += len(g.hosts)
			continue
		}
		v.text.WriteString(text)
	}
	if left > 0 {
		v.line("\nThe changes of %s do not fit here: `slipway plan` shows them.", plan.Count(left, "more host"))
	}
	if !v.steps || len(v.plan.Steps) == 0 {
		return
	}
	var steps strings.Builder
	for _, s := range v.plan.Steps {
		fmt.Fprintf(&steps, "1. %s\n", mdText(s.Name+after(s.Deps)))
	}
	if v.text.Len()+steps.Len() < commentLimit {
		v.line("\n<details><summary>Steps</summary>\n\n%s\n</details>", steps.String())
	}
}

// table lists the changes of a host, counts those of a kind that are many and alike, and adds the
// text diffs of --diff.
func (v *planMarkdown) table(changes []plan.Change) string {
	var rows, diffs strings.Builder
	rows.WriteString("| action | kind | name | reason |\n|---|---|---|---|\n")
	for _, alike := range chunks(changes) {
		first := alike[0]
		if !v.all && len(alike) >= manyAlike {
			fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", actionWord(first.Action), mdText(string(first.Kind)),
				mdText(plan.Count(len(alike), string(first.Kind))), mdText(first.Reason+copies(alike)))
			continue
		}
		for _, c := range alike {
			fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", actionWord(c.Action), mdText(string(c.Kind)), mdCode(c.Name), mdText(c.Reason+copies([]plan.Change{c})))
			if text := v.detail(c); text != "" {
				fmt.Fprintf(&diffs, "\n%s\n\n%s", mdCode(c.Name), mdFence(text))
			}
		}
	}
	return rows.String() + diffs.String()
}

// actionWord is an action as in JSON: create, update, delete, restart, await.
func actionWord(a plan.Action) string {
	word, err := a.MarshalText()
	if err != nil {
		return mdCode(string(a))
	}
	return string(word)
}

// mdHosts names hosts, and counts them if they are many.
func mdHosts(hosts []string) string {
	var names []string
	for _, h := range hosts[:min(len(hosts), manyHosts)] {
		names = append(names, mdCode(h))
	}
	text := strings.Join(names, ", ")
	if more := len(hosts) - manyHosts; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// mdCode returns text set as code, unchanged. HTML code takes any text, while a code span would end
// at a pipe of a table.
func mdCode(text string) string { return "<code>" + mdEntities(text, "<!-- -->") + "</code>" }

// mdText returns text so that nothing in it becomes Markdown, HTML, a mention or a reference.
func mdText(text string) string { return mdEntities(text, "&#8203;") }

// mdEntities replaces everything that could mean something in Markdown, in HTML or to GitHub by
// entities, which are always text. The patterns that GitHub looks for in the finished page (@name,
// #1) are broken by the character after the sign.
func mdEntities(text, broken string) string {
	text = escaped(strings.NewReplacer("\n", `\n`, "\t", " ").Replace(text))
	var b strings.Builder
	for i, r := range text {
		before, after := text[:i], text[i+len(string(r)):]
		word := strings.Trim(before, "0123456789") != "" // otherwise a list could begin here
		switch {
		case r >= 0x80, r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', strings.ContainsRune(",/%;?(", r),
			r == ' ' && strings.TrimSpace(before) != "", strings.ContainsRune("-+=)", r) && word, r == ':' && !strings.HasPrefix(after, "/"),
			r == '.' && word && !strings.HasSuffix(strings.ToLower(before), "www"):
			b.WriteRune(r)
		case r == '@' || r == '#':
			fmt.Fprintf(&b, "&#%d;%s", r, broken)
		default:
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}

// mdFence returns the text of planView.detail as a code block that nothing in it ends: its fence is
// longer than any run of backticks in it.
func mdFence(detail string) string {
	var b strings.Builder
	for line := range strings.Lines(detail) {
		b.WriteString(strings.TrimPrefix(line, detailIndent))
	}
	text, fence := b.String(), "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + "diff\n" + strings.TrimRight(text, "\n") + "\n" + fence + "\n"
}
