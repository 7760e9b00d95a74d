package converge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/delivery"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

const (
	// window is how often it is checked that a transfer gets on, and least how many bytes a peer has
	// to give in it: what has arrived stays, so that another continues.
	window = 20 * time.Second
	least  = 1 << 20
	// toServe is how long a host may take to unpack slipway and to serve with it: on slow machines,
	// many at a time, that is long, and to send a program twice takes longer.
	toServe = time.Minute
	// slower is how many times as much as to one host this computer sends to all, when others no
	// longer wait for what the one gets.
	slower = 8
	// mistakes is how often a program may arrive with another content from several sources, or from
	// this computer.
	mistakes = 2
)

// Exit codes of the scripts below.
const (
	otherContent = 65 // EX_DATAERR of sysexits.h
	incomplete   = 76 // EX_PROTOCOL
)

// take carries a job out and tells the board. An error is the host's own.
func (p *parcel) take(ctx context.Context, j delivery.Job, b delivery.Blob) error {
	p.progress.expect(j.Blob, b.Size)
	stop := p.progress.from(j.From)
	var err error
	switch j.From {
	case delivery.Operator:
		err = p.send(ctx, j, b)
	case delivery.Mirror:
		err = p.fetchFromMirror(ctx, j, b)
	default:
		err = p.fetch(ctx, j, b)
	}
	stop()
	if err == nil {
		p.update(func(board *delivery.Board) { board.Done(j) })
		return p.arrived(ctx, b)
	}
	why := p.judge(ctx, j, err)
	if why == delivery.Broken {
		p.update(func(board *delivery.Board) { board.Leave(p.name) }) // or the other lane would try again
		return err
	}
	cut := false
	p.update(func(board *delivery.Board) { cut = board.Failed(j, why) })
	switch {
	case j.From == delivery.Mirror:
		p.blameMirror(j, b, why, err)
	case why == delivery.Lied:
		p.r.tell(fmt.Sprintf("%s gave %s to %s with another content than it should have: it is not asked again; the content that arrived was removed. "+
			"Look at the disk and the memory of %s, and whether somebody else has access", j.From, p.program(j.Blob), p.name, j.From))
	case cut:
		p.r.tell(fmt.Sprintf("%s does not reach the other machines at their addresses (last tried: %s): it gets all programs from this computer. "+
			"Between machines, TCP port %d should be open", p.name, oneLine(err), stack.DeliveryPort))
	}
	return nil
}

// judge returns why a job has failed. givers are forgotten with what has arrived.
func (p *parcel) judge(ctx context.Context, j delivery.Job, err error) delivery.Failure {
	var exit *host.ExitError
	if ctx.Err() != nil || !errors.As(err, &exit) && !errors.Is(err, errSlow) {
		return delivery.Broken
	}
	switch {
	case exit != nil && exit.Code == otherContent:
		p.mu.Lock()
		defer p.mu.Unlock()
		givers := p.givers[j.Blob]
		p.givers[j.Blob] = map[string]bool{}
		p.progress.at(j.Blob, 0)
		if len(givers) == 1 && givers[j.From] && j.From != delivery.Operator {
			return delivery.Lied
		}
		if p.mistook[j.Blob]++; p.mistook[j.Blob] < mistakes {
			return delivery.Mixed
		}
	case j.From != delivery.Operator && (errors.Is(err, errSlow) || exit.Code == incomplete):
		return unreached(err)
	}
	return delivery.Broken
}

// program is the name of a program, for messages.
func (p *parcel) program(k string) string {
	var names []string
	for where := range p.targets[k] {
		names = append(names, path.Base(where))
	}
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), ", ")
}

// begin is the part of a script that prepares a part for more of it, and says how much there is.
func beginPart(b delivery.Blob) string {
	return fmt.Sprintf("mkdir -p %[1]s\ncd %[1]s\nfind . -name '%[2]s.*.%[3]s' ! -name %[4]s -exec rm -f -- {} +\n[ -f %[4]s ] || : >%[4]s\n"+
		"size=$(stat -c %%s %[4]s)\n[ $size -le %[5]d ] || { : >%[4]s; size=0; }\necho at $size\n", partsDir, b.Plain, b.Format, b.Name(), b.Size)
}

// endPart is the part of a script that verifies it. When the content is another one, it is removed.
func endPart(b delivery.Blob) string {
	return fmt.Sprintf("size=$(stat -c %%s %[1]s)\n[ $size = %[2]d ] || { echo \"$size of %[2]d bytes have arrived\" >&2; exit %[3]d; }\n"+
		"[ \"$(sha256sum <%[1]s)\" = '%[4]s  -' ] || { rm -f %[1]s; echo 'it arrived with another content: its SHA-256 is not %[4]s' >&2; exit %[5]d; }\n",
		b.Name(), b.Size, incomplete, b.Sum, otherContent)
}

