package converge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/delivery"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

const (
	// lanes is how many programs a host takes at a time: one is verified while the next arrives.
	lanes = 2
	// packedShare is the part of a program's size that it has compressed, at most about 1/packedShare.
	packedShare = 3
	// closeTimeout is how long servers may take to end.
	closeTimeout = 5 * time.Second
	// slipwayProgram is the name of the program that unpacks and serves others. It travels as gzip,
	// which every host can unpack.
	slipwayProgram = "slipway"
)

// courier brings programs to the hosts of a run: each from this computer to about one host, and from
// there to the others; if there is a mirror, hosts fetch all but slipway from it. A delivery.Board
// decides; the courier carries out, and tells the board.
type courier struct {
	r *Runner
	// share means that several hosts get programs, and may give them to each other.
	share bool
	// life ends with the run, and work when there is no more to pack.
	life, work context.Context
	end, rest  context.CancelFunc
	// client is the key that hosts fetch from each other with; begin makes it.
	client  delivery.Key
	packer  *delivery.Packer
	begin   func() error
	cleanUp func()
	serving sync.WaitGroup

	mu      sync.Mutex
	left    int // steps that have not ended
	board   *delivery.Board
	changed chan struct{}            // closed when the board has changed
	blobs   map[string]delivery.Blob // packed, by key
	packing map[string]bool
	broken  map[string]error // of what could not be packed
	peers   map[string]*peer
	blamed  map[string]bool // reasons why the mirror did not give something
	uplink  int64           // bytes sent by this computer
}

// key is a program's name on the board.
func key(digest string, f delivery.Format) string { return digest + "." + string(f) }

// couriers returns the run's courier.
func (r *Runner) couriers() *courier {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.courier == nil {
		r.courier = newCourier(r, 1)
	}
	return r.courier
}

// newCourier returns a courier for so many steps.
func newCourier(r *Runner, steps int) *courier {
	c := &courier{
		r: r, share: steps > 1, left: steps, board: delivery.NewBoard(), changed: make(chan struct{}), cleanUp: func() {},
		blobs: map[string]delivery.Blob{}, packing: map[string]bool{}, broken: map[string]error{}, peers: map[string]*peer{},
		blamed: map[string]bool{},
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.work, c.rest = context.WithCancel(c.life)
	c.begin = sync.OnceValue(c.prepare)
	return c
}

// prepare makes what all hosts need.
func (c *courier) prepare() (err error) {
	dir := c.r.Packed
	if dir == "" {
		if dir, err = os.MkdirTemp("", "slipway-packed-"); err != nil {
			return err
		}
		c.cleanUp = func() { _ = os.RemoveAll(dir) }
	}
	c.packer = delivery.NewPacker(dir)
	c.client, err = delivery.NewKey()
	return err
}

// finish is called when a step has ended. After the last one, nobody serves.
func (c *courier) finish() {
	c.mu.Lock()
	c.left--
	last := c.left == 0
	c.mu.Unlock()
	if last {
		c.close()
	}
}

// close ends what serves, and returns when it has ended. It may be called again.
func (c *courier) close() {
	c.rest()
	c.mu.Lock()
	for _, p := range c.peers {
		_ = p.in.Close()
	}
	c.mu.Unlock()
	timer := time.AfterFunc(closeTimeout, c.end)
	c.serving.Wait()
	timer.Stop()
	c.end()
	c.cleanUp()
}

// update changes the board, and wakes whoever waits for that.
func (c *courier) update(change func(b *delivery.Board)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c.board)
	close(c.changed)
	c.changed = make(chan struct{})
}

// pack compresses a program in the background, once.
func (c *courier) pack(f stack.File, format delivery.Format) {
	k := key(f.Digest, format)
	c.mu.Lock()
	begun := c.packing[k]
	c.packing[k] = true
	c.mu.Unlock()
	if begun {
		return
	}
	c.serving.Go(func() {
		blob, err := c.packer.Pack(c.work, f.Local, f.Digest, format)
		c.update(func(b *delivery.Board) {
			if err != nil {
				c.broken[k] = err
				return
			}
			c.blobs[k] = blob
			b.Ready(k, blob.Size)
		})
	})
}

// parcel is what one host gets.
type parcel struct {
	*courier
	name string
	host host.Host
	// targets are the programs that the host lacks, by key.
	targets map[string]map[string]stack.File
	// tool is slipway on the host, "" if the host gets none; slipway is its key.
	tool, slipway string
	progress      *progress

	// The rest is guarded by courier.mu.
	usable  bool                       // tool is there
	peer    *peer                      // what serves others
	whole   []string                   // file names of what it can give to others
	packed  []delivery.Blob            // whole, and cannot be unpacked before tool is usable
	givers  map[string]map[string]bool // who gave bytes of what has arrived, by key
	mistook map[string]int             // how often it was not what it should be
}

