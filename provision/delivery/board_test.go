package delivery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// take is Next, for tables.
func take(b *Board, host string) string {
	j, ok := b.Next(host)
	if !ok {
		return "-"
	}
	if j.From == Operator {
		return j.Blob
	}
	return j.Blob + " from " + j.From
}

func board(blobs map[string]int64, hosts ...string) *Board {
	b := NewBoard()
	var all []string
	for blob, size := range blobs {
		all = append(all, blob)
		b.Ready(blob, size)
	}
	for _, h := range hosts {
		b.Join(h, all, "slipway", false, false)
	}
	return b
}

func expect(t *testing.T, b *Board, host, want string) {
	t.Helper()
	if got := take(b, host); got != want {
		t.Errorf("%s takes %q, want %q", host, got, want)
	}
}

// TestBoard is the life of a delivery to three hosts.
func TestBoard(t *testing.T) {
	b := board(map[string]int64{"slipway": 5, "large": 9, "small": 1}, "a", "b", "c")
	expect(t, b, "a", "slipway") // what lets it serve comes first
	expect(t, b, "b", "large")   // the uplink is not idle meanwhile
	expect(t, b, "b", "small")
	expect(t, b, "c", "-") // all is on its way to others
	b.Done(Job{"a", "slipway", Operator})
	expect(t, b, "c", "-") // it has it, and does not give it yet
	b.Offer("a", "slipway")
	expect(t, b, "c", "slipway from a")
	expect(t, b, "b", "slipway from a")
	b.Done(Job{"c", "slipway", "a"})
	b.Offer("c", "slipway")
	b.Done(Job{"b", "large", Operator})
	expect(t, b, "a", "-")
	b.Done(Job{"b", "slipway", "a"})
	b.Offer("b", "large")
	expect(t, b, "a", "large from b")
	expect(t, b, "c", "large from b")
	b.Done(Job{"b", "small", Operator})
	b.Offer("b", "small")
	expect(t, b, "c", "-") // b gives to two already
	if b.Lacks("b") != 0 || b.Lacks("a") != 2 {
		t.Errorf("b lacks %d, a lacks %d", b.Lacks("b"), b.Lacks("a"))
	}
}

// TestBoardWithoutPeers: whoever cannot be helped by others gets all from the operator.
func TestBoardWithoutPeers(t *testing.T) {
	for name, spoil := range map[string]func(b *Board){
		"mute":     func(b *Board) { b.Mute("a") },
		"gone":     func(b *Board) { b.Leave("a") },
		"lied":     func(b *Board) { b.Failed(Job{"c", "x", "a"}, Lied) },
		"mixed":    func(b *Board) { b.Failed(Job{"b", "x", "a"}, Mixed) },
		"unlinked": func(b *Board) { b.Failed(Job{"b", "x", "a"}, Unreachable) },
	} {
		b := board(map[string]int64{"x": 1}, "a", "b", "c")
		b.Has("a", "x")
		b.Offer("a", "x")
		spoil(b)
		if got := take(b, "b"); got != "x" {
			t.Errorf("%s: %s", name, got)
		}
	}
	b := board(map[string]int64{"x": 1}, "a", "b")
	expect(t, b, "a", "x")
	expect(t, b, "b", "-")
	b.Stalled(Job{"a", "x", Operator})
	expect(t, b, "b", "x")
}

