package simulate

import (
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Units of the stack that others depend on.
const (
	containerd = "containerd.service"
	apiServer  = "kube-apiserver.service"
)

// Cluster is a fake one. All of it is guarded by mu; what takes time takes it before mu is taken.
type Cluster struct {
	seed   uint64
	shape  *Shape
	mu     sync.Mutex
	hosts  map[string]*Host
	order  []*Host           // in the order of the spec
	asked  map[uint64]uint64 // how often something has taken time, by its name's hash
	trace  Trace
	over   bool // nothing goes on any more
	busy   sync.WaitGroup
	broken []string // invariants, as they were found to be broken
	// secrets are pieces of the keys that rotations have brought.
	secrets []string

	// What the API has, which etcd keeps.
	objects map[string]string
	nodes   map[string]*node
	up      bool            // it has answered, and somebody has recorded it: the state or a host
	joined  map[string]bool // the control planes whose members are recorded to have been healthy
	erring  time.Time       // until when it answers with errors
	// living says that some member of etcd had a majority when that was last looked at, and revived since when.
	living  bool
	revived time.Time
}

// Trace is what has happened, in order.
type Trace struct {
	Lines []string
	keep  bool
	sum   uint64
}

// NewCluster makes the machines of a shape, on which nothing is yet.
func NewCluster(shape *Shape, seed uint64) *Cluster {
	c := &Cluster{
		seed: seed, shape: shape, hosts: map[string]*Host{}, asked: map[uint64]uint64{},
		objects: map[string]string{}, nodes: map[string]*node{}, joined: map[string]bool{},
	}
	for _, m := range shape.Variants[0].Input.Machines {
		h := newHost(c, m)
		c.hosts[m.Name] = h
		c.order = append(c.order, h)
	}
	return c
}

// End ends what still goes on, and returns when it has.
func (c *Cluster) End() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.busy.Wait()
}

// clock is how times are printed.
const clock = "15:04:05.000000000"

// note adds to the trace. mu is held.
func (c *Cluster) note(format string, args ...any) {
	line := fmt.Sprintf("%s %s", time.Now().UTC().Format(clock), fmt.Sprintf(format, args...))
	h := fnv.New64a()
	_, _ = io.WriteString(h, line)
	c.trace.sum += h.Sum64() // in any order: that of one instant is the scheduler's, and the others' is in their times
	if c.trace.keep {
		c.trace.Lines = append(c.trace.Lines, line)
	}
}

// violate notes that an invariant does not hold. mu is held.
func (c *Cluster) violate(format string, args ...any) {
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
	c.note("VIOLATION: "+format, args...)
}

// chance is a number that the seed gives for a name, another one each time it is asked for. mu is held.
func (c *Cluster) chance(name string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name)
	key := h.Sum64()
	c.asked[key]++
	return mix(mix(c.seed^key) ^ c.asked[key])
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// takes is how long what has this name takes: between least and twice as long, to the nanosecond, so that no two things
// happen at once.
func (c *Cluster) takes(name string, least time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return least + time.Duration(c.chance(name)%uint64(least)) //nolint:gosec // G115: positive
}

// node is one in the API.
type node struct {
	labels, taints, recordedLabels, recordedTaints map[string]string
	ready                                          bool
	heard, lease                                   time.Time
}

// grace is how long the API calls a node Ready whose kubelet is silent.
const grace = 40 * time.Second

// settle lets happen what has become possible: machines that boot, units that get active, nodes that register. mu is held.
func (c *Cluster) settle() {
	now := time.Now()
	for again := true; again; {
		again = false
		for _, h := range c.order {
			if !h.on() && !h.boots.IsZero() && !now.Before(h.boots) {
				h.start()
				again = true
			}
			for _, name := range unitOrder {
				u := h.units[name]
				if u == nil || !u.running || u.active || !h.on() || h.frozen || now.Before(u.since.Add(u.takes)) || !c.canBeActive(h, name) {
					continue
				}
				u.active, u.changed, again = true, now, true
				if name == stack.ImagesService {
					h.imported()
				}
			}
			again = c.settleNode(h, now) || again
		}
	}
	if lives := c.lives(); lives != c.living {
		c.living, c.revived = lives, now
	}
}

