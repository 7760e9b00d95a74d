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
	// downTime is how long a cluster that has been up must answer nobody before it counts as down, where it is not certain
	// that it can have no majority: longer than machines that boot, disks that stall and elections need.
	downTime = time.Minute
	// downInterval is how often it is asked meanwhile.
	downInterval = time.Second
)

// ErrAnswers is of a cluster that was found to be down, and answers before anything was changed.
var ErrAnswers = errors.New("the cluster answers again, and was planned for as one that is down: nothing was changed; plan again")

// proveDown looks again whether the cluster is down, right before all its control planes are changed at once. Since it was
// observed somebody may have been asked a question, and it may have begun to work.
func (r *Runner) proveDown(ctx context.Context, _ plan.Step) error {
	report := sync.OnceFunc(func() {
		r.report("", fmt.Sprintf("it is not certain that it is down: asking it for %v", downTime))
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

// provenDown is nil where it is certain that the cluster is down, or where it has answered nothing for as long as patience.
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
			return context.Cause(ctx) // nil: nobody has answered
		case <-tick.C:
		}
	}
}

// certainlyDown says whether so many members of etcd do not run, or cannot be taken for members, that no majority is left.
// What cannot be asked is not known to be down.
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

// stillGone are the machines that did not exist and do not now: one may have been brought back since, and its member runs.
// Where nobody can say, none counts.
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

// etcdUnitNow asks a host how its member's unit is.
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
		return stack.Unit{}, fmt.Errorf("%s: systemd does not say how etcd is", h.Name())
	}
	return stack.Unit{Active: said["ActiveState"] == "active", State: said["ActiveState"] + "/" + said["SubState"]}, nil
}

// answers asks the API and all members of etcd at once, and says whether any of them works.
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
