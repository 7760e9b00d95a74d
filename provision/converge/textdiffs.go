package converge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/aymanbagabas/go-udiff"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/plan"
)

// TextDiffs returns unified diffs, by Change.Key, of the changes to text: files that are not
// secret, and objects. It reads the files from the hosts in one more round trip each. It leaves out
// what it cannot show.
func (v *View) TextDiffs(ctx context.Context, changes []plan.Change) (TextDiffs, error) {
	have, err := v.readChanged(ctx, changes)
	if err != nil {
		return nil, err
	}
	diffs := TextDiffs{}
	for _, c := range changes {
		want := v.Desired.Hosts[c.Host].Files[c.Name]
		switch {
		case c.Kind == plan.ObjectChange:
			for _, o := range v.Objects {
				if o.Object == c.Name {
					diffs[c.Key()] = unified(o.Live, o.Wanted)
				}
			}
		case c.Kind != plan.FileChange || c.Secret || want.Secret || c.Action == plan.Delete || !want.Mode.IsRegular():
		default:
			diffs[c.Key()] = unified(string(have[c.Host][c.Name]), string(want.Content))
		}
	}
	return diffs, nil
}

// readChanged reads the files that change and are not secret, by host and path, from all hosts in
// parallel.
func (v *View) readChanged(ctx context.Context, changes []plan.Change) (map[string]map[string][]byte, error) {
	wanted := map[string][]string{} // paths by host
	for _, c := range changes {
		if c.Kind == plan.FileChange && c.Action == plan.Update && !c.Secret {
			wanted[c.Host] = append(wanted[c.Host], c.Name)
		}
	}
	var mu sync.Mutex
	var firstErr error
	have := map[string]map[string][]byte{}
	var all sync.WaitGroup
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		all.Go(func() {
			content, err := readAll(ctx, v.Hosts[name], wanted[name])
			mu.Lock()
			defer mu.Unlock()
			if have[name] = content; err != nil && firstErr == nil {
				firstErr = err
			}
		})
	}
	all.Wait()
	return have, firstErr
}

// TextDiffs are unified diffs by Change.Key.
type TextDiffs map[string]string

// Of returns the diff of a change; "" if there is none to show.
func (d TextDiffs) Of(c plan.Change) string { return d[c.Key()] }

// unified is the diff without the two lines that name files.
func unified(from, to string) string {
	return strings.TrimPrefix(udiff.Unified("", "", from, to), "--- \n+++ \n")
}

// readAll reads files of a host in one session. It leaves out files that do not exist.
func readAll(ctx context.Context, h host.Host, paths []string) (map[string][]byte, error) {
	ctx, cancel := observe.Within(ctx, h, observe.ObserveTimeout)
	defer cancel()
	script := `while IFS= read -r f; do [ -f "$f" ] && [ ! -L "$f" ] && printf '%s\n%s\n' "$f" "$(base64 -w0 <"$f")"; done; true`
	result, err := h.Run(ctx, host.Cmd{Script: script, Stdin: strings.NewReader(strings.Join(paths, "\n") + "\n")})
	if err != nil {
		return nil, fmt.Errorf("read files of %s: %w", h.Name(), err)
	}
	contents := map[string][]byte{}
	text := bufio.NewScanner(bytes.NewReader(result.Stdout))
	text.Buffer(nil, len(result.Stdout)+1)
	for text.Scan() {
		name := text.Text()
		text.Scan()
		if contents[name], err = base64.StdEncoding.DecodeString(text.Text()); err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", name, h.Name(), err)
		}
	}
	return contents, text.Err()
}
