package converge

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// deliveryDir is where programs arrive on a host: below it, each has the path that it will have
// below its parent. Nothing runs from there. It is in the file system of the programs, so that a
// rename puts them in place, and goes once all are.
const deliveryDir = stack.ProgramDir + ".delivery"

const (
	// stallTimeout is how long a host may take nothing of what is sent to it, or to verify it.
	stallTimeout = 5 * time.Minute
	// room is how many bytes have to stay free: hosts are copied to at the same time, and etcd ends
	// where it finds no space.
	room = 1 << 30
	// reportEvery is how often the progress of a copy is reported.
	reportEvery = 2 * time.Second
)

// deliver copies to a host what it lacks of the bundle, and verifies it there: one program after
// another, so that what has arrived stays when the rest does not. It puts nothing in place, so that
// all programs change at one time, in the step that restarts what runs them.
func (r *Runner) deliver(ctx context.Context, s plan.Step) error {
	want := lacking(r.Desired.Hosts[s.Host], r.Observed.Hosts[s.Host])
	arrived, err := r.prepareDelivery(ctx, s.Host, want)
	if err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if arrived[p] {
			continue
		}
		if err := r.copyProgram(ctx, s.Host, p, want[p]); err != nil {
			return err
		}
	}
	return nil
}

// prepareDelivery returns the programs that an earlier run has copied, and refuses the others if the
// host has no room for them.
func (r *Runner) prepareDelivery(ctx context.Context, name string, want map[string]stack.File) (arrived map[string]bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stallTimeout, fmt.Errorf("the host has not answered for %s", stallTimeout))
	defer cancel()
	if arrived, err = delivered(ctx, r.Hosts[name], want); err != nil {
		return nil, err
	}
	var size int64
	for p, f := range want {
		if !arrived[p] {
			size += f.Size
		}
	}
	if size == 0 {
		return arrived, nil
	}
	return arrived, checkRoom(ctx, r.Hosts[name], size)
}

// checkRoom refuses to copy so many bytes to a host that less than room stays free. It passes if df
// does not know.
func checkRoom(ctx context.Context, h host.Host, size int64) error {
	script := "# look how much can be copied\ndir=" + host.Quote(path.Clean(stack.ProgramDir)) + "\n" +
		"while [ ! -d \"$dir\" ]; do dir=$(dirname \"$dir\"); done\ndf -B1 --output=avail \"$dir\" 2>/dev/null | tail -n 1\n"
	result, err := h.Run(ctx, host.Cmd{Script: script})
	if err != nil {
		return fmt.Errorf("look how much can be copied to %s: %w", h.Name(), err)
	}
	free, err := strconv.ParseInt(strings.TrimSpace(string(result.Stdout)), 10, 64)
	if err != nil || free >= size+room {
		return nil
	}
	return fmt.Errorf("%s: %s are free below %s, and %s have to be copied there; nothing was copied: %s have to stay free, for etcd and others that use the "+
		"disk. Free space there, then run `slipway apply` again", h.Name(), gib(free), stack.ProgramDir, gib(size), gib(room))
}

// lacking are the programs, by path, whose content the host does not have.
func lacking(want, have stack.HostState) map[string]stack.File {
	lacks := map[string]stack.File{}
	for p, w := range want.Files {
		if h := have.Files[p]; w.Copied() && (h.Digest != w.Digest || !h.Mode.IsRegular()) {
			lacks[p] = w
		}
	}
	return lacks
}

// arriving is where a program arrives.
func arriving(p string) string {
	return path.Join(deliveryDir, strings.TrimPrefix(p, stack.ProgramDir))
}

// delivered are those of the programs that an earlier run has copied, whole. What else it has left
// is removed.
func delivered(ctx context.Context, h host.Host, want map[string]stack.File) (map[string]bool, error) {
	at := map[string]string{} // paths of programs by where they arrive
	var list, keep strings.Builder
	for _, p := range slices.Sorted(maps.Keys(want)) {
		at[arriving(p)] = p
		fmt.Fprintf(&list, "%s  %s\n", want[p].Digest, arriving(p))
		fmt.Fprintf(&keep, " ! -path %s", host.Quote(arriving(p)))
	}
	dir := host.Quote(deliveryDir)
	script := "# look what was copied before\n[ -d " + dir + " ] || exit 0\nset -e\n" +
		"find " + dir + " ! -type d" + keep.String() + " -exec rm -f -- {} +\n" +
		"while read -r sum file; do [ ! -f \"$file\" ] || printf '%s  %s\\n' \"$(sha256sum <\"$file\" | cut -d' ' -f1)\" \"$file\"; done\n"
	result, err := h.Run(ctx, host.Cmd{Script: script, Stdin: strings.NewReader(list.String()), Exclusive: true})
	if err != nil {
		return nil, fmt.Errorf("look what was copied to %s before: %w", h.Name(), err)
	}
	arrived := map[string]bool{}
	for line := range strings.Lines(string(result.Stdout)) {
		sum, file, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if p := at[file]; want[p].Digest == sum {
			arrived[p] = true
		}
	}
	return arrived, nil
}

