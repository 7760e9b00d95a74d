package delivery

import (
	"cmp"
	"maps"
	"slices"
)

// Operator is the source that is the operator's machine, which has everything.
const Operator = ""

// Mirror is the source that is a web server with all blobs. No host has this name.
const Mirror = "the mirror"

// The limits of Next.
const (
	// uploads is how many blobs the operator sends at a time to hosts that can share them: more
	// would share the same uplink, and the first to be whole would be so later.
	uploads = 3
	// served is how many hosts take from one host at a time.
	served = 2
	// tries is how many peers a host fails to reach before it is taken to be cut off from all, and
	// how many hosts fail to reach a peer before none tries it.
	tries = 2
)

// Job is a blob that a host takes from a source.
type Job struct{ Host, Blob, From string }

// Failure is why a job has failed.
type Failure int

// The reasons.
const (
	// Broken is nobody's fault but the job's: the source stays.
	Broken Failure = iota
	// Unreachable means that the host does not reach the source, or got nothing from it for long.
	Unreachable
	// Lied means that what the source gave is not what it should be.
	Lied
	// Mixed means that what several sources gave together is not what it should be: the host takes
	// the blob from the operator.
	Mixed
	// Missing means that the mirror does not have the blob, or another one under its name.
	Missing
)

// Board decides who takes which blob from whom. Its methods are called one at a time; the same calls
// give the same results.
//
// The operator sends a blob once, to one host that will give it to others, and again only if nobody
// who has it, or is getting it, can give it to a host that lacks it. Hosts that take from the mirror
// ask others, and the operator, only for what it does not give them.
type Board struct {
	hosts map[string]*host
	ready map[string]int64 // sizes of blobs that the operator has packed
}

// host is a host's part.
type host struct {
	first  string // the blob that lets it serve, taken before others
	wants  map[string]bool
	has    map[string]bool // whole and verified
	offers map[string]bool // served
	// overdue blobs it has, and does not serve although it has had the time.
	overdue map[string]bool
	taking  map[string]*taking
	giving  int
	// mute hosts serve nobody: they cannot, or must not.
	mute bool
	// alone hosts reach no peer.
	alone bool
	// direct blobs come from the operator.
	direct map[string]bool
	// lost are the sources that this host does not reach, lostBy the hosts that do not reach this one.
	lost, lostBy map[string]bool
	// mirror means that the host takes from the mirror, able that it can begin, and without is what the
	// mirror does not give it.
	mirror, able bool
	without      map[string]bool
	// took and gave mean that this has worked once with a peer.
	took, gave bool
}

type taking struct {
	from    string
	stalled bool
}

// NewBoard returns a board without hosts.
func NewBoard() *Board { return &Board{hosts: map[string]*host{}, ready: map[string]int64{}} }

// Join adds a host that lacks blobs. first is the one that it needs to serve others; it may be none
// of them. A host that is mute serves nobody, and one that is alone takes from no other host.
func (b *Board) Join(name string, wants []string, first string, mute, alone bool) {
	h := &host{
		first: first, mute: mute, alone: alone, wants: map[string]bool{}, has: map[string]bool{}, offers: map[string]bool{}, taking: map[string]*taking{},
		overdue: map[string]bool{}, direct: map[string]bool{}, lost: map[string]bool{}, lostBy: map[string]bool{}, without: map[string]bool{},
	}
	for _, blob := range wants {
		h.wants[blob] = true
	}
	b.hosts[name] = h
}

// Mirrored says that a host takes from the mirror, all but its first blob, as soon as it is able to:
// until it is, it waits.
func (b *Board) Mirrored(name string, able bool) {
	if h := b.hosts[name]; h != nil {
		h.mirror, h.able = true, able
	}
}

// Leave removes a host, which gives and takes nothing any more.
func (b *Board) Leave(name string) {
	h := b.hosts[name]
	if h == nil {
		return
	}
	for blob := range h.taking {
		b.release(Job{name, blob, h.taking[blob].from})
	}
	delete(b.hosts, name)
}

// Ready says that the operator has packed a blob, of so many bytes: before, nobody takes it.
func (b *Board) Ready(blob string, size int64) { b.ready[blob] = size }