// TestBoardWithoutOffer: nobody waits for ever until a host serves what it has.
func TestBoardWithoutOffer(t *testing.T) {
	b := board(map[string]int64{"x": 1}, "a", "b", "c")
	b.Has("a", "x") // of an earlier run; it cannot serve, since slipway does not arrive or hangs
	expect(t, b, "b", "-")
	b.Overdue("a", "x")
	expect(t, b, "b", "x")
	expect(t, b, "c", "-") // b is getting it
	b.Offer("a", "x")
	expect(t, b, "c", "x from a")
	b.Overdue("a", "x")
	b.Failed(Job{"c", "x", "a"}, Broken)
	b.Done(Job{"b", "x", Operator})
	expect(t, b, "c", "x from a")

	b = board(map[string]int64{"slipway": 5, "x": 1}, "a", "b")
	b.Has("a", "x")
	expect(t, b, "a", "slipway")
	b.Overdue("a", "x")
	expect(t, b, "b", "-") // what lets a serve is on its way
	b.Stalled(Job{"a", "slipway", Operator})
	expect(t, b, "b", "slipway")
	expect(t, b, "b", "x")

	b = board(map[string]int64{"slipway": 5, "x": 1, "y": 1}, "a", "b", "c")
	b.Has("a", "x")
	b.Has("a", "y")
	b.Overdue("a", "x")
	b.Has("a", "slipway")
	expect(t, b, "b", "-") // a unpacks it
	b.Serves("a")
	b.Offer("a", "slipway")
	expect(t, b, "b", "slipway from a")
	expect(t, b, "b", "-") // a serves x in a moment
	b.Overdue("a", "x")
	expect(t, b, "b", "x") // it does not
	b = board(map[string]int64{"slipway": 5, "x": 1}, "a", "b")
	b.Has("a", "x")
	b.Has("a", "slipway")
	b.Serves("a")
	b.Overdue("a", "x")
	b.Offer("a", "slipway") // late
	expect(t, b, "b", "slipway from a")
	expect(t, b, "b", "x")
	b = board(map[string]int64{"slipway": 5, "x": 1}, "a", "b")
	b.Has("a", "x")
	b.Has("a", "slipway")
	b.Overdue("a", "x")
	b.Overdue("a", "slipway")
	expect(t, b, "b", "slipway")
	expect(t, b, "b", "x")
}

// TestBoardOfHostsThatAreCutOff: after two peers that it does not reach, a host tries no more, and
// after two hosts that do not reach it, a peer is asked no more.
func TestBoardOfHostsThatAreCutOff(t *testing.T) {
	b := board(map[string]int64{"x": 1, "y": 1}, "a", "b", "c", "d", "e")
	for _, s := range []string{"a", "b", "c"} {
		b.Has(s, "x")
		b.Offer(s, "x")
	}
	expect(t, b, "d", "y")
	expect(t, b, "d", "x from a")
	if b.Failed(Job{"d", "x", "a"}, Unreachable) {
		t.Error("cut off after one")
	}
	expect(t, b, "d", "x from b")
	if !b.Failed(Job{"d", "x", "b"}, Unreachable) {
		t.Error("not cut off after two")
	}
	expect(t, b, "d", "x")
	expect(t, b, "e", "x from a")
	b.Failed(Job{"e", "x", "a"}, Unreachable)
	b.Done(Job{"d", "x", Operator})
	if !b.hosts["a"].mute || b.hosts["b"].mute {
		t.Error("a was not reached by two hosts, b by one")
	}
}

// world carries jobs out, in an order that the seed decides.
type world struct {
	t      *testing.T
	r      *rand.Rand
	b      *Board
	blobs  []string
	wants  map[string][]string
	jobs   []Job
	sent   map[string]int // by the operator
	taken  map[Job]int
	faults bool
	// walled hosts reach nobody, liars give what is wrong.
	walled, liars map[string]bool
	// mirrored hosts take from a mirror.
	mirrored map[string]bool
}

func newWorld(t *testing.T, seed uint64, faults bool) *world {
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 1)), b: NewBoard(), wants: map[string][]string{}, sent: map[string]int{}, taken: map[Job]int{},
		faults: faults, walled: map[string]bool{}, liars: map[string]bool{}, mirrored: map[string]bool{},
	}
	for i := range 1 + w.r.IntN(8) {
		w.blobs = append(w.blobs, fmt.Sprintf("blob-%d", i))
	}
	w.blobs = append(w.blobs, "slipway")
	for i := range 1 + w.r.IntN(9) {
		name := fmt.Sprintf("host-%d", i)
		for _, blob := range w.blobs {
			if blob == "slipway" || w.r.IntN(4) > 0 {
				w.wants[name] = append(w.wants[name], blob)
			}
		}
		w.walled[name], w.liars[name] = faults && w.r.IntN(4) == 0, faults && w.r.IntN(6) == 0
		w.b.Join(name, w.wants[name], "slipway", faults && w.r.IntN(8) == 0, faults && w.r.IntN(8) == 0)
		if w.mirrored[name] = seed%5 < 2 && w.r.IntN(8) > 0; w.mirrored[name] {
			w.b.Mirrored(name, !slices.Contains(w.wants[name], "slipway"))
		}
	}
	return w
}