// settleNode says whether the node was registered, or became Ready.
func (c *Cluster) settleNode(h *Host, now time.Time) (news bool) {
	n := c.nodes[h.name]
	if !h.works(stack.KubeletService) || !c.serves() {
		if n != nil && now.Sub(n.heard) > grace {
			n.ready = false
		}
		return false
	}
	if n == nil {
		n = &node{labels: map[string]string{}, taints: map[string]string{}}
		c.nodes[h.name], news = n, true
	}
	began := h.units[stack.KubeletService].changed
	if lease := began.Add(now.Sub(began).Truncate(10 * time.Second)); lease.After(n.lease) {
		n.lease = lease
	}
	ready := h.works(stack.FlannelService)
	news = news || ready != n.ready
	n.heard, n.ready = now, ready
	return news
}

func (c *Cluster) canBeActive(h *Host, unit string) bool {
	switch unit {
	case stack.EtcdService, apiServer:
		return c.quorate(h)
	case stack.ImagesService:
		return h.works(containerd)
	case stack.KubeletService:
		return h.works(containerd) && h.works(stack.ImagesService)
	case stack.FlannelService:
		_, allowed := c.objects["ClusterRole system:flannel"]
		return c.serves() && c.nodes[h.name] != nil && allowed
	}
	return true
}

// member says whether the host's member of etcd takes part.
func (h *Host) member() bool {
	u := h.units[stack.EtcdService]
	return h.cp && h.on() && !h.frozen && u != nil && u.running && h.etcd != "" && !time.Now().Before(u.since.Add(u.takes))
}

// quorate says whether the host's member is one of a majority.
func (c *Cluster) quorate(h *Host) bool { return h.member() && c.members(h.etcd) >= c.majority() }

// members counts those that take part in a cluster of etcd.
func (c *Cluster) members(cluster string) int {
	n := 0
	for _, h := range c.order {
		if h.member() && h.etcd == cluster {
			n++
		}
	}
	return n
}

func (c *Cluster) majority() int { return len(c.controlPlanes())/2 + 1 }

func (c *Cluster) controlPlanes() []*Host {
	return slices.DeleteFunc(slices.Clone(c.order), func(h *Host) bool { return !h.cp })
}

// lives says whether any member of etcd has a majority.
func (c *Cluster) lives() bool { return slices.ContainsFunc(c.order, c.quorate) }

// ready says whether the API server of a host serves.
func (c *Cluster) ready(h *Host) bool { return h.cp && h.works(apiServer) && c.quorate(h) }

// serves says whether any does.
func (c *Cluster) serves() bool { return slices.ContainsFunc(c.order, c.ready) }

// well says whether all units of a host work, and what they are there for; why not is empty then.
func (c *Cluster) well(h *Host) (whyNot string) {
	if !h.on() || h.frozen {
		return h.name + " is not on"
	}
	for _, name := range slices.Sorted(maps.Keys(h.units)) {
		if u := h.units[name]; u.enabled && !h.works(name) {
			return name + " of " + h.name + " does not work"
		}
	}
	if h.cp && !c.ready(h) {
		return "the API server of " + h.name + " does not serve"
	}
	return ""
}

// State is all that a run could change, in words: two that are equal say that nothing was changed.
func (c *Cluster) State() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, h := range c.order {
		for _, p := range slices.Sorted(maps.Keys(h.files)) {
			fmt.Fprintf(&b, "%s %s %s %o %s\n", h.name, p, h.files[p].digest, h.files[p].Mode, h.files[p].Owner)
		}
		for _, name := range slices.Sorted(maps.Keys(h.units)) {
			fmt.Fprintf(&b, "%s %s %t %t %s %v\n", h.name, name, h.units[name].enabled, h.units[name].running, h.units[name].inputs, h.units[name].since)
		}
		fmt.Fprintf(&b, "%s etcd %s\n", h.name, h.etcd)
	}
	for _, name := range slices.Sorted(maps.Keys(c.objects)) {
		fmt.Fprintf(&b, "%s %s\n", name, c.objects[name])
	}
	return b.String()
}

// isControlPlane says whether a machine is one.
func isControlPlane(m spec.Machine) bool { return m.Role == spec.ControlPlane }
