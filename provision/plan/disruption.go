package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Disruption is an effect of an apply that users can notice while it runs.
type Disruption struct {
	// What happens, for example "kube-apiserver restarts".
	What string `json:"what"`
	// Hosts on which it happens, and How they follow one another.
	Hosts []string `json:"hosts,omitempty"`
	How   string   `json:"how,omitempty"`
	// Effect on what runs in the cluster.
	Effect string `json:"effect"`
}

func (d Disruption) String() string {
	text := d.What
	if len(d.Hosts) > 0 {
		text += " on " + strings.Join(d.Hosts, ", ")
	}
	if d.How != "" {
		text += ", " + d.How
	}
	return text + ": " + d.Effect
}

// Disruptions predicts what the steps of a situation will disturb. If there has never been a
// cluster, that is nothing.
func Disruptions(s Situation, steps []Step) []Disruption {
	if !s.Alive && !s.Initialized {
		return nil
	}
	var all []Disruption
	for _, row := range stack.Units() {
		for _, action := range []Action{Restart, Delete} {
			if hosts := hostsOf(steps, UnitChange, row.Name, action); len(hosts) > 0 && row.Disturbs != "" {
				all = append(all, s.unit(row, action, hosts))
			}
		}
	}
	for _, row := range stack.Clients() {
		if hosts := hostsOf(steps, FileChange, row.Cert, Update); len(hosts) > 0 && row.Disturbs != "" {
			unit := strings.TrimSuffix(row.Unit, ".service")
			all = append(all, Disruption{What: unit + " connects with a new client certificate", Hosts: hosts, Effect: row.Disturbs})
		}
	}
	for _, step := range steps {
		for _, c := range step.Changes {
			all = append(all, inAPI(c)...)
		}
	}
	all = append(all, s.replaced(steps)...)
	if s.Roll != nil {
		all = append(all, s.Roll.disruptions()...)
	}
	return all
}

// inAPI returns what a change of an object in the API disturbs, or nil.
func inAPI(c Change) []Disruption {
	switch {
	case c.Kind == TaintChange && c.Action == Create && strings.HasSuffix(c.Name, ":NoExecute"):
		return []Disruption{{What: "taint " + c.Name, Hosts: []string{c.Host}, Effect: "pods that do not tolerate it are evicted"}}
	case c.Kind == ObjectChange && c.Action == Update && strings.HasPrefix(c.Name, "Deployment "):
		return []Disruption{{What: c.Name + " may roll", Effect: "its pods are replaced one after another"}}
	}
	return nil
}

// Restarts returns the units, without their suffix, whose inputs differ between two states.
func Restarts(before, after stack.State) []string {
	var units []string
	for _, row := range stack.Units() {
		for name, h := range after.Hosts {
			if was, ok := before.Hosts[name].Units[row.Name]; ok && was.Inputs != h.Units[row.Name].Inputs {
				units = append(units, strings.TrimSuffix(row.Name, ".service"))
				break
			}
		}
	}
	return units
}

// hostsOf lists the hosts on which a change is carried out, in the order of the steps.
func hostsOf(steps []Step, kind Kind, name string, action Action) []string {
	var hosts []string
	for _, step := range steps {
		if slices.ContainsFunc(step.Changes, func(c Change) bool { return c.Kind == kind && c.Name == name && c.Action == action }) {
			hosts = append(hosts, step.Host)
		}
	}
	return hosts
}

func (s Situation) unit(row stack.Service, action Action, hosts []string) Disruption {
	d := Disruption{What: strings.TrimSuffix(row.Name, ".service") + " restarts", Hosts: hosts, How: s.how(hosts), Effect: row.Disturbs}
	if action == Delete {
		d.What, d.Effect = strings.TrimSuffix(row.Name, ".service")+" stops permanently", cmp.Or(row.Ends, row.Disturbs)
	}
	if row.IfSingle != "" && s.controlPlanes() == 1 {
		d.Effect = row.IfSingle
	}
	return d
}

func (s Situation) controlPlanes() int {
	n := 0
	for _, m := range s.Machines {
		if m.Role == spec.ControlPlane {
			n++
		}
	}
	return n
}

// how describes the order in which hosts follow one another.
func (s Situation) how(hosts []string) string {
	if len(hosts) == 1 {
		return ""
	}
	pools, together, idle := map[string]int{}, map[string]int{}, s.idle()
	controlPlanes := false
	for _, m := range s.Machines {
		switch {
		case !slices.Contains(hosts, m.Name):
		case m.Role == spec.ControlPlane:
			controlPlanes = true
		default:
			if idle[m.Name] {
				together[m.Pool]++
			}
			pools[m.Pool]++
		}
	}
	widest := 1
	for pool, n := range pools {
		widest = max(widest, min(n, s.MaxUnavailable[pool]), together[pool])
	}
	switch {
	case controlPlanes && !s.Alive:
		return "control planes all at once, since the cluster is not up"
	case widest == 1:
		return "one at a time"
	case controlPlanes:
		return fmt.Sprintf("control planes one at a time, workers up to %d at a time in each pool", widest)
	}
	return fmt.Sprintf("up to %d at a time in each pool", widest)
}
