package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

// planView prints a plan for people.
type planView struct {
	out   io.Writer
	plan  *plan.Plan
	diffs converge.TextDiffs
	all   bool // every change, without counting
	steps bool // the steps, too
	file  string
	err   error // the first of printing
}

// manyAlike is from how many changes of one kind and reason they are counted instead of listed.
const manyAlike = 6

func (v *planView) printf(format string, args ...any) {
	if v.err == nil {
		_, v.err = fmt.Fprintf(v.out, format, args...)
	}
}

func (v *planView) print() {
	p := v.plan
	v.resources()
	switch {
	case len(p.Machines) > 0:
		v.machines()
		return
	case p.Empty():
		if len(p.Held) > 0 {
			v.printf("No changes on the other nodes.\n")
		} else {
			v.printf("No changes. Cluster %s is as %s requires.\n", p.Cluster, v.file)
		}
		v.leftOut()
		return
	}
	for _, g := range v.groups() {
		v.printf("%s\n", strings.Join(g.hosts, ", "))
		v.changes(g.changes)
		v.printf("\n")
	}
	if p.APIError != "" {
		v.printf("cluster\n  ? the API could not be queried (%s); objects and nodes are handled once it answers\n\n", p.APIError)
	}
	if v.steps {
		v.printf("Steps\n")
		for _, s := range p.Steps {
			v.printf("  %s%s\n", s.Name, after(s.Deps))
		}
		v.printf("\n")
	}
	v.disruptions()
	v.leftOut()
	v.printf("Plan: %s.\n", totals(p))
}

func after(deps []string) string {
	if len(deps) == 0 {
		return ""
	}
	return "  (after: " + strings.Join(deps, "; ") + ")"
}

// totals counts what a plan does.
func totals(p *plan.Plan) string {
	var parts []string
	if n := len(p.Resources); n > 0 {
		parts = append(parts, plan.Count(n, "resource")+" to create or change")
	}
	if len(p.Steps) > 0 {
		parts = append(parts, fmt.Sprintf("%s, in %s%s", counts(p.Changes), plan.Count(len(p.Steps), "step"), copies(p.Changes)))
	}
	return strings.Join(parts, "; ")
}

// resources are what the provider creates or changes besides machines.
func (v *planView) resources() {
	if len(v.plan.Resources) == 0 {
		return
	}
	v.printf("Infrastructure\n")
	for _, r := range v.plan.Resources {
		v.printf("  %c %s %s (%s)\n", actionOf(r), r.Kind, r.Name, r.Reason)
	}
	v.printf("\n")
}

// actionOf is what happens to a resource.
func actionOf(r spec.ResourceChange) plan.Action {
	if r.Exists {
		return plan.Update
	}
	return plan.Create
}

func (v *planView) machines() {
	v.printf("Machines\n")
	for _, m := range v.plan.Machines {
		v.printf("  %c %s (%s)\n", m.Action, m.Name, m.Reason)
	}
	v.printf("\nPlan: %s to create or start. Further changes can be planned once they run; apply continues with them.\n",
		plan.Count(len(v.plan.Machines), "machine"))
}

func (v *planView) disruptions() {
	switch {
	case !v.plan.Alive && len(v.plan.Disruptions) == 0:
		v.printf("Disruption: none, the cluster is not up.\n\n")
	case len(v.plan.Disruptions) == 0:
		v.printf("Disruption: none, nothing that runs is restarted.\n\n")
	default:
		v.printf("Disruption\n")
		for _, d := range v.plan.Disruptions {
			v.printf("  %s\n", d)
		}
		v.printf("\n")
	}
}

func (v *planView) leftOut() {
	for _, host := range slices.Sorted(maps.Keys(v.plan.Held)) {
		v.printf("Not changed: %s, since %s.\n\n", host, strings.Join(v.plan.Held[host], "; "))
	}
	if n := len(v.plan.LeftOut); n > 0 {
		hosts, _ := byHost(v.plan.LeftOut)
		v.printf("Excluded by --only: %s on %s.\n\n", plan.Count(n, "change"), strings.Join(clusterNamed(hosts), ", "))
	}
}

// changes lists the changes of a host, or counts those of a kind that are many and alike.
func (v *planView) changes(changes []plan.Change) {
	table := tabwriter.NewWriter(v.out, 0, 0, 2, ' ', 0)
	for _, alike := range chunks(changes) {
		first := alike[0]
		if !v.all && len(alike) >= manyAlike {
			_, _ = fmt.Fprintf(table, "  %c %s\t%s\t%s\n", first.Action, first.Kind, plan.Count(len(alike), string(first.Kind)), first.Reason+copies(alike))
			continue
		}
		for _, c := range alike {
			_, _ = fmt.Fprintf(table, "  %c %s\t%s\t%s\n", c.Action, c.Kind, c.Name, c.Reason+copies([]plan.Change{c}))
			if text := v.detail(c); text != "" {
				_ = table.Flush() // a new table begins below the text
				v.printf("%s", text)
			}
		}
	}
	if err := table.Flush(); err != nil && v.err == nil {
		v.err = err
	}
}