// copyProgram sends one program.
func (r *Runner) copyProgram(ctx context.Context, name, p string, f stack.File) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := &meter{size: f.Size, report: func(what string) { r.report(name, "copying "+path.Base(p)+", "+what) }}
	m.stall = time.AfterFunc(stallTimeout, func() {
		cancel(fmt.Errorf("the host has taken nothing for %s", stallTimeout))
	})
	defer m.stall.Stop()
	return r.Hosts[name].Write(ctx, []host.File{{
		Path: arriving(p), Mode: f.Mode, Owner: f.Owner, Size: f.Size, SHA256: f.Digest,
		Open: func() (io.ReadCloser, error) {
			file, err := os.Open(f.Local) //nolint:gosec // a file of the bundle
			if err != nil {
				return nil, fmt.Errorf("%w: the bundle has changed meanwhile, `slipway apply` makes it again", err)
			}
			m.ReadCloser = file
			return m, nil
		},
	}})
}

// meter reports how much was read of a file, and puts off the end of patience.
type meter struct {
	io.ReadCloser
	size, read int64
	report     func(what string)
	said       time.Time
	stall      *time.Timer
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.read += int64(n)
	m.stall.Reset(stallTimeout)
	if now := time.Now(); now.Sub(m.said) >= reportEvery {
		m.said = now
		m.report(fmt.Sprintf("%d of %d MB", m.read>>20, (m.size+1<<20-1)>>20))
	}
	return n, err
}

// placing are the programs whose content, mode or owner changes on a host that does not see the
// bundle.
func placing(changes []plan.Change, want stack.HostState) (programs []plan.Change) {
	for _, c := range changes {
		if c.Kind == plan.ProgramChange && c.Action != plan.Delete && want.Files[c.Name].Copied() {
			programs = append(programs, c)
		}
	}
	return programs
}

// placePrograms puts programs in place that were copied. What slipway owns is recorded before: of
// what it owned it forgets nothing, and what is to come it does not own yet.
func placePrograms(ctx context.Context, h host.Host, want, have stack.HostState, programs []plan.Change) error {
	if len(programs) == 0 {
		return nil
	}
	placed := map[string]stack.File{}
	for _, c := range programs {
		placed[c.Name] = want.Files[c.Name]
	}
	owned := stack.Regular(stack.Ownership(union(placed, have.Owned)), false, "")
	if err := h.Write(ctx, []host.File{hostFile(stack.OwnedFile, owned)}); err != nil {
		return err
	}
	if _, err := h.Run(ctx, host.Cmd{Script: placeScript(programs, placed), Exclusive: true}); err != nil {
		return fmt.Errorf("put programs in place on %s: %w", h.Name(), err)
	}
	return nil
}

// placeScript moves what was copied to its place, and gives all programs the mode and owner that
// they should have.
func placeScript(programs []plan.Change, files map[string]stack.File) string {
	script := append([]string{"# put programs in place", "set -e"}, uncover(programs)...)
	var dirs []string
	for _, c := range programs {
		f, at, dir := files[c.Name], host.Quote(c.Name), host.Quote(path.Dir(c.Name))
		dirs = append(dirs, dir)
		if c.Copy > 0 {
			script = append(script, "mkdir -p -- "+dir, "mv -f -T -- "+host.Quote(arriving(c.Name))+" "+at)
		}
		script = append(script, "chown "+f.Owner+" -- "+at, fmt.Sprintf("chmod %04o -- %s", f.Mode.Perm(), at))
	}
	slices.Sort(dirs)
	script = append(script,
		"sync -- "+strings.Join(slices.Compact(dirs), " "), // so that they exist after a power failure
		"rm -rf -- "+host.Quote(deliveryDir))
	return strings.Join(script, "\n") + "\n"
}
