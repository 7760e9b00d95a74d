package converge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/provision/delivery"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

// connectTimeout is how long a host may take to answer another, in seconds.
const connectTimeout = 5

// errSlow means that a peer gave too little for too long.
var errSlow = fmt.Errorf("it gave less than %d MB in %s", least>>20, window)

// peer is a host that serves others: what runs there, and how it is reached.
type peer struct {
	in      io.WriteCloser
	say     chan string   // names of files to serve
	over    chan struct{} // closed when it serves no more
	key     delivery.Key
	address string
	port    string
}

// serve starts what gives the host's programs to others; it ends with the run. Without it, the
// others get them elsewhere.
func (p *parcel) serve(ctx context.Context) {
	address := p.address()
	if !p.share || address == "" || ctx.Err() != nil {
		return
	}
	fail := func(err error) {
		p.update(func(b *delivery.Board) { b.Mute(p.name) })
		if err != nil && p.life.Err() == nil {
			p.r.report(p.name, "gives nothing to other machines: "+oneLine(err))
		}
	}
	k, err := delivery.NewKey()
	if err != nil {
		fail(err)
		return
	}
	config, err := json.Marshal(delivery.ServeConfig{
		Address: address, Port: stack.DeliveryPort, HostKey: string(k.Private.Reveal()), Client: p.client.Public,
	})
	if err != nil {
		fail(err)
		return
	}
	stdin, in := io.Pipe()
	s := &peer{in: in, say: make(chan string), over: make(chan struct{}), key: k, address: address}
	p.mu.Lock()
	p.peer, p.peers[p.name] = s, s
	p.mu.Unlock()
	p.serving.Go(func() { s.talk(string(config)) })
	p.serving.Go(func() {
		_, err := p.host.Run(p.life, host.Cmd{
			Script: "# serve programs to other hosts\ncd " + partsDir + "\nexec " + host.Quote(p.tool) + " delivery serve",
			Stdin:  stdin, Stdout: &lines{line: p.heard},
		})
		_ = stdin.Close()
		close(s.over)
		fail(err)
	})
}

// talk writes the configuration, names, and in between a sign of life.
func (s *peer) talk(config string) {
	ticker := time.NewTicker(delivery.Heartbeat)
	defer ticker.Stop()
	for line := config; ; {
		if _, err := io.WriteString(s.in, line+"\n"); err != nil {
			return
		}
		select {
		case line = <-s.say:
		case <-ticker.C:
			line = ""
		case <-s.over:
			return
		}
	}
}

// heard is a line of what serves.
func (p *parcel) heard(line string) {
	what, value, _ := strings.Cut(line, " ")
	switch what {
	case "listening":
		p.listens(value)
	case "serving":
		p.mu.Lock()
		listens := p.peer.port != ""
		p.mu.Unlock()
		if b, ok := delivery.ParseName(value); ok && listens {
			p.update(func(board *delivery.Board) { board.Offer(p.name, key(b.Plain, b.Format)) })
		}
	}
}

// listens takes over the port where the host serves, once. It becomes part of a script that root runs
// on other hosts, so it is a number, whatever the host says.
func (p *parcel) listens(at string) {
	port, err := strconv.ParseUint(at, 10, 16)
	if err != nil || port == 0 {
		p.update(func(b *delivery.Board) { b.Mute(p.name) })
		p.r.report(p.name, fmt.Sprintf("gives nothing to other machines: it says that its port is %.40q", at))
		return
	}
	p.mu.Lock()
	first := p.peer.port == ""
	if first {
		p.peer.port = strconv.FormatUint(port, 10)
	}
	whole := slices.Clone(p.whole)
	p.mu.Unlock()
	if first {
		p.update(func(board *delivery.Board) { board.Serves(p.name) })
		p.peer.name(whole)
		for _, name := range whole {
			if b, ok := delivery.ParseName(name); ok {
				p.expectOffer(b, window)
			}
		}
	}
}

// name has files served.
func (s *peer) name(names []string) {
	go func() {
		for _, name := range names {
			select {
			case s.say <- name:
			case <-s.over:
				return
			}
		}
	}()
}

