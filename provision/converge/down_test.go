package converge

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// What is certain needs no patience; else the cluster has to answer nobody for as long as that, and its first answer ends it.
func TestProvenDown(t *testing.T) {
	const never = time.Hour
	for _, tt := range []struct {
		name             string
		certain, answers time.Duration // after which it is so
		stopped          time.Duration // the run
		want             error
		took             time.Duration
	}{
		{"certain", 0, never, never, nil, 0},
		{"certain, whatever a cache answers", 0, 0, never, nil, 0},
		{"it answers at once", never, 0, never, ErrAnswers, 0},
		{"it comes to life while it is asked", never, 40 * time.Second, never, ErrAnswers, 40 * time.Second},
		{"it becomes certain", 10 * time.Second, never, never, nil, 10 * time.Second},
		{"it answers nobody", never, never, never, nil, downTime},
		{"interrupted", never, never, 5 * time.Second, context.Canceled, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				defer time.AfterFunc(tt.stopped, cancel).Stop()
				began := time.Now()
				after := func(d time.Duration) func(context.Context) bool {
					return func(context.Context) bool { return time.Since(began) >= d }
				}
				err := provenDown(ctx, downTime, after(tt.certain), after(tt.answers))
				if took := time.Since(began); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) || took != tt.took {
					t.Errorf("after %v: %v, want %v after %v", took, err, tt.want, tt.took)
				}
			})
		})
	}
}

// It is certain only of members whose units do not run on hosts that say so now, and of machines that do not exist.
func TestCertainlyDown(t *testing.T) {
	const active, failed, starting, silent = "ActiveState=active\nSubState=running\n", "ActiveState=failed\nSubState=failed\n",
		"ActiveState=activating\nSubState=auto-restart\n", ""
	exist := func(names ...string) func(context.Context) ([]string, error) {
		return func(context.Context) ([]string, error) { return names, nil }
	}
	broken := func(context.Context) ([]string, error) { return nil, errors.New("no answer") }
	for _, tt := range []struct {
		name  string
		hosts map[string]string
		gone  []string
		want  bool
		exist func(context.Context) ([]string, error)
	}{
		{"none runs", map[string]string{"cp-1": failed, "cp-2": failed, "cp-3": failed}, nil, true, nil},
		{"one runs", map[string]string{"cp-1": failed, "cp-2": failed, "cp-3": active}, nil, true, nil},
		{"one does not run", map[string]string{"cp-1": failed, "cp-2": active, "cp-3": active}, nil, false, nil},
		{"one does not run, one is starting", map[string]string{"cp-1": failed, "cp-2": starting, "cp-3": failed}, nil, true, nil},
		{"two are starting", map[string]string{"cp-1": failed, "cp-2": starting, "cp-3": starting}, nil, false, nil},
		{"one does not run, one is cut off", map[string]string{"cp-1": failed, "cp-2": active}, nil, false, nil},
		{"one does not run, one does not exist", map[string]string{"cp-1": failed, "cp-2": active}, []string{"cp-3"}, true, nil},
		{"and does not now, either", map[string]string{"cp-1": failed, "cp-2": active}, []string{"cp-3"}, true, exist("cp-1", "cp-2")},
		{"and was brought back", map[string]string{"cp-1": failed, "cp-2": active}, []string{"cp-3"}, false, exist("cp-1", "cp-2", "cp-3")},
		{"and nobody knows whether it does now", map[string]string{"cp-1": failed, "cp-2": active}, []string{"cp-3"}, false, broken},
		{"one does not run, of one systemd says nothing", map[string]string{"cp-1": failed, "cp-2": silent, "cp-3": active}, nil, false, nil},
	} {
		r := &Runner{View: View{Input: stack.Input{Machines: fixture.Machines(3, 1), Gone: tt.gone}, Hosts: map[string]host.Host{}}, Exist: tt.exist}
		for name, says := range tt.hosts {
			h := hosttest.NewMemory(name)
			h.On("systemctl", hosttest.Answer{Stdout: says})
			r.Hosts[name] = h
		}
		if got := r.certainlyDown(t.Context()); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}
