package main

import (
	"fmt"
	"io"
	"strings"

	"slipway.dev/slipway/provision/diagnose"
	"slipway.dev/slipway/provision/plan"
)

// diagnoseView prints a diagnosis for people.
type diagnoseView struct {
	out  io.Writer
	all  bool   // with symptoms, quiet remarks and passed checks
	file string // the --file argument of commands
	err  error
}

func (v *diagnoseView) printf(format string, args ...any) {
	if v.err == nil {
		_, v.err = fmt.Fprintf(v.out, format, args...)
	}
}

func (v *diagnoseView) print(r *diagnose.Report) {
	looked := fmt.Sprintf("checked %d things on %s", r.Checks, plan.Count(r.Hosts, "host"))
	if r.Healthy {
		v.printf("No problems found (%s).\n", looked)
	} else {
		v.printf("Cluster %s: %s (%s)\n", r.Cluster, plan.Count(len(r.Findings), "problem"), looked)
	}
	for i, f := range r.Findings {
		v.printf("\n%d. ", i+1)
		v.finding(&f, "   ")
	}
	v.infos(r.Infos)
	for _, u := range r.Unknown {
		v.printf("\nUnknown: %s\n", u)
	}
	if v.all && len(r.Passed) > 0 {
		v.printf("\nNot found:\n")
		for _, title := range r.Passed {
			v.printf("  %s\n", title)
		}
	}
}

// finding prints what, evidence and remedy, and below it what follows from it.
func (v *diagnoseView) finding(f *diagnose.Finding, indent string) {
	v.printf("%s\n", title(f))
	v.line(indent, "evidence", f.Evidence)
	v.line(indent, "more", f.More)
	v.line(indent, "remedy", f.Remedy.Text)
	for i, c := range f.Remedy.Commands {
		label := ""
		if f.Remedy.Text == "" && i == 0 {
			label = "remedy"
		}
		v.line(indent, label, c)
	}
	if n := f.Symptoms(); n > 0 && !v.all {
		v.line(indent, "explains", plan.Count(n, "other problem")+" (-v lists them)")
	}
	if v.all {
		v.symptoms(f.Explains, indent)
	}
}

func (v *diagnoseView) symptoms(list []diagnose.Finding, indent string) {
	for _, s := range list {
		v.line(indent, "explains", strings.TrimSuffix(title(&s)+" ("+s.Evidence+")", " ()"))
		v.symptoms(s.Explains, indent+"  ")
	}
}

func title(f *diagnose.Finding) string {
	if f.Host == "" {
		return f.What
	}
	return f.Host + ": " + f.What
}

func (v *diagnoseView) line(indent, label, text string) {
	if text == "" {
		return
	}
	if label != "" {
		label += ":"
	}
	v.printf("%s%-10s%s\n", indent, label, text)
}

func (v *diagnoseView) infos(list []diagnose.Finding) {
	for _, f := range list {
		if f.Quiet && !v.all {
			continue
		}
		v.printf("\nNote: %s\n", title(&f))
		v.line("   ", "evidence", f.Evidence)
		v.line("   ", "more", f.More)
		v.line("   ", "remedy", strings.TrimSpace(f.Remedy.Text+" "+strings.Join(f.Remedy.Commands, "; ")))
	}
}
