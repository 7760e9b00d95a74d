package converge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// Runner carries out the steps of a plan made from a view.
type Runner struct {
	View
	// Holds reports whether this run is still the only one; it is called before each step that
	// changes something, and if it returns an error, the step does not begin. It may be nil.
	Holds func(context.Context) error
	// Record is called before hosts record that they were part of a cluster that was up.
	Record Record
	// Exist returns the machines that exist now; nil if Input.Gone cannot have changed.
	Exist func(context.Context) ([]string, error)
	// Packed is the directory on this computer where compressed programs are kept; "" for none that
	// outlives the run.
	Packed string
	// Note tells the person something that stays; it may be nil.
	Note func(text string)

	recording sync.Mutex
	mu        sync.Mutex
	// heartbeats are the last ones of kubelets before this run restarted them, by host; leases are those
	// from when their path to the API, which this run has changed (rerouted), was proven to work.
	heartbeats, leases map[string]kube.Heartbeat
	rerouted           map[string]bool
	// connections that showed client certificates which this run renews, by host.
	connections map[string]connections
	courier     *courier
}

// End ends what the steps have left running. It may be called without any.
func (r *Runner) End() {
	r.mu.Lock()
	c := r.courier
	r.mu.Unlock()
	if c != nil {
		c.close()
	}
}

func (r *Runner) tell(text string) {
	if r.Note != nil {
		r.Note(text)
	}
}

// doTable has the function of each verb. Everything else about a verb is its row in package plan.
var doTable = map[plan.Verb]func(*Runner, context.Context, plan.Step) error{
	plan.Deliver:             (*Runner).deliver,
	plan.Install:             (*Runner).install,
	plan.Apply:               (*Runner).apply,
	plan.StartLate:           (*Runner).install,
	plan.AwaitUnits:          (*Runner).awaitUnits,
	plan.CheckQuorum:         (*Runner).checkQuorum,
	plan.ProveDown:           (*Runner).proveDown,
	plan.AwaitEtcd:           (*Runner).awaitEtcd,
	plan.AwaitAPI:            (*Runner).awaitAPI,
	plan.ApplyManifests:      (*Runner).applyManifests,
	plan.EnsureNode:          (*Runner).ensureNode,
	plan.RecordUp:            (*Runner).recordUp,
	plan.AwaitUsable:         (*Runner).awaitUsable,
	plan.MarkInitialized:     (*Runner).markInitialized,
	plan.AwaitServed:         (*Runner).awaitServed,
	plan.AwaitPresented:      (*Runner).awaitPresented,
	plan.AwaitTokens:         (*Runner).awaitTokens,
	plan.ProveTrust:          (*Runner).proveTrust,
	plan.ProveRefusal:        (*Runner).proveRefusal,
	plan.AwaitRootCA:         (*Runner).awaitRootCA,
	plan.AwaitClientCAs:      (*Runner).awaitClientCAs,
	plan.DropClientCAs:       (*Runner).dropClientCAs,
	plan.RollWorkloads:       (*Runner).rollWorkloads,
	plan.AwaitEncryption:     (*Runner).awaitEncryption,
	plan.RemoveVersions:      (*Runner).removeVersions,
	plan.RewriteSecrets:      (*Runner).rewriteSecrets,
	plan.AwaitAuthentication: (*Runner).awaitAuthentication,
}

// Bind turns a schedule into steps for dag.Run. Every step is bounded by its timeout. If the run is
// cancelled, a step that only waits ends at once; one that changes something has finishTime to
// complete. A step whose connection is lost is repeated once there is another; if there can be none,
// it ends at once.
func (r *Runner) Bind(steps []plan.Step) dag.Plan {
	var p dag.Plan
	deliveries := 0
	for _, s := range steps {
		if s.Verb == plan.Deliver {
			deliveries++
		}
	}
	r.courier = newCourier(r, deliveries)
	for _, s := range steps {
		p.Steps = append(p.Steps, dag.Step{Name: s.Name, Host: s.Host, Deps: s.Deps, Do: func(ctx context.Context) error {
			if s.Verb == plan.Deliver {
				defer r.courier.finish() // once, however often the step is repeated
			}
			ctx, cancel := context.WithTimeout(ctx, s.Timeout())
			defer cancel()
			if err := r.holds(ctx, s); err != nil {
				return err
			}
			if !s.Interruptible() {
				var done func()
				ctx, done = finishing(ctx)
				defer done()
			}
			return r.persist(ctx, s)
		}})
	}
	return p
}

// connected returns a context that ends when waiting is useless: when the connection to the step's
// host has ended, or those to all control planes, through which the API is reached. The cause is a
// *host.LostError.
func (r *Runner) connected(ctx context.Context, name string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var controlPlanes []host.Host
	for _, m := range r.Input.Ours() {
		controlPlanes = append(controlPlanes, r.Hosts[m.Name])
	}
	for _, needed := range [][]host.Host{{r.Hosts[name]}, controlPlanes} {
		go func() {
			var err error
			for _, h := range needed {
				p, ok := h.(host.Monitored)
				if !ok {
					return
				}
				select {
				case <-p.Done():
					err = p.Err()
				case <-ctx.Done():
					return
				}
			}
			cancel(err)
		}()
	}
	return ctx, func() { cancel(nil) }
}

