package simulate

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/stack"
)

// fault is something that happens to a cluster, by no run's doing.
type fault struct {
	name string
	// weight is how often it happens, among all.
	weight int
	strike func(w *world, h *Host)
}

// faultTable: mu is held when they strike. A host that they are done to is drawn; it is hurt, whatever they do.
var faultTable = []fault{
	{"cut", 4, func(_ *world, h *Host) {
		for _, k := range h.conns {
			k.cut("connection reset by peer")
		}
	}},
	{"close", 2, func(w *world, h *Host) { // nobody gets in for a while
		h.closed = true
		for _, k := range h.conns {
			k.cut("connection reset by peer")
		}
		w.later(h, time.Minute, func() { h.closed = false })
	}},
	{"freeze", 3, func(w *world, h *Host) {
		h.frozen = h.on()
		w.later(h, 4*time.Minute, func() { h.frozen = false })
	}},
	{"slow", 2, func(w *world, h *Host) {
		h.slow = true
		w.later(h, 10*time.Minute, func() { h.slow = false })
	}},
	{"full", 2, func(w *world, h *Host) {
		h.full = true
		w.later(h, 5*time.Minute, func() { h.full = false })
	}},
	{"reboot", 4, func(w *world, h *Host) {
		h.stop(time.Now().Add(w.span(2*time.Second, time.Minute)), "the machine reboots")
	}},
	{"power off", 2, func(_ *world, h *Host) { h.stop(time.Time{}, "the machine is off") }},
	{"power on", 1, func(w *world, h *Host) {
		if !h.on() && h.boots.IsZero() {
			h.stop(time.Now().Add(w.span(time.Second, 20*time.Second)), "")
		}
	}},
	{"lose disk", 2, func(w *world, h *Host) {
		if h.cp && (!w.c.up || h.away != nil) {
			return // of a control plane only what can be missed, and given back
		}
		h.stop(time.Now().Add(w.span(2*time.Second, time.Minute)), "the machine lost its disk")
		if h.cp {
			lost := h.disk
			h.away = &lost
		}
		h.disk = newDisk()
	}},
	{"API errors", 2, func(w *world, _ *Host) { w.c.erring = time.Now().Add(w.span(time.Second, time.Minute)) }},
	{"edit", 4, func(w *world, h *Host) {
		if name := w.draw(slices.Sorted(maps.Keys(h.files))); name != "" && h.files[name].Mode.IsRegular() && name != stack.OwnedFile && !identifies(name) {
			f := *h.files[name]
			f.Content = append(slices.Clone(f.Content), "# edited\n"...)
			h.put(f.File)
			h.files[name].spoilt = true
		}
	}},
	{"rm", 3, func(w *world, h *Host) {
		if name := w.draw(slices.Sorted(maps.Keys(h.files))); name != "" && !identifies(name) {
			delete(h.files, name)
		}
	}},
	{"stop unit", 4, func(w *world, h *Host) { h.kill(w.draw(slices.Sorted(maps.Keys(h.units)))) }},
	{"disable unit", 2, func(w *world, h *Host) {
		if name := w.draw(slices.Sorted(maps.Keys(h.units))); name != "" {
			h.units[name].enabled, h.enabled[name] = false, false
		}
	}},
	{"sysctl", 1, func(_ *world, h *Host) { h.sysctls["net.ipv4.ip_forward"] = "0" }},
	{"object", 2, func(w *world, _ *Host) {
		if name := w.draw(slices.Sorted(maps.Keys(w.c.objects))); name != "" {
			w.c.objects[name] += "# edited\n"
		}
	}},
	{"delete object", 1, func(w *world, _ *Host) {
		if name := w.draw(slices.Sorted(maps.Keys(w.c.objects))); !strings.HasSuffix(name, "/slipway-cluster") {
			delete(w.c.objects, name)
		}
	}},
	{"delete node", 1, func(w *world, h *Host) { delete(w.c.nodes, h.name) }},
}

// identifies says whether a file tells which cluster a host is of: slipway takes a host without it, or with another, for
// another's, and says what to do.
func identifies(name string) bool {
	return name == stack.ClusterFile || name == stack.InitializedFile || name == stack.OwnedFile
}

// world is a cluster, and what happens to it.
type world struct {
	c    *Cluster
	rand *rand.Rand
}

// later undoes something, some time before most is over, unless the machine has gone down meanwhile.
func (w *world) later(h *Host, most time.Duration, undo func()) {
	life, after := h.life, w.span(time.Second, most)
	w.c.busy.Go(func() {
		time.Sleep(after)
		w.c.mu.Lock()
		defer w.c.mu.Unlock()
		if h.life == life {
			undo()
			h.hurt = time.Now()
			w.c.note("%s is itself again", h.name)
		}
	})
}

// span is a time between two, short ones as likely as long ones.
func (w *world) span(least, most time.Duration) time.Duration {
	doublings := 0
	for d := least; d < most; d *= 2 {
		doublings++
	}
	d := least << w.rand.IntN(doublings+1)
	return min(d+time.Duration(w.rand.Int64N(int64(d))), most+time.Duration(w.rand.Int64N(int64(time.Second))))
}

func (w *world) draw(from []string) string {
	if len(from) == 0 {
		return ""
	}
	return from[w.rand.IntN(len(from))]
}

// strike has something happen now.
func (w *world) strike() {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	w.c.settle()
	total := 0
	for _, f := range faultTable {
		total += f.weight
	}
	n := w.rand.IntN(total)
	for _, f := range faultTable {
		if n -= f.weight; n < 0 {
			h := w.c.order[w.rand.IntN(len(w.c.order))]
			h.hurt = time.Now()
			w.c.note("FAULT %s: %s", h.name, f.name)
			f.strike(w, h)
			break
		}
	}
	w.c.settle()
}

// heal gives back what can be given back: power, disks, room, connections.
func (w *world) heal() {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	w.c.note("all is healed")
	w.c.erring = time.Time{}
	for i, h := range w.c.order {
		h.frozen, h.slow, h.full, h.closed, h.hurt = false, false, false, false, time.Now()
		boots := time.Now().Add(time.Duration(i+1) * 1234567 * time.Microsecond)
		if h.away != nil {
			h.stop(boots, "the machine gets its disk back")
			h.disk, h.away = *h.away, nil
		}
		if !h.on() {
			h.stop(boots, "")
		}
	}
}
