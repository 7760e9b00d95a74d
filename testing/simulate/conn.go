package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"slices"
	"time"

	"slipway.dev/slipway/provision/host"
)

// Conn is a run's connection to a host.
type Conn struct {
	h    *Host
	run  *Run
	lost chan struct{}
	err  error // why, once it is
}

var (
	_ host.Host      = (*Conn)(nil)
	_ host.Dialer    = (*Conn)(nil)
	_ host.Monitored = (*Conn)(nil)
)

// dial connects. It fails where the machine is off or takes no connections.
func (r *Run) dial(ctx context.Context, h *Host) (*Conn, error) {
	if err := r.pause(ctx, "dial "+h.name, 5*time.Millisecond); err != nil {
		return nil, err
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.settle()
	if !h.on() || h.closed || h.frozen || r.dead {
		return nil, &host.UnreachableError{Host: h.name, Address: "memory", Waited: 5 * time.Millisecond, Last: errors.New("connection refused")}
	}
	k := &Conn{h: h, run: r, lost: make(chan struct{})}
	h.conns = append(h.conns, k)
	return k, nil
}

// cut ends the connection. mu is held.
func (k *Conn) cut(why string) {
	if k.err == nil {
		k.err = &host.LostError{Host: k.h.name, Address: "memory", Err: errors.New(why)}
		close(k.lost)
	}
}

// Name implements host.Host.
func (k *Conn) Name() string { return k.h.name }

// Done implements host.Monitored.
func (k *Conn) Done() <-chan struct{} { return k.lost }

// Err implements host.Monitored.
func (k *Conn) Err() error {
	k.h.c.mu.Lock()
	defer k.h.c.mu.Unlock()
	return k.err
}

// DialContext implements host.Dialer: nothing is reached over the wire here.
func (k *Conn) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("a simulated host has no network: use the simulated way to the cluster")
}

// Close implements host.Host.
func (k *Conn) Close() error {
	k.h.c.mu.Lock()
	defer k.h.c.mu.Unlock()
	k.cut("it was closed")
	k.h.conns = slices.DeleteFunc(k.h.conns, func(other *Conn) bool { return other == k })
	return nil
}

// Read implements host.Host.
func (k *Conn) Read(ctx context.Context, name string) (content []byte, err error) {
	err = k.do(ctx, &job{alone: false, steps: []step{{"read", func(*job) (bool, error) {
		f := k.h.files[name]
		if f == nil {
			return false, fmt.Errorf("%s: %w", k.h.name, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist})
		}
		content = f.Content
		return false, nil
	}}}})
	return content, err
}

// Write implements host.Host: nothing is put in place before all has arrived, and then directory after directory.
func (k *Conn) Write(ctx context.Context, files []host.File) error {
	var paths []string
	j := &job{alone: true, steps: []step{{"receive", func(*job) (bool, error) {
		if k.h.full {
			return false, &host.ExitError{Host: k.h.name, Script: "tar", Code: 2, Stderr: "tar: write: No space left on device"}
		}
		return false, nil
	}}}}
	for i := 0; i < len(files); {
		dir, last := path.Dir(files[i].Path), i
		for last < len(files) && path.Dir(files[last].Path) == dir {
			paths = append(paths, files[last].Path)
			last++
		}
		some := files[i:last]
		j.steps = append(j.steps, step{"put " + dir, func(j *job) (bool, error) {
			for _, f := range some {
				k.h.overwrites(j.run, f)
				k.h.put(f)
			}
			j.changes("writes %d files in %s", len(some), dir)
			return false, nil
		}})
		i = last
	}
	if err := k.do(ctx, j); err != nil {
		return &host.WriteError{Host: k.h.name, Paths: paths, Err: err}
	}
	return nil
}

// Run implements host.Host.
func (k *Conn) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if k.run.Sabotage != nil {
		cmd.Script = k.run.Sabotage(cmd.Script)
	}
	k.h.c.mu.Lock()
	steps := k.h.steps(cmd.Script)
	k.h.c.mu.Unlock()
	j := &job{alone: cmd.Exclusive, steps: steps, waits: cmd.Stderr}
	err := k.do(ctx, j)
	k.h.c.mu.Lock() // a job that nobody waits for any more may still print
	out := []byte(j.out)
	k.h.c.mu.Unlock()
	if k.run.Hears != nil {
		out = []byte(k.run.Hears(string(out)))
	}
	if err == nil && cmd.Stdout != nil {
		_, err = cmd.Stdout.Write(out)
		out = nil
	}
	return host.Result{Stdout: out}, err
}

