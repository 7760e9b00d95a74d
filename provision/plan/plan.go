package plan

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// PlanVersion is that of a Plan's JSON. It changes when a reader of the version before would misread it.
const PlanVersion = "slipway.dev/plan/v1"

// Plan is what apply would do, as a value: it can be printed, compared, saved, and carried out to the letter or not at
// all. It holds digests of secrets and no secret.
type Plan struct {
	Version string    `json:"version"` // PlanVersion
	Cluster string    `json:"cluster"`
	Created time.Time `json:"created"`
	// Slipway is the version that made it.
	Slipway string `json:"slipway"`
	// Machines that have to be made or started first. Hosts that do not run cannot be observed: with any, the rest is empty.
	Machines []MachineChange `json:"machines,omitempty"`
	// Alive says that the cluster lives, and is changed in a rolling manner.
	Alive bool `json:"alive"`
	// APIError says why the API was not queried or did not answer: then differences there are unknown.
	APIError string `json:"unasked,omitempty"`
	// Held are hosts that are left alone, with the reasons; nothing below is theirs.
	Held map[string][]string `json:"held,omitempty"`
	// Changes by host, kind and name.
	Changes []Change `json:"changes"`
	// LeftOut are changes that --only excludes.
	LeftOut []Change `json:"leftOut,omitempty"`
	// Steps carry out the changes, in an order in which they could be done one by one.
	Steps []Step `json:"steps"`
	// Disruptions that the steps will cause.
	Disruptions []Disruption `json:"disruptions"`
	// Basis is what apply needs to do exactly this; only in a plan that was saved.
	Basis *Basis `json:"basis,omitempty"`
}

// MachineChange is a machine that has to be made or started.
type MachineChange struct {
	Name   string `json:"name"`
	Action Action `json:"action"`
	Reason string `json:"reason"`
}

// Basis is what a saved plan was made from.
type Basis struct {
	// SpecFile is where the spec was read, absolute since the state may lie relative to it, or "-" for the standard input;
	// Spec is the resolved spec.
	SpecFile string          `json:"specFile"`
	Spec     json.RawMessage `json:"spec"`
	// Only are the hosts that the plan is restricted to; empty is all.
	Only []string `json:"only,omitempty"`
	// AllowPluginChange says that it was allowed to change the network plugin of a cluster that has been up.
	AllowPluginChange bool `json:"allowPluginChange,omitempty"`
	// Unissued says that certificates have yet to be issued, so that digests of files that follow from them are not known.
	Unissued bool `json:"unissued,omitempty"`
	// Observed is what was on the hosts.
	Observed stack.State `json:"observed"`
}

// Empty says that there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Machines) == 0 && len(p.Steps) == 0 }

// NewPlan schedules a situation.
func NewPlan(cluster string, s Situation) *Plan {
	steps := Schedule(s)
	return &Plan{
		Version: PlanVersion, Cluster: cluster, Alive: s.Alive, APIError: s.APIError, Held: s.Held,
		Changes: s.Changes, Steps: steps, Disruptions: Disruptions(s, steps),
	}
}

// ReadPlan reads a plan that was saved.
func ReadPlan(text []byte) (*Plan, error) {
	version := versionOf(text)
	if version == "" {
		return nil, errors.New("this is not a plan: make one with `slipway plan -o FILE`")
	}
	if version != PlanVersion {
		return nil, fmt.Errorf("the plan has format %q, and this slipway knows %q: plan again", version, PlanVersion)
	}
	var p Plan
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("the plan is damaged: %w: plan again", err)
	}
	if p.Basis == nil {
		return nil, errors.New("the plan lacks what it was made from: only what `slipway plan -o FILE` has written can be applied, not the output of --output json")
	}
	return &p, nil
}

// IsPlan says whether text is the JSON of a plan, in whatever version of its format.
func IsPlan(text []byte) bool { return strings.HasPrefix(versionOf(text), path.Dir(PlanVersion)+"/") }

// versionOf is the version that JSON says it has; empty where it has none, or is no JSON.
func versionOf(text []byte) string {
	var v struct {
		Version string `json:"version"`
	}
	if json.Unmarshal(text, &v) != nil {
		return ""
	}
	return v.Version
}