// names are the hosts in an order by chance.
func (w *world) names() []string {
	var names []string
	for name := range w.wants {
		names = append(names, name)
	}
	slices.Sort(names)
	w.r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

func (w *world) begin() {
	for _, name := range w.names() {
		for range 2 {
			j, ok := w.b.Next(name)
			if !ok {
				break
			}
			if j.From == j.Host || !slices.Contains(w.wants[name], j.Blob) ||
				j.From != Operator && j.From != Mirror && !w.b.hosts[j.From].offers[j.Blob] || j.From == Mirror && (!w.mirrored[name] || j.Blob == "slipway") {
				w.t.Fatalf("what a job: %v", j)
			}
			if j.From == Operator {
				w.sent[j.Blob]++
			}
			w.jobs = append(w.jobs, j)
		}
	}
	giving := map[string]int{}
	for _, j := range w.jobs {
		if giving[j.From]++; j.From != Operator && j.From != Mirror && giving[j.From] > served {
			w.t.Fatalf("%s gives to %d at once", j.From, giving[j.From])
		}
		if j.From == Operator && giving[j.From] > uploads && !w.faults {
			w.t.Fatalf("the operator sends %d at once", giving[j.From])
		}
	}
}

func (w *world) end() {
	i := w.r.IntN(len(w.jobs))
	j := w.jobs[i]
	w.jobs = slices.Delete(w.jobs, i, i+1)
	if w.taken[j]++; w.taken[j] > 4 {
		w.t.Fatalf("%v again and again", j)
	}
	switch {
	case j.From == Mirror && w.faults && w.r.IntN(4) == 0:
		w.b.Failed(j, []Failure{Lied, Missing, Unreachable}[w.r.IntN(3)])
	case j.From != Operator && j.From != Mirror && (w.walled[j.Host] || w.walled[j.From]):
		w.b.Failed(j, Unreachable)
	case w.liars[j.From]:
		w.b.Failed(j, Lied)
	case w.faults && w.r.IntN(20) == 0 && w.taken[j] < 3:
		w.b.Failed(j, Broken)
	case w.faults && w.r.IntN(20) == 0 && w.taken[j] < 3:
		w.b.Failed(j, Mixed)
	default:
		w.b.Done(j)
	}
	for _, name := range w.names() {
		if h := w.b.hosts[name]; h.has["slipway"] {
			if w.mirrored[name] && !h.able {
				w.b.Mirrored(name, true)
			}
			for blob := range h.has {
				w.b.Offer(name, blob)
			}
		}
	}
}

// allMirrored reports whether all hosts take from the mirror.
func (w *world) allMirrored() bool {
	return !slices.ContainsFunc(w.names(), func(name string) bool { return !w.mirrored[name] })
}

// TestEveryHostGetsEverything, whatever the order and whoever fails; and the operator sends each
// blob once if all can help each other, and only slipway if all take from a mirror.
func TestEveryHostGetsEverything(t *testing.T) {
	for seed := range uint64(600) {
		w := newWorld(t, seed, seed%2 == 1)
		for _, i := range w.r.Perm(len(w.blobs)) { // packed one after another
			w.b.Ready(w.blobs[i], int64(i))
			w.begin()
			if len(w.jobs) > 0 && w.r.IntN(2) == 0 {
				w.end()
			}
		}
		for w.begin(); len(w.jobs) > 0; w.begin() {
			w.end()
		}
		for name, h := range w.b.hosts {
			if len(h.wants)+len(h.taking)+h.giving > 0 {
				t.Fatalf("seed %d: %s lacks %v, takes %v, gives %d", seed, name, h.wants, h.taking, h.giving)
			}
		}
		for blob, n := range w.sent {
			if !w.faults && (n > 1 || n > 0 && blob != "slipway" && w.allMirrored()) {
				t.Fatalf("seed %d: the operator sent %s %d times", seed, blob, n)
			}
		}
	}
}