// Lacks returns how many blobs a host does not have yet.
func (b *Board) Lacks(name string) int {
	h := b.hosts[name]
	if h == nil {
		return 0
	}
	return len(h.wants)
}

// Has says that a host has a blob, whole and verified.
func (b *Board) Has(name, blob string) {
	if h := b.hosts[name]; h != nil {
		delete(h.wants, blob)
		h.has[blob] = true
	}
}

// Serves says that a host begins to serve: it could not before, so nothing that it has is overdue yet.
func (b *Board) Serves(name string) {
	if h := b.hosts[name]; h != nil {
		clear(h.overdue)
	}
}

// Offer says that a host gives a blob to others from now on.
func (b *Board) Offer(name, blob string) {
	if h := b.hosts[name]; h != nil {
		h.offers[blob] = true
		delete(h.overdue, blob)
	}
}

// Overdue says that a host has had a blob for long: if it does not give it yet, others no longer wait
// for that.
func (b *Board) Overdue(name, blob string) {
	if h := b.hosts[name]; h != nil && !h.offers[blob] {
		h.overdue[blob] = true
	}
}

// Mute says that a host gives nothing to others any more.
func (b *Board) Mute(name string) {
	if h := b.hosts[name]; h != nil {
		h.mute = true
	}
}

// Stalled says that a job does not get on: others no longer wait for it.
func (b *Board) Stalled(j Job) {
	if h := b.hosts[j.Host]; h != nil && h.taking[j.Blob] != nil {
		h.taking[j.Blob].stalled = true
	}
}

// Done says that a job is done: its host has the blob.
func (b *Board) Done(j Job) {
	b.release(j)
	b.Has(j.Host, j.Blob)
	if j.From == Operator || j.From == Mirror {
		return
	}
	if h := b.hosts[j.Host]; h != nil {
		h.took = true
	}
	if s := b.hosts[j.From]; s != nil {
		s.gave = true
	}
}

// Failed says that a job has failed. cut means that its host is from now on taken to reach no peer.
func (b *Board) Failed(j Job, why Failure) (cut bool) {
	b.release(j)
	h, s := b.hosts[j.Host], b.hosts[j.From]
	if h == nil {
		return false
	}
	if j.From == Mirror && why != Mixed {
		h.refused(j.Blob, why)
		return false
	}
	switch why {
	case Lied:
		if s != nil {
			s.mute = true
		}
	case Mixed:
		h.direct[j.Blob] = true
	case Unreachable:
		h.lost[j.From] = true
		if s != nil {
			s.lostBy[j.Host] = true
			s.mute = s.mute || len(s.lostBy) >= tries && !s.gave
		}
		if !h.alone && !h.took && len(h.lost) >= tries {
			h.alone = true
			return true
		}
	case Broken, Missing:
	}
	return false
}

// refused notes that the mirror has not given a blob: the host does without it, or without the mirror.
func (h *host) refused(blob string, why Failure) {
	switch why {
	case Lied, Missing:
		h.without[blob] = true
	case Unreachable:
		h.mirror = false
	case Broken, Mixed:
	}
}

// release ends a job.
func (b *Board) release(j Job) {
	h := b.hosts[j.Host]
	if h == nil || h.taking[j.Blob] == nil {
		return
	}
	delete(h.taking, j.Blob)
	if s := b.hosts[j.From]; s != nil {
		s.giving--
	}
}

// Next returns what a host takes next, and from whom. If there is nothing at the moment, ok is
// false: it may be later, when anything has changed.
func (b *Board) Next(name string) (j Job, ok bool) {
	h := b.hosts[name]
	if h == nil {
		return Job{}, false
	}
	open := b.open(h)
	if slices.Contains(open, h.first) { // so that it can serve soon
		for _, from := range []func(string, string) (string, bool){b.peer, b.upload} {
			if source, ok := from(name, h.first); ok {
				return b.take(Job{name, h.first, source}), true
			}
		}
	}
	mirrored := func(blob string) bool { return h.mirrors(blob) }
	if i := slices.IndexFunc(open, mirrored); i >= 0 && h.able {
		return b.take(Job{name, open[i], Mirror}), true
	}
	open = slices.DeleteFunc(open, mirrored)
	// The uplink first: it is the narrowest, and must not be idle.
	for _, from := range []func(string, string) (string, bool){b.upload, b.peer} {
		for _, blob := range open {
			if source, ok := from(name, blob); ok {
				return b.take(Job{name, blob, source}), true
			}
		}
	}
	return Job{}, false
}