// job is a script on a host. It goes on where its connection is lost, and ends with the host's boot.
type job struct {
	h     *Host
	run   *Run
	tag   string // tells it from every other
	life  int
	alone bool
	steps []step
	given time.Time
	stop  bool // it has been told to end
	out   string
	err   error
	done  chan struct{}
	waits io.Writer
}

// step is one of its commands; again says that it has not come to its end yet.
type step struct {
	name string
	do   func(*job) (again bool, err error)
}

// changes notes that the job has changed something. mu is held.
func (j *job) changes(format string, args ...any) {
	j.run.changed(j.given)
	j.h.c.note("%s: run %d %s", j.h.name, j.run.id, fmt.Sprintf(format, args...))
}

// do runs a job, and returns when it has ended, or when nobody would hear of it any more.
func (k *Conn) do(ctx context.Context, j *job) error {
	c := k.h.c
	j.h, j.run, j.done, j.tag, j.given = k.h, k.run, make(chan struct{}), k.h.name+" "+tag(ctx, k.run), time.Now()
	c.mu.Lock()
	err := k.err
	j.life = k.h.life
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", k.h.name, context.Cause(ctx))
	}
	c.busy.Go(j.work)
	select {
	case <-j.done:
		return j.err
	case <-k.lost: // the script goes on
		return k.Err()
	case <-ctx.Done():
		c.mu.Lock()
		lost := k.err
		j.stop = j.stop || lost == nil
		c.mu.Unlock()
		if lost != nil {
			return lost
		}
		select { // it is told to end, and does so at its next command; a host that hangs does not
		case <-j.done:
		case <-k.lost:
		case <-time.After(c.takes(j.tag+" ends", 2*time.Second)):
		}
		return fmt.Errorf("%s: %w", k.h.name, context.Cause(ctx))
	}
}

// patience is how long a job waits for another one on its host, which it ends then.
const patience = time.Minute

func (j *job) work() {
	c := j.h.c
	defer close(j.done)
	defer func() {
		c.mu.Lock()
		if j.h.lock == j {
			j.h.lock = nil
		}
		c.mu.Unlock()
	}()
	began, told := time.Now(), false
	if j.alone {
		for j.awaitTurn(began, &told) {
		}
	}
	for _, s := range j.steps {
		for wait, again := 10*time.Millisecond, true; again && j.err == nil; {
			wait, again = j.step(s, wait)
		}
		if j.err != nil {
			return
		}
	}
}

// awaitTurn says whether the lock has still to be waited for.
func (j *job) awaitTurn(began time.Time, told *bool) bool {
	c := j.h.c
	time.Sleep(c.takes(j.tag+" lock", 3*time.Millisecond))
	c.mu.Lock()
	defer c.mu.Unlock()
	if j.gone() {
		return false
	}
	if j.h.lock == nil {
		j.h.lock = j
		return false
	}
	if !*told && j.waits != nil {
		_, _ = io.WriteString(j.waits, host.LockWaiting+"1\n")
		*told = true
	}
	if time.Since(began) > patience {
		j.h.lock.stop = true
	}
	return true
}

// gone sets the error of a job that does not go on. mu is held.
func (j *job) gone() bool {
	switch {
	case j.h.life != j.life || j.h.c.over:
		j.err = &host.LostError{Host: j.h.name, Address: "memory", Err: errors.New("the machine went down")}
	case j.stop:
		j.err = &host.ExitError{Host: j.h.name, Script: "a script", Code: 143, Signal: "TERM"}
	}
	return j.err != nil
}

// step carries out one command, or looks again whether it has ended.
func (j *job) step(s step, wait time.Duration) (next time.Duration, again bool) {
	c := j.h.c
	c.mu.Lock()
	least := wait
	if j.h.slow {
		least *= 20
	}
	c.mu.Unlock()
	time.Sleep(c.takes(j.tag+" "+s.name, least))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	if j.gone() {
		return 0, false
	}
	if j.h.frozen {
		return time.Second, true
	}
	again, j.err = s.do(j)
	c.settle()
	return min(2*wait, time.Second), again
}
