package plan

import (
	"testing"
	"time"
)

// What runs rely on: whether the lock has to be held, whether an interrupt ends the step at once, and for how long it may wait.
func TestStepsOfVerbs(t *testing.T) {
	label, node := Change{Kind: LabelChange}, Change{Kind: NodeChange}
	for name, tt := range map[string]struct {
		step                        Step
		gate, writes, interruptible bool
		timeout                     time.Duration
	}{
		"changes a host":          {Step{Verb: Apply}, false, true, false, 5 * time.Minute},
		"changes the state":       {Step{Verb: RecordUp}, false, true, false, 5 * time.Minute},
		"waits":                   {Step{Verb: AwaitUnits}, true, false, true, 5 * time.Minute},
		"waits for a node":        {Step{Verb: EnsureNode, Changes: []Change{node}}, true, true, true, 5 * time.Minute},
		"gives a node its labels": {Step{Verb: EnsureNode, Changes: []Change{node, label}}, false, true, true, 5 * time.Minute},
		"waits for connections":   {Step{Verb: AwaitPresented}, true, false, true, 7 * time.Minute},
		"waits for people":        {Step{Verb: AwaitTokens}, true, false, true, 24 * time.Hour},
		"replaces pods":           {Step{Verb: RollWorkloads}, false, true, true, 24 * time.Hour},
		"writes Secrets":          {Step{Verb: RewriteSecrets}, false, true, false, 24 * time.Hour},
	} {
		if s := tt.step; s.Gate() != tt.gate || s.Writes() != tt.writes || s.Interruptible() != tt.interruptible || s.Timeout() != tt.timeout {
			t.Errorf("%s: gate %t, writes %t, interruptible %t, timeout %v, want %+v", name, s.Gate(), s.Writes(), s.Interruptible(), s.Timeout(), tt)
		}
	}
}

// Saved plans name steps, and their dependencies, by verb and title.
func TestVerbsAndTitlesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range verbTable {
		for _, text := range []string{"verb " + string(row.verb), "title " + row.title} {
			if seen[text] {
				t.Errorf("two rows have the %s", text)
			}
			seen[text] = true
		}
		if row.title == "" {
			t.Errorf("%s has no title", row.verb)
		}
	}
}
