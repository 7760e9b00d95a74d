package converge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

const (
	// downTime is how long a cluster that has been up must not answer before it counts as down, if
	// it is not certain that it can have no majority: longer than booting machines, stalled disks
	// and elections need.
	downTime = time.Minute
	// downInterval is how often it is queried meanwhile.
	downInterval = time.Second
)

// ErrAnswers means that a cluster was observed as down, and answers before anything was changed.
var ErrAnswers = errors.New("the cluster answers again, but the plan is for a cluster that is down: nothing was changed; plan again")

// proveDown checks again whether the cluster is down, right before all its control planes are
// changed at once. Since the observation, a question may have been open for long, and the cluster
// may have started to work.
func (r *Runner) proveDown(ctx context.Context, _ plan.Step) error {
	report := sync.OnceFunc(func() {
		r.report("", fmt.Sprintf("it is not certain that the cluster is down: querying it for %v", downTime))
	})
	certain := func(ctx context.Context) bool {
		down := r.certainlyDown(ctx)
		if !down {
			report()
		}
		return down
	}
	return provenDown(ctx, downTime, certain, r.answers)
}

// provenDown returns nil if it is certain that the cluster is down, or if it has not answered for
// as long as patience.
func provenDown(ctx context.Context, patience time.Duration, certain, answers func(context.Context) bool) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(downInterval)
	defer tick.Stop()
	for {
		switch {
		case certain(limited):
			return nil
		case answers(limited):
			return ErrAnswers
		}
		select {
		case <-limited.Done():
			return context.Cause(ctx) // nil: nothing has answered
		case <-tick.C:
		}
	}
}

// certainlyDown reports whether so many etcd members do not run, or cannot be members, that no
// majority is left. A member that cannot be queried is not known to be down.
func (r *Runner) certainlyDown(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, live.CompareTimeout)
	defer cancel()
	now := stack.State{Hosts: map[string]stack.HostState{}}
	var mu sync.Mutex
	var questions sync.WaitGroup
	for _, m := range r.Input.ControlPlanes() {
		h, ok := r.Hosts[m.Name]
		if !ok {
			continue
		}
		questions.Go(func() {
			unit, err := etcdUnitNow(ctx, h)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			now.Hosts[m.Name] = stack.HostState{Units: map[string]stack.Unit{"etcd.service": unit}, Facts: stack.Facts{Initialized: true}}
		})
	}
	questions.Wait()
	members, possible, _ := plan.Standing(r.Input.Machines, now, plan.Signs{Gone: r.stillGone(ctx), Ended: r.endedMembers(ctx, now)})
	return possible < members/2+1
}

// stillGone returns the machines that did not exist and still do not: one may have been restored
// since, with a running member. If that cannot be determined, none counts.
func (r *Runner) stillGone(ctx context.Context) []string {
	if len(r.Input.Gone) == 0 || r.Exist == nil {
		return r.Input.Gone
	}
	exist, err := r.Exist(ctx)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.Input.Gone), func(name string) bool { return slices.Contains(exist, name) })
}

// etcdUnitNow queries a host for the state of its etcd unit.
func etcdUnitNow(ctx context.Context, h host.Host) (stack.Unit, error) {
	result, err := h.Run(ctx, host.Cmd{Script: "systemctl show -p ActiveState -p SubState etcd.service"})
	if err != nil {
		return stack.Unit{}, err
	}
	said := map[string]string{}
	for line := range strings.Lines(string(result.Stdout)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[key] = value
	}
	if said["ActiveState"] == "" {
		return stack.Unit{}, fmt.Errorf("%s: systemd does not report the state of etcd", h.Name())
	}
	return stack.Unit{Active: said["ActiveState"] == "active", State: said["ActiveState"] + "/" + said["SubState"]}, nil
}

// answers queries the API and all etcd members at once, and reports whether any of them works.
func (r *Runner) answers(ctx context.Context) bool {
	var ready bool
	var found map[string]stack.Member
	var questions sync.WaitGroup
	questions.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, live.CompareTimeout)
		defer cancel()
		ready = r.API.Ready(ctx) == nil
	})
	questions.Go(func() { found = r.members(ctx) })
	questions.Wait()
	return ready || plan.Answered(stack.State{Members: found})
}
