package simulate

import (
	"bytes"
	"path"
	"strings"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

// These are asked by the hosts before a run changes something on them. mu is held.

// deletes looks that nothing is deleted which cannot be had again.
func (h *Host) deletes(r *Run, name string) {
	switch {
	case strings.HasPrefix(name, "/var/lib/etcd") || name == "/var/lib" || name == "/var":
		h.c.violate("data: run %d deletes %s of %s", r.id, name, h.name)
	case strings.HasSuffix(name, ".key"):
		h.c.violate("keys: run %d deletes %s of %s", r.id, name, h.name)
	}
}

// removesProgram looks that no unit is or would be started from a program that is removed.
func (h *Host) removesProgram(r *Run, name string) {
	for unit, u := range h.units {
		if strings.Contains(u.text, path.Dir(name)+"/") || strings.Contains(string(h.content(stack.UnitDir+unit)), path.Dir(name)+"/") {
			h.c.violate("program: run %d removes %s from %s, which %s uses", r.id, name, h.name, unit)
		}
	}
}

// overwrites looks that no key takes the place of another, as long as nobody wants new ones.
func (h *Host) overwrites(r *Run, f host.File) {
	if old := h.files[f.Path]; strings.HasSuffix(f.Path, ".key") && old != nil && !old.spoilt && !bytes.Equal(old.Content, f.Content) && !r.NewKeys {
		h.c.violate("keys: run %d overwrites %s of %s", r.id, f.Path, h.name)
	}
}

// begins looks that no member of etcd that had data begins with none, where the cluster has been up.
func (h *Host) begins(r *Run, unit string) {
	if unit == stack.EtcdService && h.etcd == "" && (h.had || h.away != nil && h.away.had) && h.c.joined[h.name] {
		h.c.violate("member: run %d starts an empty member of etcd on %s, which has had data", r.id, h.name)
	}
}

// disturbed looks, before a unit stops or starts, that a living cluster keeps its quorum, and that no two control planes
// are disturbed by a run at once. What others did to the cluster after the run had last seen it is not the run's fault.
func (h *Host) disturbed(r *Run, unit string) {
	c := h.c
	if !h.cp {
		return
	}
	alive := c.lives()
	if unit == stack.EtcdService && c.up && !r.alive && !r.down {
		c.violate("down: run %d stops or starts the member of %s, and has not proven that the cluster, which has been up, is down", r.id, h.name)
	}
	if r.alive && unit == stack.EtcdService && c.quorate(h) && len(c.controlPlanes()) > 1 && c.members(h.etcd)-1 < c.majority() && !c.hurtSince(r, h) {
		c.violate("quorum: run %d stops the member of %s, and %d of %d are left", r.id, h.name, c.members(h.etcd)-1, len(c.controlPlanes()))
	}
	if !alive || !r.alive {
		return
	}
	for _, other := range c.order {
		if _, was := r.disturbs[other.name]; other != h && was {
			c.violate("turn: run %d disturbs %s by %s, and has not seen %s well again", r.id, h.name, unit, other.name)
		}
	}
	if _, was := r.disturbs[h.name]; !was {
		r.disturbs[h.name] = time.Now()
	}
}

// seen looks, where a run takes a control plane that it has disturbed for well, that it is: what others did meanwhile is not
// the run's fault. mu is held.
func (r *Run) seen(h *Host) {
	at, was := r.disturbs[h.name]
	if !was {
		return
	}
	delete(r.disturbs, h.name)
	for _, other := range r.c.order {
		if other.hurt.After(at.Add(-time.Minute)) {
			return
		}
	}
	if why := r.c.well(h); why != "" {
		r.c.violate("gate: run %d takes %s for well, and %s", r.id, h.name, why)
	}
}

// provenDown looks that a cluster which a run takes for down is, where nothing happened to it lately. mu is held.
func (r *Run) provenDown() {
	r.down = true
	for _, h := range r.c.order {
		if time.Since(h.hurt) < 2*time.Minute {
			return
		}
	}
	if r.c.lives() {
		r.c.violate("down: run %d takes the cluster for down, and it lives", r.id)
	}
}

// hurtSince says whether anything was done to another control plane after the run has asked etcd how it is, or the cluster
// has come to life, which had no quorum to lose then.
func (c *Cluster) hurtSince(r *Run, h *Host) bool {
	if c.revived.After(r.asked) {
		return true
	}
	for _, other := range c.controlPlanes() {
		if other != h && other.hurt.After(r.asked) {
			return true
		}
	}
	return false
}