func (b *Board) take(j Job) Job {
	b.hosts[j.Host].taking[j.Blob] = &taking{from: j.From}
	if s := b.hosts[j.From]; s != nil {
		s.giving++
	}
	return j
}

// open are the blobs that the operator has packed and a host lacks and does not get yet: first those that most hosts lack, and
// of them the largest.
func (b *Board) open(h *host) []string {
	lacking := map[string]int{}
	for _, other := range b.hosts {
		for blob := range other.wants {
			lacking[blob]++
		}
	}
	var blobs []string
	for _, blob := range slices.Sorted(maps.Keys(h.wants)) {
		if _, ready := b.ready[blob]; ready && h.taking[blob] == nil {
			blobs = append(blobs, blob)
		}
	}
	slices.SortStableFunc(blobs, func(x, y string) int {
		return cmp.Or(cmp.Compare(lacking[y], lacking[x]), cmp.Compare(b.ready[y], b.ready[x]))
	})
	return blobs
}

// reaches reports whether a host can take from another, as far as is known.
func (b *Board) reaches(name, source string) bool {
	h, s := b.hosts[name], b.hosts[source]
	return name != source && !h.alone && !s.mute && !h.lost[source]
}

// peer returns the host that gives a blob to another: the one that has the least to do.
func (b *Board) peer(name, blob string) (source string, ok bool) {
	if b.hosts[name].direct[blob] {
		return "", false
	}
	for _, s := range slices.Sorted(maps.Keys(b.hosts)) {
		if b.hosts[s].offers[blob] && b.hosts[s].giving < served && b.reaches(name, s) && (!ok || b.hosts[s].giving < b.hosts[source].giving) {
			source, ok = s, true
		}
	}
	return source, ok
}

// upload reports whether the operator sends a blob to a host.
func (b *Board) upload(name, blob string) (source string, ok bool) {
	h := b.hosts[name]
	if h.alone || h.direct[blob] {
		return Operator, true // which nobody else could do
	}
	sent := 0
	for other, o := range b.hosts {
		if o.promises(blob) && b.reaches(name, other) {
			return "", false
		}
		sent += o.uploads()
	}
	return Operator, sent < uploads
}

// promises reports whether a host is going to give a blob to others: it is getting it, or has it and
// serves soon, or fetches it from the mirror before long.
func (h *host) promises(blob string) bool {
	fetches := h.wants[blob] && h.mirrors(blob) && !h.stuck(blob) && (h.able || !h.stuck(h.first))
	return fetches || h.getting(blob) || h.has[blob] && (!h.overdue[blob] || h.starts())
}

// starts reports whether a host that serves nothing yet is going to: it is getting what it needs for
// that, or has not had it for long.
func (h *host) starts() bool {
	return len(h.offers) == 0 && (h.taking[h.first].moves() || h.has[h.first] && !h.overdue[h.first])
}

// mirrors reports whether a host takes a blob from the mirror.
func (h *host) mirrors(blob string) bool {
	return h.mirror && blob != h.first && !h.without[blob] && !h.direct[blob]
}

// getting reports whether the operator is sending a blob to a host.
func (h *host) getting(blob string) bool {
	t := h.taking[blob]
	return t.moves() && t.from == Operator
}

// stuck reports whether a host takes a blob and does not get on.
func (h *host) stuck(blob string) bool { return h.taking[blob] != nil && !h.taking[blob].moves() }

func (t *taking) moves() bool { return t != nil && !t.stalled }

// uploads counts what the operator is sending to a host, unless nobody else could.
func (h *host) uploads() (n int) {
	if h.alone {
		return 0
	}
	for blob := range h.taking {
		if h.getting(blob) {
			n++
		}
	}
	return n
}