// finishing returns a context that outlives an interrupt by finishTime. If the run ends for another
// reason, such as a lost lock, it ends at once: another process may begin.
func finishing(ctx context.Context) (context.Context, func()) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), context.Canceled) {
			cancel(context.Cause(ctx))
			return
		}
		timer := time.AfterFunc(finishTime, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(late, func() { timer.Stop() })
	})
	return late, func() { stop(); cancel(nil) }
}

// install gives systemd its orders; a gate waits for the result.
func (r *Runner) install(ctx context.Context, s plan.Step) error { return r.converge(ctx, s, true) }

func (r *Runner) apply(ctx context.Context, s plan.Step) error {
	r.noteDisturbed(ctx, s)
	if err := r.noteConnections(ctx, s); err != nil {
		return err
	}
	return r.converge(ctx, s, false)
}

func (r *Runner) converge(ctx context.Context, s plan.Step, first bool) error {
	return converge(ctx, r.Hosts[s.Host], r.Desired.Hosts[s.Host], r.Observed.Hosts[s.Host], s.Changes, first)
}

func (r *Runner) awaitAPI(ctx context.Context, _ plan.Step) error {
	err := live.WaitFor(ctx, "the API is not ready", r.API.Ready)
	return r.explain(ctx, err, r.Input.ControlPlanes()[0].Name, "etcd", "kube-apiserver")
}

func (r *Runner) applyManifests(ctx context.Context, _ plan.Step) error {
	text, err := stack.Manifests(r.Input)
	if err == nil {
		_, err = r.API.Apply(ctx, text)
	}
	return err
}

// ensureNode trusts the API's data about a node only after a kubelet that was restarted has sent
// heartbeats: until the node controller's grace period ends, the API reports a node with a dead
// kubelet as Ready.
func (r *Runner) ensureNode(ctx context.Context, s plan.Step) error {
	err := r.awaitHeartbeat(ctx, s.Host)
	if err == nil {
		err = r.API.EnsureNode(ctx, s.Host, r.Desired.Nodes[s.Host], func(condition string) { r.report(s.Host, condition) })
	}
	return r.explain(ctx, err, s.Host, "kubelet", "containerd")
}

// explain adds the last log lines of units to an error, unless it is that of an interrupt.
func (r *Runner) explain(ctx context.Context, err error, name string, units ...string) error {
	if err == nil || errors.Is(context.Cause(ctx), context.Canceled) {
		return err
	}
	return fmt.Errorf("%w\n%s", err, r.journal(ctx, name, units...))
}

// checkQuorum checks that etcd keeps its quorum while the member of a host restarts. A cluster with
// one member has no quorum to lose, and if the member itself is down, its restart loses nothing.
func (r *Runner) checkQuorum(ctx context.Context, s plan.Step) error {
	if len(r.Input.ControlPlanes()) == 1 {
		return nil // nor is it queried: it may be what has to be repaired
	}
	client, err := r.etcd()
	if err != nil {
		return err
	}
	return live.WaitFor(ctx, "etcd would lose its quorum without the member of "+s.Host, func(ctx context.Context) error {
		members, err := client.Status(ctx)
		if err != nil {
			return err
		}
		return etcd.QuorumWithout(members, s.Host)
	})
}

// awaitEtcd waits until the member of a host answers linearizable reads: it is up to date, and a
// majority works.
func (r *Runner) awaitEtcd(ctx context.Context, s plan.Step) error {
	client, err := r.etcd()
	if err != nil {
		return err
	}
	waiting, end := context.WithCancelCause(ctx)
	defer end(nil)
	err = live.WaitFor(waiting, "the member of etcd on "+s.Host+" is not healthy", func(ctx context.Context) error {
		members, err := client.Status(ctx)
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.Name == s.Host {
				if errors.As(m.Err, new(*etcd.AlarmError)) {
					end(m.Err) // which do not clear by waiting
				}
				return m.Err
			}
		}
		return errors.New("it is not a member")
	})
	return r.explain(ctx, err, s.Host, "etcd")
}

// markInitialized records on a host that it has been part of a cluster that was up, and first in
// the state that its etcd member has been healthy.
func (r *Runner) markInitialized(ctx context.Context, s plan.Step) error {
	if err := r.recordJoined(ctx, "", map[string]bool{s.Host: true}); err != nil {
		return err
	}
	return r.Hosts[s.Host].Write(ctx, []host.File{hostFile(stack.InitializedFile, r.Desired.Hosts[s.Host].Files[stack.InitializedFile])})
}

// journal returns the last log lines of units, for an error's text. If they cannot be read, it
// returns why.
func (r *Runner) journal(ctx context.Context, name string, units ...string) string {
	h, ok := r.Hosts[name]
	if !ok {
		return "its journal was not read: " + name + " cannot be reached"
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detailTimeout)
	defer cancel()
	var script strings.Builder
	for _, u := range units {
		_, _ = fmt.Fprintf(&script, "echo \"%s on %s: $(systemctl is-active %s)\"; journalctl -q --no-pager -n 5 -o cat -u %s;", u, name, u, u)
	}
	result, err := h.Run(ctx, host.Cmd{Script: script.String()})
	if err != nil && len(result.Stdout) == 0 {
		return "its journal could not be read: " + err.Error()
	}
	return string(result.Stdout)
}