const detailIndent = "      "

// detail is the text of a change for --diff.
func (v *planView) detail(c plan.Change) string {
	if v.diffs == nil {
		return ""
	}
	if c.Secret && c.Action != plan.Delete {
		return fmt.Sprintf(detailIndent+"secret, %s, %s → %s\n", c.Mode, digestOf(c.From), digestOf(c.To))
	}
	text := v.diffs.Of(c)
	if strings.Contains(text, "-----BEGIN ") { // PEM is not for people
		return fmt.Sprintf(detailIndent+"%s → %s\n", digestOf(c.From), digestOf(c.To))
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(detailIndent + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// copies says how much has to be copied to hosts, and how much is freed there: ", 412 MB to copy, 80 MB
// to free", or nothing.
func copies(changes []plan.Change) string {
	var copied, freed int64
	for _, c := range changes {
		copied += c.Copy
		freed += c.Frees
	}
	text := ""
	if copied > 0 {
		text += fmt.Sprintf(", %d MB to copy", (copied+1<<20-1)>>20)
	}
	if freed > 0 {
		text += fmt.Sprintf(", %d MB to free", (freed+1<<20-1)>>20)
	}
	return text
}

func digestOf(digest string) string {
	if digest == "" {
		return "nothing"
	}
	return "sha256 " + digest[:min(len(digest), 8)] + "…"
}

// chunks are runs of changes with the same action, kind and reason. Those of files and programs are
// ordered by kind first.
func chunks(changes []plan.Change) [][]plan.Change {
	sorted := slices.Clone(changes)
	slices.SortStableFunc(sorted, func(a, b plan.Change) int {
		return strings.Compare(string(a.Kind)+a.Reason, string(b.Kind)+b.Reason)
	})
	var all [][]plan.Change
	for _, c := range sorted {
		if n := len(all); n > 0 && all[n-1][0].Kind == c.Kind && all[n-1][0].Action == c.Action && all[n-1][0].Reason == c.Reason {
			all[n-1] = append(all[n-1], c)
			continue
		}
		all = append(all, []plan.Change{c})
	}
	return all
}

// group is hosts with the same changes, for the same reasons.
type group struct {
	hosts   []string
	changes []plan.Change
}

func (v *planView) groups() []group {
	hosts, of := byHost(v.plan.Changes)
	var all []group
	at := map[string]int{}
	for _, h := range hosts {
		name := h
		if h == "" {
			name = "cluster"
		}
		key := v.signature(of[h])
		if i, ok := at[key]; ok {
			all[i].hosts = append(all[i].hosts, name)
			continue
		}
		at[key] = len(all)
		all = append(all, group{[]string{name}, bookkept(of[h])})
	}
	return all
}

// signature is everything that is shown of a host.
func (v *planView) signature(changes []plan.Change) string {
	var b strings.Builder
	for _, c := range changes {
		name := c.Name
		if c.Kind == plan.NodeChange || c.Kind == plan.MemberChange {
			name = "" // the host's own
		}
		_, _ = fmt.Fprintf(&b, "%c%s %s %s%s\n%s", c.Action, c.Kind, name, c.Reason, copies([]plan.Change{c}), v.detail(c))
	}
	return b.String()
}

// bookkept leaves out slipway's own list of the files that it owns, which changes with everything
// else, unless it is the only change.
func bookkept(changes []plan.Change) []plan.Change {
	if len(changes) == 1 {
		return changes
	}
	return slices.DeleteFunc(slices.Clone(changes), plan.Change.Bookkeeping)
}

// counts returns a summary: "3 to create, 2 to change, 1 to restart".
func counts(changes []plan.Change) string {
	words := []struct {
		action plan.Action
		word   string
	}{
		{plan.Create, "create"},
		{plan.Update, "change"},
		{plan.Restart, "restart"},
		{plan.Delete, "delete"},
		{plan.Await, "wait for"},
	}
	var parts []string
	for _, w := range words {
		n := 0
		for _, c := range changes {
			if c.Action == w.action && !c.Bookkeeping() {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n, w.word))
		}
	}
	if len(parts) == 0 {
		return "nothing to change on hosts"
	}
	return strings.Join(parts, ", ")
}
