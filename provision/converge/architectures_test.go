package converge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// seen is a look in which hosts have shown their architectures, by name, and artifacts can be had for
// those in bundles.
func seen(t *testing.T, archs map[string]string, bundles ...string) (*looking, *[]string) {
	t.Helper()
	in := fixture.Input(t)
	in.Artifacts = nil
	l := &looking{View: View{Input: in, Observed: stack.State{Hosts: map[string]stack.HostState{}}}}
	for name, arch := range archs {
		l.Observed.Hosts[name] = stack.HostState{Facts: stack.Facts{Arch: arch}}
	}
	var asked []string
	l.from.Artifacts = func(_ context.Context, arch string) (stack.Set, error) {
		asked = append(asked, arch)
		if !slices.Contains(bundles, arch) {
			return nil, errors.New("a compiler is missing\nwith details")
		}
		return stack.Set{"etcd": {SHA256: arch}}, nil
	}
	return l, &asked
}

// TestLearn: what hosts show is noted, artifacts are got once for each architecture, and hosts that
// were asked for another one's programs are observed again.
func TestLearn(t *testing.T) {
	l, asked := seen(t, map[string]string{"demo-cp-1": "amd64", "demo-cp-2": "arm64", "demo-worker-1": "arm64"}, "amd64", "arm64")
	again, err := l.learn(t.Context())
	if err != nil || !again || len(*asked) != 2 || len(l.Input.Artifacts) != 2 {
		t.Fatalf("at first: again %t, asked for %v, %v", again, *asked, err)
	}
	var got []string
	for _, m := range l.Input.Machines {
		got = append(got, m.Arch)
	}
	if want := []string{"amd64", "arm64", "", "arm64"}; !slices.Equal(got, want) {
		t.Errorf("noted was %q", got)
	}
	if again, err := l.learn(t.Context()); err != nil || again || len(*asked) != 2 || len(l.lackBundle()) != 0 {
		t.Errorf("the second time: again %t, asked for %v, %v", again, *asked, err)
	}

	// A machine that was replaced by one of another architecture.
	l.Observed.Hosts["demo-cp-1"] = stack.HostState{Facts: stack.Facts{Arch: "arm64"}}
	if again, err := l.learn(t.Context()); err != nil || !again || l.Input.Machines[0].Arch != "arm64" {
		t.Errorf("of a replaced one: again %t, %v", again, err)
	}
}

// TestLearnOfOneThatIsNotThisComputers: what hosts were asked for before counts, though the run keeps in the
// same map what it got since.
func TestLearnOfOneThatIsNotThisComputers(t *testing.T) {
	for _, had := range []stack.Sets{{}, {"arm64": {}}} {
		l, _ := seen(t, map[string]string{"demo-cp-1": "amd64"})
		l.Input.Artifacts = had
		l.from.Artifacts = func(_ context.Context, arch string) (stack.Set, error) {
			had[arch] = stack.Set{"etcd": {SHA256: arch}}
			return had[arch], nil
		}
		if again, err := l.learn(t.Context()); err != nil || !again {
			t.Errorf("there was %v: again %t, %v", slices.Sorted(maps.Keys(had)), again, err)
		}
	}
}

// TestLearnOfOneArchitecture: with its artifacts at hand, nothing is asked twice, whether or not the
// state knows of it.
func TestLearnOfOneArchitecture(t *testing.T) {
	for _, recorded := range []string{"", "amd64"} {
		l, asked := seen(t, map[string]string{"demo-cp-1": "amd64", "demo-worker-1": "amd64"})
		l.Input.Artifacts = stack.Sets{"amd64": {}}
		l.Input.Machines[0].Arch = recorded
		if again, err := l.learn(t.Context()); err != nil || again || len(*asked) != 0 {
			t.Errorf("recorded %q: again %t, asked for %v, %v", recorded, again, *asked, err)
		}
	}
}

func TestLearnWithoutABundle(t *testing.T) {
	l, asked := seen(t, map[string]string{"demo-cp-1": "amd64", "demo-cp-2": "arm64", "demo-worker-1": "arm64"}, "amd64")
	if again, err := l.learn(t.Context()); err != nil || !again || len(*asked) != 2 {
		t.Fatalf("again %t, asked for %v, %v", again, *asked, err)
	}
	held := l.lackBundle()
	if got := slices.Sorted(maps.Keys(held)); !slices.Equal(got, []string{"demo-cp-2", "demo-worker-1"}) {
		t.Errorf("held are %v", got)
	}
	if got := fmt.Sprint(held["demo-cp-2"]); !strings.Contains(got, "there is no bundle for its processor, arm64: a compiler is missing. `slipway bundle build --arch arm64` makes one") {
		t.Errorf("it is held since %s", got)
	}

	l, _ = seen(t, map[string]string{"demo-cp-1": "arm64"})
	if _, err := l.learn(t.Context()); err == nil || !strings.Contains(err.Error(), "with details") {
		t.Errorf("without any bundle: %v", err)
	}
	l, _ = seen(t, map[string]string{"demo-cp-1": "riscv64", "demo-cp-2": "i686"})
	if _, err := l.learn(t.Context()); err == nil || !strings.Contains(err.Error(),
		"programs for amd64 and arm64, and none of the machines has such a processor: demo-cp-1 (riscv64), demo-cp-2 (i686)") {
		t.Errorf("without any processor that is known: %v", err)
	}
	l, _ = seen(t, map[string]string{"demo-cp-1": "arm64"})
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	if _, err := l.learn(ctx); !errors.Is(err, interrupted) {
		t.Errorf("interrupted: %v", err)
	}
}
