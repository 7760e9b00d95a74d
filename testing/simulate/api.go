package simulate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/stack"
)

// api is a run's client of the API, through the balancers of control planes.
type api struct {
	run  *Run
	ways []*Conn
}

var _ live.APIClient = (*api)(nil)

// ask is a question to the API, which takes a moment, and longer where it does not answer.
func (a *api) ask(ctx context.Context, name string, question func() error) error {
	c := a.run.c
	if err := a.run.pause(ctx, "api "+name, 2*time.Millisecond); err != nil {
		return err
	}
	c.mu.Lock()
	c.settle()
	err := a.unreachable()
	if err == nil {
		err = question()
	}
	c.settle()
	c.mu.Unlock()
	if err != nil {
		if late := a.run.pause(ctx, "api refuses "+name, 400*time.Millisecond); late != nil {
			return late
		}
	}
	return err
}

// unreachable says why the API does not answer. mu is held.
func (a *api) unreachable() error {
	c := a.run.c
	way := slices.ContainsFunc(a.ways, func(k *Conn) bool { return k.err == nil && k.h.works(stack.BalancerService) })
	switch {
	case !way:
		return errors.New("no control plane can be reached")
	case !c.serves():
		return errors.New("dial tcp 127.0.0.1:6444: connection reset by peer")
	case time.Now().Before(c.erring) && c.chance("api error")%2 == 0:
		return errors.New("etcdserver: request timed out")
	}
	return nil
}

// changes notes that the run has changed something in the API. mu is held.
func (a *api) changes(format string, args ...any) {
	a.run.changed(time.Now())
	a.run.c.note("api: run %d %s", a.run.id, fmt.Sprintf(format, args...))
}

// Ready implements live.APIClient.
func (a *api) Ready(ctx context.Context) error {
	return a.ask(ctx, "ready", func() error { return nil })
}

// Now implements live.APIClient.
func (a *api) Now(ctx context.Context) (now time.Time, err error) {
	err = a.ask(ctx, "now", func() error { now = time.Now(); return nil })
	return now, err
}

// ClusterUID implements live.APIClient.
func (a *api) ClusterUID(ctx context.Context) (uid string, err error) {
	err = a.ask(ctx, "uid", func() error {
		if _, ok := a.run.c.objects["ConfigMap kube-system/slipway-cluster"]; ok {
			uid = a.run.c.shape.Variants[0].Input.UID
		}
		return nil
	})
	return uid, err
}

// Apply implements live.APIClient.
func (a *api) Apply(ctx context.Context, manifests []byte) (changed []kube.Change, err error) {
	for _, o := range objectsOf(string(manifests)) {
		err := a.ask(ctx, "apply "+o.name, func() error {
			if live, there := a.run.c.objects[o.name]; live != o.text {
				changed = append(changed, kube.Change{Object: o.name, Missing: !there})
				a.run.c.objects[o.name] = o.text
				a.changes("applies %s", o.name)
			}
			return nil
		})
		if err != nil {
			return changed, fmt.Errorf("apply %s: %w", o.name, err)
		}
	}
	return changed, nil
}

// Diff implements live.APIClient.
func (a *api) Diff(ctx context.Context, manifests []byte) (changed []kube.Change, err error) {
	err = a.ask(ctx, "diff", func() error {
		for _, o := range objectsOf(string(manifests)) {
			if live, there := a.run.c.objects[o.name]; live != o.text {
				changed = append(changed, kube.Change{Object: o.name, Missing: !there, Live: live, Wanted: o.text})
			}
		}
		return nil
	})
	return changed, err
}

// object is one of a stream of manifests.
type object struct{ name, text string }

var (
	kindLine  = regexp.MustCompile(`(?m)^kind: *"?([A-Za-z]+)`)
	nameWord  = regexp.MustCompile(`\bname: *"?([a-z0-9.:-]+)`)
	spaceWord = regexp.MustCompile(`\bnamespace: *"?([a-z0-9-]+)`)
	parsed    sync.Map // []object by stream
)

func objectsOf(manifests string) []object {
	if known, ok := parsed.Load(manifests); ok {
		return known.([]object)
	}
	var all []object
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		kind, name := kindLine.FindStringSubmatch(text), nameWord.FindStringSubmatch(text)
		if kind == nil || name == nil {
			continue
		}
		o := object{kind[1] + " " + name[1], text}
		_, metadata, _ := strings.Cut(text, "metadata:")
		metadata, _, _ = strings.Cut(metadata, "\nspec:")
		metadata, _, _ = strings.Cut(metadata, "\nsubjects:")
		if space := spaceWord.FindStringSubmatch(metadata); space != nil {
			o.name = kind[1] + " " + space[1] + "/" + name[1]
		}
		all = append(all, o)
	}
	parsed.Store(manifests, all)
	return all
}

// Nodes implements live.APIClient.
func (a *api) Nodes(ctx context.Context) (nodes map[string]kube.Node, err error) {
	err = a.ask(ctx, "nodes", func() error {
		nodes = map[string]kube.Node{}
		for name, n := range a.run.c.nodes {
			nodes[name] = n.node()
		}
		return nil
	})
	return nodes, err
}

