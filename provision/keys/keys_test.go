package keys

import (
	"maps"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// TestNothingBefore wants no cause for what a new cluster lacks: nothing can have changed.
func TestNothingBefore(t *testing.T) {
	c, infra, _ := fixture.OneMachine(t)
	first, err := Ensure(t.Context(), &Stored{}, nil, c, infra, nil)
	if err != nil {
		t.Fatal(err)
	}
	in := fixture.Input(t)
	in.Cluster, in.Machines, in.PKI, in.EncryptionKeys = c, infra.Machines, first.PKI, first.EncryptionKeys
	desired, err := stack.Desired(in)
	if err != nil {
		t.Fatal(err)
	}
	changes := plan.Diff(desired, stack.State{})
	was := plan.Before{PKI: first.Before, Issued: first.Issued, EncryptionKeys: first.BeforeKeys}
	plan.Explain(changes, plan.CausesOf(in, was, stack.Desired))
	if len(changes) == 0 {
		t.Fatal("a new cluster lacks nothing")
	}
	for _, change := range changes {
		if strings.Contains(change.Reason, "changed") {
			t.Errorf("nothing was there before, and %s %s has the reason %q", change.Kind, change.Name, change.Reason)
		}
	}
	again, err := Ensure(t.Context(), &Stored{Material: maps.Clone(first.Made)}, nil, c, infra, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Made) > 0 || len(again.BeforeKeys) != 1 || again.BeforeKeys[0].Name != first.EncryptionKeys[0].Name {
		t.Errorf("it made %d items again, and had the keys %v before", len(again.Made), again.BeforeKeys)
	}
}
