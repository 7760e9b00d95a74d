package converge

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// An interrupt leaves a step that changes something time to come to its end; a lock that is lost does not.
func TestFinishing(t *testing.T) {
	lost := errors.New("the lock was lost")
	for _, tt := range []struct {
		name  string
		cause error
		after time.Duration
	}{
		{"interrupted", context.Canceled, finishTime},
		{"lock lost", lost, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				late, done := finishing(ctx)
				defer done()
				began := time.Now()
				cancel(tt.cause)
				<-late.Done()
				if took := time.Since(began); took != tt.after || !errors.Is(context.Cause(late), tt.cause) {
					t.Errorf("it ended after %v with %v, want %v", took, context.Cause(late), tt.after)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // a step that has ended leaves nothing behind
		ctx, cancel := context.WithCancel(t.Context())
		_, done := finishing(ctx)
		done()
		cancel()
	})
}

// mortal is a host whose connection can be cut.
type mortal struct {
	host.Host
	gone chan struct{}
}

func (m mortal) Done() <-chan struct{} { return m.gone }

func (m mortal) Err() error { return &host.LostError{Host: "h", Err: errors.New("cut")} }

// Before each step that changes something the lock is looked at; gates, and what is only waiting, need none.
func TestStepsThatChangeSomethingAskForTheLock(t *testing.T) {
	lost := errors.New("somebody else has it")
	for _, tt := range []struct {
		step  plan.Step
		asked bool
	}{
		{plan.Step{Verb: plan.Apply, Host: "h", Changes: []plan.Change{{Host: "h", Kind: plan.FileChange, Name: "/x", Action: plan.Update}}}, true},
		{plan.Step{Verb: plan.Install, Host: "h", Changes: []plan.Change{{Host: "h", Kind: plan.FileChange, Name: "/x", Action: plan.Update}}}, true},
		{plan.Step{Verb: plan.MarkInitialized, Host: "h"}, true},
		{plan.Step{Verb: plan.ApplyManifests}, true},
		{plan.Step{Verb: plan.RollWorkloads}, true},
		{plan.Step{Verb: plan.EnsureNode, Host: "h"}, true},   // a node that registers is given labels
		{plan.Step{Verb: plan.CheckQuorum, Host: "h"}, false}, // of one control plane: nothing to prove
	} {
		query := 0
		r := &Runner{
			View: View{
				Hosts: map[string]host.Host{"h": hosttest.NewMemory("h")},
				Input: stack.Input{Machines: []spec.Machine{{Name: "h", Role: spec.ControlPlane}}},
			},
			Holds: func(context.Context) error { query++; return lost },
		}
		err := r.Bind([]plan.Step{tt.step}).Steps[0].Do(t.Context())
		if errors.Is(err, lost) != tt.asked || query > 0 != tt.asked {
			t.Errorf("%s: asked %d times, error %v", tt.step.Verb, query, err)
		}
	}
}

// A verb is a row of plan and a function of this package.
func TestEveryVerbIsCarriedOut(t *testing.T) {
	if done, known := slices.Sorted(maps.Keys(doTable)), slices.Sorted(slices.Values(plan.Verbs())); !slices.Equal(done, known) {
		t.Errorf("carried out are %v, known are %v", done, known)
	}
}

// A step does not wait for what cannot come any more: its own host, or the last way to the API.
func TestConnected(t *testing.T) {
	for _, tt := range []struct {
		name string
		host string
		cut  []string
		ends bool
	}{
		{"its host", "demo-worker-1", []string{"demo-worker-1"}, true},
		{"another host", "demo-worker-1", []string{"demo-cp-1"}, false},
		{"some ways to the API", "", []string{"demo-cp-1", "demo-cp-2", "demo-worker-1"}, false},
		{"all ways to the API", "demo-worker-1", []string{"demo-cp-3", "demo-cp-1", "demo-cp-2"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := fixture.Input(t)
			synctest.Test(t, func(t *testing.T) {
				r := &Runner{View: View{Input: in, Hosts: map[string]host.Host{}}}
				for _, m := range in.Machines {
					r.Hosts[m.Name] = mortal{gone: make(chan struct{})}
				}
				ctx, done := r.connected(t.Context(), tt.host)
				for _, name := range tt.cut {
					close(r.Hosts[name].(mortal).gone)
				}
				synctest.Wait()
				var lost *host.LostError
				if ended := ctx.Err() != nil; ended != tt.ends || ended && !errors.As(context.Cause(ctx), &lost) {
					t.Errorf("ended %t with %v, want %t", ended, context.Cause(ctx), tt.ends)
				}
				done()
			})
		})
	}
}

func TestWaitForSaysWhatWasSeenLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := live.WaitFor(ctx, "the sky is not blue", func(context.Context) error { return errors.New("it is grey") })
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the sky is not blue") || !strings.Contains(err.Error(), "it is grey") {
			t.Errorf("error is %v", err)
		}
		query := 0
		if err := live.WaitFor(t.Context(), "", func(context.Context) error {
			if query++; query < 3 {
				return errors.New("not yet")
			}
			return nil
		}); err != nil || query != 3 {
			t.Errorf("asked %d times, error %v", query, err)
		}
	})
}

// Text is shown with what becomes of it; secrets and links are not read.
func TestTextDiffs(t *testing.T) {
	dir := t.TempDir()
	plain, secret, linked := filepath.Join(dir, "plain"), filepath.Join(dir, "secret"), filepath.Join(dir, "linked")
	for _, p := range []string{plain, secret} {
		if err := os.WriteFile(p, []byte("one\nold\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, linked); err != nil {
		t.Fatal(err)
	}
	h := host.Local("h")
	content := []byte("one\nnew\n")
	v := &View{
		Hosts: map[string]host.Host{"h": h},
		Desired: stack.State{Hosts: map[string]stack.HostState{"h": {Files: map[string]stack.File{
			plain: {Mode: 0o644, Content: content}, secret: {Mode: 0o600, Content: content, Secret: true}, linked: {Mode: 0o644, Content: content},
		}}}},
		Objects: []kube.Change{{Object: "ConfigMap a/b", Live: "x: 1\n", Wanted: "x: 2\n"}},
	}
	change := func(p string, secret bool) plan.Change {
		return plan.Change{Host: "h", Kind: plan.FileChange, Name: p, Action: plan.Update, Secret: secret}
	}
	object := plan.Change{Kind: plan.ObjectChange, Name: "ConfigMap a/b", Action: plan.Update}
	diffs, err := v.TextDiffs(t.Context(), []plan.Change{change(plain, false), change(secret, true), change(linked, false), object})
	if err != nil {
		t.Fatal(err)
	}
	if got := diffs.Of(change(plain, false)); got != "@@ -1,2 +1,2 @@\n one\n-old\n+new\n" {
		t.Errorf("the diff is %q", got)
	}
	if got := diffs.Of(change(secret, true)); got != "" {
		t.Errorf("a secret is shown: %q", got)
	}
	if got := diffs.Of(change(linked, false)); strings.Contains(got, "old") {
		t.Errorf("a link was followed: %q", got)
	}
	if got := diffs.Of(object); !strings.Contains(got, "-x: 1") || !strings.Contains(got, "+x: 2") {
		t.Errorf("the object's diff is %q", got)
	}
}
