package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/preflight"
)

// scribe is a host that notes what it is to run, and fails at some of it.
type scribe struct {
	host.Host
	mu    sync.Mutex
	ran   []string
	fails string
}

func (s *scribe) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, command, _ := strings.Cut(cmd.Script, "\n")
	s.ran = append(s.ran, command)
	if command == s.fails {
		return host.Result{}, errors.New("it failed")
	}
	return host.Result{}, nil
}

// TestFixSteps: the commands of a host run one after another, those of others beside them; after one
// that fails, the rest of that host does not run.
func TestFixSteps(t *testing.T) {
	fix := func(name, check, remedy string) preflight.Finding {
		return preflight.Finding{Host: name, Check: check, Remedy: remedy, Fix: true}
	}
	a, b := &scribe{fails: "two"}, &scribe{}
	fixes := []preflight.Finding{fix("a", "limits", "one"), fix("a", "limits", "two"), fix("a", "swap", "three"), fix("b", "swap", "four")}
	steps, shown := fixSteps(fixes, map[string]host.Host{"a": a, "b": b})
	if n := hostsOf(fixes); n != 2 {
		t.Errorf("%d hosts", n)
	}
	var names []string
	for i, s := range shown {
		names = append(names, s.Name)
		if s.Name != steps.Steps[i].Name || !slices.Equal(s.Deps, steps.Steps[i].Deps) || s.Changes[0] != fixes[i].Remedy {
			t.Errorf("the journal has %+v", s)
		}
	}
	if want := []string{"a: fix limits", "a: fix limits (2)", "a: fix swap", "b: fix swap"}; !slices.Equal(names, want) {
		t.Errorf("steps are %q, want %q", names, want)
	}
	err := dag.Run(t.Context(), steps, 4, nil)
	if err == nil || !strings.Contains(err.Error(), "two") {
		t.Errorf("want an error that names the command: %v", err)
	}
	if !slices.Equal(a.ran, []string{"one", "two"}) || !slices.Equal(b.ran, []string{"four"}) {
		t.Errorf("a ran %q, b ran %q", a.ran, b.ran)
	}
}

// stuck is a host on which nothing ends.
type stuck struct{ host.Host }

func (stuck) Run(ctx context.Context, _ host.Cmd) (host.Result, error) {
	<-ctx.Done()
	return host.Result{}, context.Cause(ctx)
}

// TestFixThatHangs ends.
func TestFixThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps, _ := fixSteps([]preflight.Finding{{Host: "a", Check: "tools", Remedy: "apt-get install nft", Fix: true}}, map[string]host.Host{"a": stuck{}})
		if err := dag.Run(t.Context(), steps, 1, nil); err == nil || !strings.Contains(err.Error(), "it has not ended for 15m0s") {
			t.Errorf("got %v", err)
		}
	})
}

// TestVerdict: the last line counts, and the lines before it are findings.
func TestVerdict(t *testing.T) {
	r := &preflightJSON{Checked: []string{"a", "b"}}
	if got, want := verdict(r, nil), fmt.Sprintf("%d checks on 2 machines: nothing found.", len(preflight.Checks)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := verdict(r, []string{"dns", "swap", "dns"}), fmt.Sprintf("%d checks on 2 machines: nothing found.", len(preflight.Checks)-2); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r.Unread = map[string]string{"c": "no SSH"}
	r.Findings = []preflight.Finding{{Severity: preflight.Error}, {Severity: preflight.Warning}, {Severity: preflight.Warning}, {Severity: preflight.Info}}
	if got := verdict(r, nil); !strings.HasSuffix(got, " on 2 machines: 1 error, 2 warnings, 1 for information; 1 machine could not be checked.") {
		t.Error(got)
	}
}
