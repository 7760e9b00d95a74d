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

// PlanVersion is the version of a Plan's JSON. It changes if a reader of the previous version would
// misread it.
const PlanVersion = "slipway.dev/plan/v1"

// Plan is what apply would do, as a value: it can be printed, compared and saved, and is carried
// out exactly or not at all. It holds digests of secrets and no secret.
type Plan struct {
	Version string    `json:"version"` // PlanVersion
	Cluster string    `json:"cluster"`
	Created time.Time `json:"created"`
	// Slipway is the version that made the plan.
	Slipway string `json:"slipway"`
	// Machines to create or start first. Hosts that do not run cannot be observed: with any, the
	// rest is empty.
	Machines []MachineChange `json:"machines,omitempty"`
	// Resources are what the provider creates or changes besides machines.
	Resources []spec.ResourceChange `json:"resources,omitempty"`
	// Alive means that the cluster is up and is changed in a rolling manner.
	Alive bool `json:"alive"`
	// APIError says why the API was not queried or did not answer: then differences there are unknown.
	APIError string `json:"unasked,omitempty"`
	// Held are the hosts that this run must not change, with the reasons; nothing below is theirs.
	Held map[string][]string `json:"held,omitempty"`
	// Changes by host, kind and name.
	Changes []Change `json:"changes"`
	// LeftOut are changes that --only excludes.
	LeftOut []Change `json:"leftOut,omitempty"`
	// Steps carry out the changes, in an order that would also work one by one.
	Steps []Step `json:"steps"`
	// Disruptions that the steps will cause.
	Disruptions []Disruption `json:"disruptions"`
	// Basis is what apply needs to do exactly this; only a saved plan has it.
	Basis *Basis `json:"basis,omitempty"`
}

// MachineChange is a machine to create or start.
type MachineChange struct {
	Name   string `json:"name"`
	Action Action `json:"action"`
	Reason string `json:"reason"`
}

// Basis is the input of a saved plan.
type Basis struct {
	// SpecFile is the path of the spec, absolute since the state may lie relative to it, or "-" for
	// the standard input; Spec is the resolved spec.
	SpecFile string          `json:"specFile"`
	Spec     json.RawMessage `json:"spec"`
	// Only are the hosts that the plan is restricted to; empty is all.
	Only []string `json:"only,omitempty"`
	// AllowPluginChange means that changing the network plugin of a cluster that has been up was
	// allowed.
	AllowPluginChange bool `json:"allowPluginChange,omitempty"`
	// Ignore are the preflight checks that were left out.
	Ignore []string `json:"ignore,omitempty"`
	// Unissued means that certificates are not issued yet, so that digests of files that depend on
	// them are unknown.
	Unissued bool `json:"unissued,omitempty"`
	// Observed is the observed state of the hosts.
	Observed stack.State `json:"observed"`
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool {
	return len(p.Machines) == 0 && len(p.Resources) == 0 && len(p.Steps) == 0
}

// MarshalJSON writes lists that are empty as [], so that readers need no case for null.
func (p Plan) MarshalJSON() ([]byte, error) {
	type plain Plan
	if p.Changes == nil {
		p.Changes = []Change{}
	}
	if p.Steps == nil {
		p.Steps = []Step{}
	}
	if p.Disruptions == nil {
		p.Disruptions = []Disruption{}
	}
	return json.Marshal(plain(p))
}

// NewPlan schedules a situation.
func NewPlan(cluster string, s Situation) *Plan {
	steps := Schedule(s)
	return &Plan{
		Version: PlanVersion, Cluster: cluster, Alive: s.Alive, APIError: s.APIError, Held: s.Held,
		Changes: s.Changes, Steps: steps, Disruptions: Disruptions(s, steps),
	}
}

// ReadPlan parses a saved plan.
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
		return nil, errors.New("the plan lacks its basis: only a file that `slipway plan -o FILE` wrote can be applied, not the output of --output json")
	}
	return &p, nil
}

// IsPlan reports whether text is the JSON of a plan, in any version of its format.
func IsPlan(text []byte) bool { return strings.HasPrefix(versionOf(text), path.Dir(PlanVersion)+"/") }

// versionOf returns the version in a JSON text; "" if it has none or is not JSON.
func versionOf(text []byte) string {
	var v struct {
		Version string `json:"version"`
	}
	if json.Unmarshal(text, &v) != nil {
		return ""
	}
	return v.Version
}

// Cluster parses and checks the spec that the plan was made for.
func (b *Basis) Cluster(checks ...spec.Check) (*spec.Cluster, error) {
	return spec.Parse(b.SpecFile, b.Spec, checks...)
}

// Moved lists what has changed since the plan was made: on the hosts, in the API, and in what
// slipway would do about it. If it is empty, an apply now does exactly what the plan says.
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
	moved = differences(p.circumstances(), now.circumstances(), func(key, was, is string) string {
		return fmt.Sprintf("%s: was %s, is %s", key, was, is)
	})
	return append(moved, differences(p.resources(), now.resources(), func(key, was, is string) string {
		return fmt.Sprintf("%s: the plan has %s, today it would be %s", key, was, is)
	})...)
}

// resources returns what the provider creates or changes, with the reasons.
func (p *Plan) resources() map[string]string {
	all := map[string]string{}
	for _, r := range p.Resources {
		action := Create
		if r.Exists {
			action = Update
		}
		all[r.Kind+" "+r.Name] = fmt.Sprintf("%s (%s)", actionNames[action], r.Reason)
	}
	return all
}

// circumstances are the other values that determine what an apply does.
func (p *Plan) circumstances() map[string]string {
	all := map[string]string{
		"the cluster: alive": fmt.Sprint(p.Alive), "the API: unreachable": fmt.Sprint(p.APIError != ""), "slipway: version": p.Slipway,
	}
	for _, s := range p.Steps {
		all["step "+s.Name] = "after " + strings.Join(s.Deps, ", ")
	}
	return all
}

// wishes returns the changes by what they are about.
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

// seen flattens what was observed on hosts and in etcd, without values that change by themselves.
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
		facts.FreeBytes, facts.DiskBytes, facts.Clock, facts.Superseded = 0, 0, stack.Clock{}, nil
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

// short returns a digest in a form that people can compare.
func short(digest string) string {
	if len(digest) == 64 && !strings.Contains(digest, "/") {
		return "sha256 " + digest[:12]
	}
	return digest
}