// Cluster reads the spec that the plan was made for, and has it checked.
func (b *Basis) Cluster(checks ...spec.Check) (*spec.Cluster, error) {
	return spec.Parse(b.SpecFile, b.Spec, checks...)
}

// Moved names what is not as it was when the plan was made: on the hosts, in the API, and in what slipway would do
// about it. None means that carrying out now is exactly what the plan says.
func (p *Plan) Moved(observed stack.State, now *Plan) []string {
	moved := differences(seen(p.Basis.Observed), seen(observed), func(key, was, is string) string {
		return fmt.Sprintf("%s: was %s, is %s", key, was, is)
	})
	if len(moved) > 0 {
		return moved
	}
	then, today := p.wishes(p.Changes), p.wishes(now.Changes)
	moved = differences(then, today, func(key, was, is string) string {
		return fmt.Sprintf("%s: the plan says %s, today it would be %s", key, was, is)
	})
	if len(moved) > 0 {
		return moved
	}
	return differences(p.circumstances(), now.circumstances(), func(key, was, is string) string {
		return fmt.Sprintf("%s: was %s, is %s", key, was, is)
	})
}

// circumstances are what else decides about what would be done.
func (p *Plan) circumstances() map[string]string {
	all := map[string]string{
		"the cluster: alive": fmt.Sprint(p.Alive), "the API: asked in vain": fmt.Sprint(p.APIError != ""), "slipway: version": p.Slipway,
	}
	for _, s := range p.Steps {
		all["step "+s.Name] = "after " + strings.Join(s.Deps, ", ")
	}
	return all
}

// wishes are the changes by what they are of.
func (p *Plan) wishes(changes []Change) map[string]string {
	all := map[string]string{}
	for _, c := range changes {
		to := short(c.To)
		if p.Basis.Unissued && (c.Kind == FileChange || c.Kind == UnitChange) {
			to = ""
		}
		if c.Kind == ObjectChange {
			to = short(c.From) + " → " + to
		}
		all[fmt.Sprintf("%s: %s %s", cmp.Or(c.Host, "cluster"), c.Kind, c.Name)] = strings.TrimSpace(actionNames[c.Action] + " " + to)
	}
	return all
}

// seen flattens what was observed on hosts and in etcd; what changes by itself, or by the clock, is left out.
func seen(s stack.State) map[string]string {
	all := map[string]string{}
	for host, h := range s.Hosts {
		put := func(kind Kind, name, value string) { all[fmt.Sprintf("%s: %s %s", host, kind, name)] = value }
		for p, f := range h.Files {
			put(FileChange, p, fmt.Sprintf("%s %s %s", f.Mode, f.Owner, short(f.Digest)))
		}
		for name, u := range h.Units {
			put(UnitChange, name, fmt.Sprintf("active %t, enabled %t, with inputs %s", u.Active, u.Enabled, u.Inputs))
		}
		for key, value := range h.Sysctls {
			put(SysctlChange, key, value)
		}
		for name, loaded := range h.Modules {
			put(ModuleChange, name, fmt.Sprintf("loaded %t", loaded))
		}
		for name := range h.Accounts {
			put(AccountChange, name, "there")
		}
		for ref := range h.Images {
			put(ImageChange, ref, "there")
		}
		facts := h.Facts
		facts.FreeBytes, facts.DiskBytes, facts.Clock = 0, 0, stack.Clock{}
		put("host", "facts", fmt.Sprintf("%+v", facts))
	}
	for name, m := range s.Members {
		all[fmt.Sprintf("%s: %s", name, MemberChange)] = fmt.Sprintf("at %s, healthy %t", m.PeerURL, m.Healthy)
	}
	return all
}

func differences(then, now map[string]string, say func(key, was, is string) string) []string {
	keys := maps.Clone(then)
	maps.Copy(keys, now)
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if was, is := then[key], now[key]; was != is {
			lines = append(lines, say(key, cmp.Or(was, "nothing"), cmp.Or(is, "nothing")))
		}
	}
	return lines
}

// short is a digest as people compare them.
func short(digest string) string {
	if len(digest) == 64 && !strings.Contains(digest, "/") {
		return "sha256 " + digest[:12]
	}
	return digest
}
