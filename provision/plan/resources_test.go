package plan

import (
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// A plan of resources alone is not empty, and one that was saved fits only as long as resources and the order of steps are
// the same.
func TestMovedCircumstances(t *testing.T) {
	lacks := []spec.ResourceChange{{Kind: "network", Name: "demo", Reason: "does not exist"}}
	steps := func(deps ...string) []Step { return []Step{{Name: "one"}, {Name: "two", Deps: deps}} }
	if (&Plan{Resources: lacks}).Empty() {
		t.Error("a plan with resources is empty")
	}
	for name, tt := range map[string]struct {
		saved, now Plan
		moved      string // what is named; "" for nothing
	}{
		"the same":    {Plan{Resources: lacks, Steps: steps("one")}, Plan{Resources: lacks, Steps: steps("one")}, ""},
		"was made":    {Plan{Resources: lacks}, Plan{}, "network demo: "},
		"was removed": {Plan{}, Plan{Resources: lacks}, "network demo: "},
		"order":       {Plan{Steps: steps("one")}, Plan{Steps: steps()}, "step two: "},
	} {
		tt.saved.Basis = &Basis{}
		moved := tt.saved.Moved(stack.State{}, &tt.now)
		if tt.moved == "" && len(moved) > 0 || tt.moved != "" && (len(moved) != 1 || !strings.HasPrefix(moved[0], tt.moved)) {
			t.Errorf("%s: %q", name, moved)
		}
	}
}
