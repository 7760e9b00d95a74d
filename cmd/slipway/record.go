package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"strings"

	"slipway.dev/slipway/provision/journal"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

// newRun describes a run to the journal when it begins.
func newRun(c *spec.Cluster, command string) journal.Run {
	return journal.Run{Cluster: c.Metadata.Name, Command: command, Operator: operator(), Slipway: version}
}

// operator is who runs slipway, for people: "ana@workstation".
func operator() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		return name + "@" + host
	}
	return name
}

// recordPlan records in the journal what a run will do.
func recordPlan(r *journal.Recorder, p *plan.Plan) error {
	value, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("record the plan: %w", err)
	}
	steps := make([]journal.Step, 0, len(p.Steps))
	for _, s := range p.Steps {
		step := journal.Step{Name: s.Name, Host: s.Host, Kind: kindOf(s), Deps: s.Deps}
		for _, c := range s.Changes {
			step.Changes = append(step.Changes, strings.TrimPrefix(c.String(), c.Host+": "))
		}
		steps = append(steps, step)
	}
	r.Plan(value, steps)
	return nil
}

func kindOf(s plan.Step) journal.Kind {
	switch {
	case s.Gate():
		return journal.Gate
	case s.Host == "":
		return journal.Cluster
	}
	return journal.Change
}