// announce has a program served that is whole.
func (p *parcel) announce(b delivery.Blob) {
	p.mu.Lock()
	p.whole = append(p.whole, b.Name())
	s, listens := p.peer, p.peer != nil && p.peer.port != ""
	p.mu.Unlock()
	patience := toServe
	if listens {
		s.name([]string{b.Name()})
		patience = window
	}
	p.expectOffer(b, patience)
}

// expectOffer tells the board, in a while, that others need not wait any longer for the host to serve
// what it has.
func (p *parcel) expectOffer(b delivery.Blob, patience time.Duration) {
	k := key(b.Plain, b.Format)
	time.AfterFunc(patience, func() { p.update(func(board *delivery.Board) { board.Overdue(p.name, k) }) })
}

// fetch has the host take a program from another, from where it was broken off. The key is a file
// there while that lasts.
func (p *parcel) fetch(ctx context.Context, j delivery.Job, b delivery.Blob) error {
	p.mu.Lock()
	from := *p.peers[j.From]
	had := p.progress.of(j.Blob)
	p.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer p.watchFetch(j, cancel)()
	gave := func(line string) {
		at := position(line)
		p.progress.at(j.Blob, at)
		if at > had {
			p.mu.Lock()
			p.givers[j.Blob][j.From] = true
			p.mu.Unlock()
		}
	}
	known := "peer " + from.key.Public + "\n"
	_, err := p.host.Run(ctx, host.Cmd{
		Script: p.fetchScript(j, b, from), Stdin: io.MultiReader(strings.NewReader(known), strings.NewReader(string(p.client.Private.Reveal()))),
		Stdout: &lines{line: gave},
	})
	if slow := context.Cause(ctx); errors.Is(slow, errSlow) {
		return fmt.Errorf("%s from %s: %w", p.program(j.Blob), j.From, slow)
	}
	return err
}

func (p *parcel) fetchScript(j delivery.Job, b delivery.Blob, from peer) string {
	options := ""
	for _, o := range []string{
		"BatchMode=yes", "StrictHostKeyChecking=yes", "HostKeyAlias=peer", "GlobalKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "IdentityAgent=none",
		"UpdateHostKeys=no", "PreferredAuthentications=publickey", "ServerAliveInterval=5", "LogLevel=ERROR",
		fmt.Sprintf("ConnectTimeout=%d", connectTimeout),
	} {
		options += " -o " + o
	}
	return "# fetch " + p.program(j.Blob) + " from " + j.From + "\nset -e\numask 077\n" +
		"dir=$(mktemp -d " + keysDir + "XXXXXXXX)\n" +
		"trap 'rm -rf -- \"$dir\"' EXIT\ntrap 'exit 129' HUP\ntrap 'exit 130' INT\ntrap 'exit 143' TERM\n" +
		"read -r known\nprintf '%s\\n' \"$known\" >\"$dir/known\"\ncat >\"$dir/key\"\n" + beginPart(b) +
		// The script's output ends when all that could write to it has ended.
		"( while sleep 1 >/dev/null 2>&1; do stat -c 'at %s' " + b.Name() + "; done ) </dev/null &\nwatch=$!\n" +
		// What the peer says is bounded: it goes to memory.
		fmt.Sprintf("( ulimit -f 64; exec ssh -F none -a -x -T%s -o UserKnownHostsFile=\"$dir/known\" -i \"$dir/key\" -p %s -l get -- %s \"get %s $size\" "+
			"</dev/null 2>\"$dir/why\" ) | head -c $((%d-size)) >>%s\n", options, from.port, host.Quote(from.address), b.Name(), b.Size, b.Name()) +
		"kill $watch 2>/dev/null || :\nstat -c 'at %s' " + b.Name() + "\ncat \"$dir/why\" >&2\n" + endPart(b)
}

// watchFetch ends a transfer from a peer, or the mirror, that gives too little.
func (p *parcel) watchFetch(j delivery.Job, cancel context.CancelCauseFunc) (stop func()) {
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(window)
		defer ticker.Stop()
		for had := p.progress.of(j.Blob); ; {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			now := p.progress.of(j.Blob)
			if now >= had && now-had < least { // it is less if the mirror began again
				cancel(errSlow)
			}
			had = now
		}
	}()
	return func() { close(done) }
}

// oneLine is an error on one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
