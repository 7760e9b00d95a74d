package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	// maxOutput limits what Run keeps of one stream.
	maxOutput = 16 << 20
	// maxArgument is the longest command line; a longer script is sent through stdin. Linux refuses
	// a single argument of 128 KiB (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h).
	maxArgument = 64 << 10
	// copyBuffer is the buffer of an open stream. io.Copy's 32 KiB would be most of the memory when
	// a thousand hosts are queried at once.
	copyBuffer = 4 << 10
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// job is one command line, ready for a shell.
type job struct {
	line string
	// tag is a value of the environment variable SLIPWAY_RUN that only this job and its children
	// have; "" for a job that is not ended on the host.
	tag            string
	how            elevation
	stdin          *source
	stdout, stderr io.Writer
}

// exit is the exit status of a job that ended by itself.
type exit struct {
	code   int
	signal string
}

// machine is what SSH and this machine must provide; run, write and read are built on it.
type machine interface {
	Name() string
	// elevation is how to become root.
	elevation(ctx context.Context) (elevation, error)
	// refusal is the error of a sudo that started nothing.
	refusal(said string, how elevation) error
	// lock is held by scripts with Exclusive.
	lock() lock
	// do runs a job until it ended. When ctx ends first it ends the job and returns ctx's cause.
	do(ctx context.Context, j job) (exit, error)
}

// Quote makes s one word of a POSIX shell.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// command makes the line that runs a script, and what has to come first on its stdin. begin is put
// before the script. A long script is read from there by dd, which unlike head never reads further
// than it is told.
func command(script, tag string, how elevation, begin func(input bool) string, input bool) (line string, first string) {
	become := how.become() + "env SLIPWAY_RUN=" + tag + " LC_ALL=C PATH=" + searchPath + " sh -c "
	line = become + Quote(begin(input)+"umask 022; "+script)
	if len(line) <= maxArgument {
		return line, ""
	}
	load := fmt.Sprintf(`umask 022; eval "$(dd ibs=%d count=1 iflag=fullblock status=none)"`, len(script))
	return become + Quote(begin(true)+load), script
}

// prepare makes the job of a script. greeting is nil unless sudo gets a password.
func prepare(script string, how elevation, in io.Reader, stdout, stderr *sink, fail context.CancelCauseFunc) (job, *greeting) {
	tag := rand.Text()
	var g *greeting
	begin := func(bool) string { return "" }
	if how.password != nil {
		g = newGreeting("slipway-"+tag, stderr)
		begin = func(input bool) string { return greet(g.word, input) }
	}
	line, first := command(script, tag, how, begin, in != nil)
	if first != "" {
		long := io.Reader(strings.NewReader(first))
		if in != nil {
			long = io.MultiReader(long, in)
		}
		in = long
	}
	j := job{line: line, tag: tag, how: how, stdin: &source{from: in, fail: fail}, stdout: stdout, stderr: stderr}
	if g != nil {
		j.stdin.from, j.stderr = g.stdin(how.password, in), g
	}
	return j, g
}

func run(ctx context.Context, m machine, c Cmd) (Result, error) {
	title := firstLine(c.Script)
	if strings.ContainsRune(c.Script, 0) {
		return Result{}, fmt.Errorf("%s: run %q: the script contains a NUL byte", m.Name(), title)
	}
	how, err := m.elevation(ctx)
	if err != nil {
		return Result{}, err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	script := c.Script
	if c.Exclusive {
		script = m.lock().holding() + script
	}
	stdout := &sink{to: c.Stdout, keep: c.Stdout == nil, fail: fail}
	stderr := &sink{to: c.Stderr, keep: true, fail: fail}
	j, greeting := prepare(script, how, c.Stdin, stdout, stderr, fail)
	ended, err := m.do(ctx, j)
	if greeting != nil {
		if said, started := greeting.end(); !started && err == nil {
			return Result{}, m.refusal(said, how)
		}
	}
	result := Result{Stdout: stdout.end(), Stderr: stderr.end()}
	whole := result.Stderr
	if c.Stderr != nil {
		result.Stderr = nil
	}
	if err != nil {
		if errors.As(err, new(*LostError)) || errors.As(err, new(*unconnectedError)) {
			return result, err
		}
		return result, fmt.Errorf("%s: run %q: %w", m.Name(), title, err)
	}
	if ended.code == busyCode {
		if process, ok := m.lock().holder(whole); ok {
			return result, &BusyError{m.Name(), m.lock().path, process}
		}
	}
	if ended.code != 0 || ended.signal != "" {
		return result, &ExitError{Host: m.Name(), Script: title, Code: ended.code, Signal: ended.signal, Stderr: string(whole)}
	}
	return result, nil
}

// firstLine is a script's name in errors.
func firstLine(script string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(script), "\n")
	if r := []rune(line); len(r) > 120 {
		line = string(r[:117]) + "..."
	}
	return line
}

// source is a job's stdin. It reports its own failure, which must not look like the end of the
// input.
type source struct {
	from io.Reader
	fail context.CancelCauseFunc
}

// feed copies the input to w and closes it, unless reading failed. What a job does not read is
// dropped.
func (s *source) feed(w io.WriteCloser) {
	if all, ok := s.from.(*bytes.Reader); ok { // without a buffer
		_, _ = all.WriteTo(w)
	} else if s.from != nil {
		r := &failing{Reader: s.from}
		_, _ = io.Copy(w, r)
		if r.err != nil && !errors.Is(r.err, errNoShell) {
			s.fail(fmt.Errorf("read the input: %w", r.err))
			return
		}
	}
	_ = w.Close()
}

// failing remembers an error of its Reader, to tell it from one of the writer.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// sink takes one stream of a job's output. It never fails towards the job: that would stall it.
type sink struct {
	mu   sync.Mutex
	to   io.Writer
	keep bool
	fail context.CancelCauseFunc
	buf  bytes.Buffer
	over bool
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return len(p), nil
	}
	if s.to != nil {
		if _, err := s.to.Write(p); err != nil {
			s.stop(fmt.Errorf("pass the output on: %w", err))
			return len(p), nil
		}
	}
	if s.keep {
		if s.buf.Len()+len(p) > maxOutput {
			s.stop(fmt.Errorf("it printed more than %d MiB", maxOutput>>20))
			return len(p), nil
		}
		s.buf.Write(p)
	}
	return len(p), nil
}

// ReadFrom is for io.Copy.
func (s *sink) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{r}, make([]byte, copyBuffer))
}

func (s *sink) stop(err error) {
	s.over = true
	s.fail(err)
}

// end returns the output so far; later output is dropped.
func (s *sink) end() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.buf.Bytes()
}