// version is that of all kubelets.
const version = "v1.36.3"

func (n *node) node() kube.Node {
	k := kube.Node{
		Labels: clone(n.labels), Taints: clone(n.taints), Version: version, Ready: n.ready,
		RecordedLabels: clone(n.recordedLabels), RecordedTaints: clone(n.recordedTaints),
	}
	if !n.ready {
		k.Condition = "NotReady: KubeletNotReady"
	}
	return k
}

// EnsureNode implements live.APIClient.
func (a *api) EnsureNode(ctx context.Context, name string, want kube.Node, report func(string)) error {
	last := ""
	err := live.WaitEvery(ctx, 500*time.Millisecond, "node "+name+" is not as it should be", func(ctx context.Context) error {
		return a.ask(ctx, "node "+name, func() error {
			n := a.run.c.nodes[name]
			if n == nil {
				return errors.New("it has not registered")
			}
			a.give(name, n, want)
			if !n.ready {
				if last != "NotReady" {
					report("NotReady")
				}
				last = "NotReady"
				return errors.New("NotReady")
			}
			return nil
		})
	})
	return err
}

// give gives a node what it should have. mu is held.
func (a *api) give(name string, n *node, want kube.Node) {
	before := n.node()
	for _, m := range []struct{ have, recorded, want map[string]string }{{n.labels, n.recordedLabels, want.Labels}, {n.taints, n.recordedTaints, want.Taints}} {
		for key := range m.recorded {
			if _, wanted := m.want[key]; !wanted {
				delete(m.have, key)
			}
		}
		maps.Copy(m.have, m.want)
	}
	for _, key := range want.Absent {
		delete(n.labels, key)
	}
	n.recordedLabels, n.recordedTaints = clone(want.Labels), clone(want.Taints)
	after := n.node()
	if !maps.Equal(before.Labels, after.Labels) || !maps.Equal(before.Taints, after.Taints) {
		a.changes("labels node %s", name)
	}
}

// Heartbeat implements live.APIClient.
func (a *api) Heartbeat(ctx context.Context, name string) (heartbeat kube.Heartbeat, err error) {
	err = a.ask(ctx, "beat "+name, func() error {
		n := a.run.c.nodes[name]
		if n == nil {
			return fmt.Errorf("nodes %q not found", name)
		}
		heartbeat = kube.Heartbeat{Lease: n.lease, Report: n.lease}
		return nil
	})
	return heartbeat, err
}

// Deployment implements live.APIClient: DNS serves where any node is Ready.
func (a *api) Deployment(ctx context.Context, namespace, name string) (d kube.Deployment, err error) {
	err = a.ask(ctx, "deployment", func() error {
		d = kube.Deployment{Name: namespace + "/" + name, Replicas: 2, Settled: true}
		if _, there := a.run.c.objects["Deployment "+d.Name]; !there {
			return fmt.Errorf("deployments %q not found", name)
		}
		for _, n := range a.run.c.nodes {
			if n.ready {
				d.Available = 2
			}
		}
		return nil
	})
	return d, err
}

// RootCAs implements live.APIClient: the controller manager publishes what is in its file.
func (a *api) RootCAs(ctx context.Context) (all map[string]string, err error) {
	err = a.ask(ctx, "root CAs", func() error {
		for _, h := range a.run.c.controlPlanes() {
			if h.works("kube-controller-manager.service") {
				all = map[string]string{"default": string(h.content(certs.RootCAFile))}
			}
		}
		return nil
	})
	return all, err
}

// LacksClientCAs implements live.APIClient: they are told what API servers are.
func (a *api) LacksClientCAs(ctx context.Context, _, _ []byte) (fields []string, err error) {
	return nil, a.ask(ctx, "client CAs", func() error { return nil })
}

// DropClientCAs implements live.APIClient.
func (a *api) DropClientCAs(ctx context.Context, _, _ []byte) (found bool, err error) {
	return false, a.ask(ctx, "drop client CAs", func() error { return nil })
}

// Workloads implements live.APIClient: there are none.
func (a *api) Workloads(ctx context.Context) ([]kube.Workload, error) {
	return nil, a.ask(ctx, "workloads", func() error { return nil })
}

// RolloutAll implements live.APIClient.
func (a *api) RolloutAll(ctx context.Context, _ []kube.Workload, _ time.Time, _ int, _ func(kube.Workload, string)) error {
	return a.ask(ctx, "rollout", func() error { return nil })
}

// TokenSecrets implements live.APIClient: there are none.
func (a *api) TokenSecrets(ctx context.Context) ([]kube.TokenSecret, error) {
	return nil, a.ask(ctx, "tokens", func() error { return nil })
}

// RewriteSecrets implements live.APIClient.
func (a *api) RewriteSecrets(ctx context.Context, _ func(string)) (n int, err error) {
	return 1, a.ask(ctx, "rewrite", func() error { return nil })
}