// send sends a program, from where it was broken off.
func (p *parcel) send(ctx context.Context, j delivery.Job, b delivery.Blob) error {
	file, err := os.Open(b.File)
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", p.program(j.Blob), p.name, err)
	}
	defer file.Close() //nolint:errcheck // only read
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(stallTimeout, func() { cancel(fmt.Errorf("the host has taken nothing for %s", stallTimeout)) })
	defer stall.Stop()
	tail := &tail{size: b.Size, file: file, began: make(chan int64, 1), ctx: ctx, read: func(at, n int64) {
		stall.Reset(stallTimeout)
		p.mu.Lock()
		p.uplink += n
		if n > 0 {
			p.givers[j.Blob][delivery.Operator] = true
		}
		p.mu.Unlock()
		p.progress.at(j.Blob, at)
	}}
	defer p.watchUpload(j)()
	_, err = p.host.Run(ctx, host.Cmd{
		Script: "# receive " + p.program(j.Blob) + "\nset -e\numask 077\n" + beginPart(b) + "cat >>" + b.Name() + "\n" + endPart(b),
		Stdin:  tail, Stdout: &lines{line: func(line string) { tail.begin(position(line)) }},
	})
	return err
}

// watchUpload tells the board when an upload does not get on as others do.
func (p *parcel) watchUpload(j delivery.Job) (stop func()) {
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(window)
		defer ticker.Stop()
		p.mu.Lock()
		all := p.uplink
		p.mu.Unlock()
		for own := p.progress.of(j.Blob); ; {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			p.mu.Lock()
			sent := p.uplink - all
			all = p.uplink
			p.mu.Unlock()
			now := p.progress.of(j.Blob)
			if got := now - own; got == 0 || got*slower < sent {
				p.update(func(b *delivery.Board) { b.Stalled(j) })
			}
			own = now
		}
	}()
	return func() { close(done) }
}

// tail is a file from the position that the host asks for.
type tail struct {
	ctx        context.Context
	file       *os.File
	began      chan int64
	once       sync.Once
	positioned bool
	at, size   int64
	read       func(at, n int64)
}

// begin is called with the position.
func (t *tail) begin(at int64) { t.once.Do(func() { t.began <- at }) }

func (t *tail) Read(b []byte) (int, error) {
	if !t.positioned {
		select {
		case t.at = <-t.began:
			t.positioned = true
			t.read(t.at, 0)
		case <-t.ctx.Done():
			return 0, context.Cause(t.ctx)
		}
	}
	if t.at >= t.size {
		return 0, io.EOF
	}
	n, err := t.file.ReadAt(b[:min(int64(len(b)), t.size-t.at)], t.at)
	t.at += int64(n)
	t.read(t.at, int64(n))
	if n > 0 {
		err = nil
	}
	return n, err
}

// longestLine is how many bytes a line of a host may have: what serves and what takes print words and
// numbers.
const longestLine = 4 << 10

// lines hands on each line that is written to it. One that is too long is an error, which ends the
// script that prints it.
type lines struct {
	line func(string)
	part string
}

func (l *lines) Write(b []byte) (int, error) {
	l.part += string(b)
	for {
		line, more, ok := strings.Cut(l.part, "\n")
		if len(line) > longestLine {
			l.part = ""
			return 0, fmt.Errorf("it printed a line of more than %d bytes", longestLine)
		}
		if !ok {
			return len(b), nil
		}
		l.part = more
		l.line(line)
	}
}

// position reads "at 123".
func position(line string) int64 {
	at, _ := strconv.ParseInt(strings.TrimPrefix(line, "at "), 10, 64) // of stat
	return at
}

// arrived unpacks a program that is whole, and offers it to others.
func (p *parcel) arrived(ctx context.Context, b delivery.Blob) error {
	p.announce(b)
	p.mu.Lock()
	if b.Format == delivery.Zstd && !p.usable {
		p.packed = append(p.packed, b)
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	if err := p.unpack(ctx, b); err != nil {
		return err
	}
	if key(b.Plain, b.Format) != p.slipway {
		return nil
	}
	p.mu.Lock()
	p.usable = true
	packed := p.packed
	p.packed = nil
	p.mu.Unlock()
	if p.mirror() != "" {
		p.update(func(board *delivery.Board) { board.Mirrored(p.name, true) })
	}
	p.serve(ctx)
	for _, b := range packed {
		if err := p.unpack(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// unpack puts a program where it arrives.
func (p *parcel) unpack(ctx context.Context, b delivery.Blob) error {
	defer p.progress.unpacking()()
	for where, f := range p.targets[key(b.Plain, b.Format)] {
		to, part := host.Quote(arriving(where)), partsDir+"/"+b.Name()
		script := fmt.Sprintf("# unpack %s\nexec %s delivery unpack --mode %04o -- %s %s\n", path.Base(where), host.Quote(p.tool), f.Mode.Perm(), part, to)
		if b.Format == delivery.Gzip {
			script = fmt.Sprintf("# unpack %[1]s\nset -e\nmkdir -p -- %[2]s\nrm -f -- %[3]s.new\ngzip -dc <%[4]s >%[3]s.new\n"+
				"[ \"$(sha256sum <%[3]s.new)\" = '%[5]s  -' ] || { rm -f %[3]s.new; echo 'its SHA-256 is not %[5]s' >&2; exit 1; }\n"+
				"chmod %04[6]o -- %[3]s.new\nsync -- %[3]s.new\nmv -f -T -- %[3]s.new %[3]s\n",
				path.Base(where), host.Quote(path.Dir(arriving(where))), to, part, b.Plain, f.Mode.Perm())
		}
		if _, err := p.host.Run(ctx, host.Cmd{Script: script}); err != nil {
			return err
		}
	}
	return nil
}