// earlier is who gave what earlier runs have left.
const earlier = "an earlier run"

// bring brings programs to a host.
func (c *courier) bring(ctx context.Context, name string, want map[string]stack.File) error {
	if err := c.begin(); err != nil {
		return err
	}
	before, err := c.r.prepareDelivery(ctx, name, want)
	if err != nil {
		return err
	}
	p := c.newParcel(name, want, before)
	defer p.progress.every()()
	if err := p.join(ctx, before); err != nil {
		c.update(func(b *delivery.Board) { b.Leave(name) })
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for range lanes {
		group.Go(func() error { return p.lane(ctx) })
	}
	if err := group.Wait(); err != nil {
		c.update(func(b *delivery.Board) { b.Leave(name) })
		return err
	}
	return nil
}

func (c *courier) newParcel(name string, want map[string]stack.File, before found) *parcel {
	p := &parcel{
		courier: c, name: name, host: c.r.Hosts[name], targets: map[string]map[string]stack.File{},
		givers: map[string]map[string]bool{}, mistook: map[string]int{},
	}
	p.progress = newProgress(func(what string) { c.r.report(name, what) })
	for where, f := range c.r.Desired.Hosts[name].Files {
		if !f.Copied() || path.Base(where) != slipwayProgram {
			continue
		}
		p.tool, p.usable = where, true
		if _, lacks := want[where]; lacks {
			p.tool, p.usable, p.slipway = arriving(where), before.arrived[where], key(f.Digest, delivery.Gzip)
		}
	}
	for where, f := range want {
		format := delivery.Zstd
		if p.tool == "" || path.Base(where) == slipwayProgram {
			format = delivery.Gzip
		}
		k := key(f.Digest, format)
		if p.targets[k] == nil {
			p.targets[k] = map[string]stack.File{}
		}
		p.targets[k][where] = f
	}
	return p
}

// join puts the host on the board, with what earlier runs have left there.
func (p *parcel) join(ctx context.Context, before found) error {
	wants := p.wants(before)
	address := p.address()
	var whole []delivery.Blob
	p.update(func(b *delivery.Board) {
		for k := range p.targets {
			p.givers[k] = map[string]bool{}
		}
		b.Join(p.name, wants, p.slipway, !p.share || address == "" || p.tool == "", !p.share || !before.ssh)
		if p.tool != "" && p.mirror() != "" {
			b.Mirrored(p.name, p.usable)
		}
		whole = p.resume(b, before.parts)
	})
	if p.share && len(wants) > 0 && !before.ssh {
		p.r.report(p.name, "has no OpenSSH client (ssh): it gets all programs from this computer")
	}
	if p.usable {
		p.serve(ctx)
	}
	for _, blob := range whole {
		if !slices.Contains(wants, key(blob.Plain, blob.Format)) {
			p.announce(blob)
		} else if err := p.arrived(ctx, blob); err != nil {
			return err
		}
	}
	return nil
}

// wants are the keys of what has to arrive; it is packed from now on.
func (p *parcel) wants(before found) (keys []string) {
	for k, files := range p.targets {
		for where, f := range files {
			if before.arrived[where] || slices.Contains(keys, k) {
				continue
			}
			keys = append(keys, k)
			p.progress.expect(k, f.Size/packedShare)
			p.pack(f, delivery.Format(path.Ext(k)[1:]))
		}
	}
	return keys
}

// resume tells the board what earlier runs have left, and returns what is whole. The rest is
// continued.
func (p *parcel) resume(b *delivery.Board, parts map[string]part) (whole []delivery.Blob) {
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		blob, ok := delivery.ParseName(name)
		k, has := key(blob.Plain, blob.Format), parts[name]
		if !ok || p.targets[k] == nil {
			continue
		}
		if has.size > 0 {
			p.givers[k][earlier] = true
		}
		p.progress.at(k, has.size)
		if has.sum == blob.Sum {
			b.Has(p.name, k)
			whole = append(whole, blob)
		}
	}
	return whole
}

// address is where other hosts reach this one; "" if it has no address.
func (p *parcel) address() string {
	for _, m := range p.r.Input.Machines {
		if m.Name == p.name && m.Address.IsValid() {
			return m.Address.String()
		}
	}
	return ""
}

// lane takes one program after another, until the host has all.
func (p *parcel) lane(ctx context.Context) error {
	for {
		p.mu.Lock()
		over, changed := p.board.Lacks(p.name) == 0, p.changed
		job, ok := p.board.Next(p.name)
		blob := p.blobs[job.Blob]
		var broken []error
		for k := range p.targets {
			broken = append(broken, p.broken[k])
		}
		p.mu.Unlock()
		if err := errors.Join(broken...); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		switch {
		case over:
			return nil
		case ok:
			if err := p.take(ctx, job, blob); err != nil {
				return err
			}
		default:
			select {
			case <-changed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}
