package diagnose

import (
	"cmp"
	"slices"
	"strings"
)

// Severity is how a finding relates to others.
type Severity string

// A Cause is explained by no other finding, a Symptom by at least one. Info does not make a cluster
// unwell.
const (
	Cause   Severity = "cause"
	Symptom Severity = "symptom"
	Info    Severity = "info"
)

// Finding is one thing that is wrong. Its JSON form is stable.
type Finding struct {
	// Rule is the name of the rule that found it.
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	// Host is the machine that it is about, and Object what on it or in the API; either may be
	// empty.
	Host   string `json:"host,omitempty"`
	Object string `json:"object,omitempty"`
	// What is wrong, and the Evidence for it, one line each.
	What     string `json:"what"`
	Evidence string `json:"evidence,omitempty"`
	// More is a command that shows more.
	More   string `json:"more,omitempty"`
	Remedy Remedy `json:"remedy,omitzero"`
	// Explains are its symptoms, in the order of the rules; a symptom with several causes is listed
	// below the closest.
	Explains []Finding `json:"explains,omitempty"`
	// Quiet findings are shown only if everything is.
	Quiet bool `json:"quiet,omitempty"`

	// hosts are further machines that it is about: a cause on any of them may explain it.
	hosts []string
	// everywhere means that it may explain symptoms on all machines.
	everywhere bool
}

// Remedy is what to do.
type Remedy struct {
	// Text says it, and Commands do it, in their order; either may be empty.
	Text     string   `json:"text,omitempty"`
	Commands []string `json:"commands,omitempty"`
}

// Rule is one kind of trouble.
type Rule struct {
	// Name is stable. Title says in a few words what is found.
	Name, Title string
	// Find is a pure function.
	Find func(*Evidence) []Finding
	// Explains names the rules whose findings on the same machines follow from one of this rule;
	// from one that concerns the whole cluster, those on all machines. They come later in Rules, so
	// that explanations have no cycle.
	Explains []string
	// Info means that its findings do not make a cluster unwell.
	Info bool
}

// Report is the result of a diagnosis. Its JSON form is stable.
type Report struct {
	Cluster string `json:"cluster"`
	// Healthy is true if there are no Findings.
	Healthy bool `json:"healthy"`
	// Findings are causes, in the order of the rules; Infos are remarks.
	Findings []Finding `json:"findings"`
	Infos    []Finding `json:"infos,omitempty"`
	// Checks is the number of rules, and Passed has the titles of those that found nothing.
	Checks int      `json:"checks"`
	Passed []string `json:"passed,omitempty"`
	// Hosts were looked at; Unknown says what could not be.
	Hosts   int      `json:"hosts"`
	Unknown []string `json:"unknown,omitempty"`
}

// Diagnose applies all rules to the evidence.
func Diagnose(e *Evidence) *Report {
	r := &Report{Cluster: e.Cluster, Findings: []Finding{}, Checks: len(Rules), Hosts: len(e.Hosts), Unknown: e.unknown()}
	var all []Finding
	for _, rule := range Rules {
		found := rule.Find(e)
		if len(found) == 0 {
			r.Passed = append(r.Passed, rule.Title)
		}
		for _, f := range found {
			f.onLines()
			f.Rule, f.Severity = rule.Name, Cause
			if rule.Info {
				f.Severity = Info
			}
			all = append(all, f)
		}
	}
	for _, f := range fold(all) {
		if f.Severity == Info {
			r.Infos = append(r.Infos, f)
		} else {
			r.Findings = append(r.Findings, f)
		}
	}
	r.Healthy = len(r.Findings) == 0
	return r
}

// onLines has each text of a finding on one line, whatever a machine has said: further lines could
// look like a finding of slipway's, with a remedy. A command of several lines is left out.
func (f *Finding) onLines() {
	for _, text := range []*string{&f.What, &f.Evidence, &f.Remedy.Text} {
		*text = shortened(*text, 4*maxLine)
	}
	several := func(command string) bool { return strings.ContainsAny(command, "\r\n") }
	if several(f.More) {
		f.More = ""
	}
	f.Remedy.Commands = slices.DeleteFunc(f.Remedy.Commands, several)
}

// fold puts symptoms below their cause: below the last finding that explains them, which is the
// closest one. all are in the order of the rules.
func fold(all []Finding) []Finding {
	parent := make([]int, len(all))
	for i := range all {
		parent[i] = -1
		for p := i - 1; p >= 0 && parent[i] < 0; p-- {
			if all[p].explains(&all[i]) {
				parent[i] = p
			}
		}
	}
	// From the last to the first: explanations point forward, so what is below a finding is complete.
	for i := len(all) - 1; i >= 0; i-- {
		if p := parent[i]; p >= 0 {
			all[i].Severity = Symptom
			all[p].Explains = append([]Finding{all[i]}, all[p].Explains...)
		}
	}
	var causes []Finding
	for i := range all {
		if parent[i] < 0 {
			causes = append(causes, all[i])
		}
	}
	return causes
}

// explains reports whether a finding explains a later one.
func (f *Finding) explains(symptom *Finding) bool {
	rule := ruleOf(f.Rule)
	if rule == nil || !slices.Contains(rule.Explains, symptom.Rule) || ruleOf(symptom.Rule).Info && f.Severity == Info {
		return false
	}
	on, about := f.touches(), symptom.touches()
	return f.everywhere || len(on) == 0 && len(about) == 0 || slices.ContainsFunc(on, func(h string) bool { return slices.Contains(about, h) })
}

func (f *Finding) touches() []string {
	if f.Host == "" {
		return f.hosts
	}
	return append([]string{f.Host}, f.hosts...)
}

// Symptoms counts everything below a finding.
func (f *Finding) Symptoms() int {
	n := len(f.Explains)
	for i := range f.Explains {
		n += f.Explains[i].Symptoms()
	}
	return n
}

func (f *Finding) String() string {
	return strings.TrimPrefix(cmp.Or(f.Host, f.Object)+": "+f.What, ": ")
}

func ruleOf(name string) *Rule {
	if i := slices.IndexFunc(Rules, func(r Rule) bool { return r.Name == name }); i >= 0 {
		return &Rules[i]
	}
	return nil
}

// unknown says what could not be looked at.
func (e *Evidence) unknown() []string {
	all := slices.Clone(e.API.Partial)
	for _, h := range e.Hosts {
		if h.Reached() && !h.Complete {
			all = append(all, h.Name+": its report was cut off")
		}
	}
	if !e.API.Asked {
		all = append(all, "the cluster has not been installed: only its machines were looked at")
	}
	return all
}
