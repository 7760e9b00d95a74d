package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// Observe reads the state of every host, in one session of two round trips each, all in parallel,
// and changes nothing. It reads the paths of desired and those that slipway wrote before. If waits
// is set, because the caller will change hosts, Observe waits until work of an earlier run on a
// host ends, or ends it, and reports that to waits. If hosts could not be read, each within limit
// (0 is two minutes), the error is an *UnreadError, and the State has the others.
func Observe(ctx context.Context, hosts map[string]host.Host, desired stack.State, waits func(host, what string), limit time.Duration) (stack.State, error) {
	names := slices.Sorted(maps.Keys(hosts))
	states, errs := make([]stack.HostState, len(names)), make([]error, len(names))
	words := newVocabulary()
	var group errgroup.Group
	for i, name := range names {
		group.Go(func() error {
			states[i], errs[i] = observeHost(ctx, hosts[name], desired.Hosts[name], waits, words, cmp.Or(limit, ObserveTimeout))
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by host
	state := stack.State{Hosts: map[string]stack.HostState{}}
	unread := &UnreadError{Hosts: map[string]error{}}
	for i, name := range names {
		if errs[i] != nil {
			unread.Hosts[name] = errs[i]
			continue
		}
		state.Hosts[name] = states[i]
	}
	if len(unread.Hosts) > 0 {
		return state, unread
	}
	return state, nil
}

// HasJoined returns the evidence that a host is or has been part of a cluster: etcd data, a record
// that it was up, or any file that slipway wrote; "" for none.
func HasJoined(ctx context.Context, h host.Host) (string, error) {
	ctx, cancel := Within(ctx, h, ObserveTimeout)
	defer cancel()
	result, err := h.Run(ctx, host.Cmd{Script: `
if [ -e /var/lib/etcd/member ]; then echo "etcd data"
elif [ -e ` + stack.InitializedFile + ` ]; then echo "been part of a cluster that was up"
elif [ -e ` + stack.OwnedFile + ` ]; then echo "been set up as a node"
fi`})
	if err != nil {
		return "", fmt.Errorf("check %s: %w", h.Name(), err)
	}
	return strings.TrimSpace(string(result.Stdout)), nil
}

// vocabulary keeps one copy of each word: hosts report mostly the same paths and digests, and a
// word by itself does not keep the whole report in memory.
type vocabulary struct {
	mu    sync.Mutex
	words map[string]string
}

func newVocabulary() *vocabulary { return &vocabulary{words: map[string]string{}} }

func (v *vocabulary) keep(word string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	kept, ok := v.words[word]
	if !ok {
		kept = strings.Clone(word)
		v.words[kept] = kept
	}
	return kept
}

func observeHost(
	ctx context.Context, h host.Host, desired stack.HostState, waits func(host, what string), words *vocabulary, limit time.Duration,
) (stack.HostState, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var said hostReport
	over := time.AfterFunc(limit, func() { cancel(&HungError{Host: h.Name(), Limit: limit, Section: said.section()}) })
	defer over.Stop()
	cmd := host.Cmd{Script: words.keep(observeScript(desired)), Stdout: &said}
	if waits != nil {
		cmd.Exclusive = true
		turns := 0
		cmd.Stderr = waiter(func(what string) {
			if turns++; turns > mostTurns {
				return
			}
			over.Reset(turnTimeout + limit) // the host has not been queried yet
			if what == host.LockAcquired {
				over.Reset(limit)
			}
			waits(h.Name(), what)
		})
	}
	sent := time.Now()
	_, err := h.Run(ctx, cmd)
	if lostOnce(ctx, h, err) {
		said.forget()
		sent = time.Now()
		_, err = h.Run(ctx, cmd)
	}
	if err != nil {
		return stack.HostState{}, fmt.Errorf("observe %s: %w", h.Name(), err)
	}
	returned := time.Now()
	state, err := parseObservation(said.text(), desired, words)
	if err != nil {
		return stack.HostState{}, fmt.Errorf("observe %s: %w", h.Name(), err)
	}
	state.Facts.Clock.Sent, state.Facts.Clock.Returned = sent, returned
	return state, nil
}

// lostOnce reports whether reading failed because the connection was lost, and may be repeated over
// another.
func lostOnce(ctx context.Context, h host.Host, err error) bool {
	_, again := h.(host.Reconnecter)
	return again && errors.As(err, new(*host.LostError)) && ctx.Err() == nil
}

// waiter receives the messages of a script that waits for its turn.
type waiter func(what string)

func (w waiter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, host.LockWaiting) || line == host.LockAcquired {
			w(line)
		}
	}
	return len(p), nil
}

// observeScript queries what is desired. All of it is in the script, and nothing on stdin: stdin
// would be sent only after the host has reported that the script runs, a round trip later.
func observeScript(desired stack.HostState) string {
	programs, known := programsWords(desired)
	return fmt.Sprintf("SYSCTLS=%s\nMODULES=%s\nACCOUNTS=%s\nPATHS=%s\nPROGRAMS=%s\nKNOWN=%s\n%s", words(desired.Sysctls, " "), words(desired.Modules, " "),
		words(desired.Accounts, " "), words(desired.Files, "\n"), programs, known, templates.ObserveScript())
}

// words returns the keys of a map, sorted, as one shell word.
func words[V any](m map[string]V, separator string) string {
	return host.Quote(strings.Join(slices.Sorted(maps.Keys(m)), separator))
}

// observation collects the sections of observe.sh.
type observation struct {
	words   *vocabulary
	state   stack.HostState
	digests map[string]string
	images  []string
	units   []map[string]string
	inputs  map[string]string // by process ID, or by unit for those that have exited
	// identities of the targets of program links, by path, and digests by identity; looked means that the host has reported them.
	identities, sums map[string]string
	looked           bool
	replaced         map[string]bool // by process ID
	facts            map[string]string
	old              old
}

// parseObservation parses the output of observe.sh for a host with a desired state. Output without
// its end marker is incomplete, and an error.
func parseObservation(text string, desired stack.HostState, words *vocabulary) (stack.HostState, error) {
	o := observation{
		words: words,
		state: stack.HostState{
			Files: map[string]stack.File{}, Units: map[string]stack.Unit{}, Sysctls: map[string]string{},
			Modules: map[string]bool{}, Accounts: map[string]bool{}, Owned: map[string]string{},
		},
		digests: map[string]string{}, inputs: map[string]string{}, facts: map[string]string{}, units: []map[string]string{{}},
		identities: map[string]string{}, sums: map[string]string{}, replaced: map[string]bool{},
	}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = line
			o.looked = o.looked || section == "[contents]"
			continue
		}
		if err := o.line(section, line); err != nil {
			return stack.HostState{}, err
		}
	}
	if section != "[end]" {
		return stack.HostState{}, fmt.Errorf("the host's report is incomplete in section %q", section)
	}
	o.finish()
	o.contents(desired)
	o.superseded(desired)
	return o.state, nil
}

//nolint:cyclop // a flat switch over the sections of the report: each case reads one, and none depends on another
func (o *observation) line(section, line string) error {
	switch section {
	case "[facts]":
		key, value := o.pair(line)
		o.facts[key] = value
	case "[files]":
		return o.file(line)
	case "[digests]":
		if sum, p, ok := strings.Cut(line, "  "); ok {
			o.digests[o.words.keep(p)] = o.words.keep(sum)
		}
	case "[contents]":
		id, p, _ := strings.Cut(line, "\t")
		o.identities[o.words.keep(p)] = id
	case "[sums]":
		id, sum, _ := strings.Cut(line, "\t")
		o.sums[id] = o.words.keep(sum)
	case "[replaced]":
		o.replaced[line] = true
	case "[owned]":
		o.own(line)
	case "[old]":
		o.old.line(line)
	case "[units]":
		if line == "" {
			o.units = append(o.units, map[string]string{})
			return nil
		}
		key, value := o.pair(line)
		o.units[len(o.units)-1][key] = value
	case "[inputs]":
		key, value := o.pair(line)
		o.inputs[key] = value
	case "[sysctls]":
		key, value := o.pair(line)
		o.state.Sysctls[key] = value
	case "[modules]":
		module, loaded := o.pair(line)
		o.state.Modules[module] = loaded == "1"
	case "[accounts]":
		account, _ := o.pair(line)
		o.state.Accounts[account] = true
	case "[images]":
		o.images = append(o.images, o.words.keep(line))
	default:
		return fmt.Errorf("the host's report has an unknown section %q", section)
	}
	return nil
}

// pair parses "key=value".
func (o *observation) pair(line string) (key, value string) {
	key, value, _ = strings.Cut(line, "=")
	return o.words.keep(key), o.words.keep(value)
}

// own parses "digest path", separated by a tab. The lists of slipway's first versions contain only
// paths.
func (o *observation) own(line string) {
	if digest, p, ok := strings.Cut(line, "\t"); ok {
		o.state.Owned[o.words.keep(p)] = o.words.keep(digest)
		return
	}
	o.state.Owned[o.words.keep(line)] = ""
}

// file parses "type mode owner time link path", separated by tabs; the path comes last since it may hold anything.
func (o *observation) file(line string) error {
	fields := strings.SplitN(line, "\t", 6)
	if len(fields) != 6 {
		return fmt.Errorf("the host's report has an invalid file line %q", line)
	}
	perm, err := strconv.ParseUint(fields[1], 8, 32)
	if err != nil {
		return fmt.Errorf("the host's report has an invalid mode in %q", line)
	}
	f := stack.File{Mode: fs.FileMode(perm), Owner: o.words.keep(fields[2]), Changed: unixTime(fields[3])}
	switch fields[0] {
	case "l":
		f.Mode |= fs.ModeSymlink
		f.Digest = o.words.keep(fields[4])
	case "d":
		f.Mode |= fs.ModeDir
	case "f":
	default:
		f.Mode |= fs.ModeIrregular
	}
	o.state.Files[o.words.keep(fields[5])] = f
	return nil
}

func (o *observation) finish() {
	for p, sum := range o.digests {
		if f, ok := o.state.Files[p]; ok {
			f.Digest = sum
			o.state.Files[p] = f
		}
	}
	if n := len(o.images); n > 0 && o.images[n-1] == "known" { // the runtime has answered
		o.state.Images = map[string]bool{}
		for _, ref := range o.images[:n-1] {
			o.state.Images[ref] = true
		}
	}
	now := unixTime(o.facts["now"])
	for _, u := range o.units {
		if u["Id"] == "" || u["LoadState"] == "not-found" && u["ActiveState"] == "inactive" {
			continue
		}
		inputs := o.inputs[u["MainPID"]]
		if u["MainPID"] == "0" {
			inputs = o.inputs[u["Id"]]
		}
		state := u["ActiveState"] + "/" + u["SubState"]
		if u["Job"] != "" && u["ActiveState"] == "inactive" {
			state = "activating/queued" // behind a unit that it comes after
		}
		active, changed := u["ActiveState"] == "active", systemdTime(u["StateChangeTimestamp"])
		o.state.Units[u["Id"]] = stack.Unit{
			Enabled: u["UnitFileState"] == "enabled", Active: active, Inputs: inputs, Unread: u["NeedDaemonReload"] == "yes",
			Replaced: o.replaced[u["MainPID"]],
			Running:  running(active, changed, now), State: o.words.keep(state), Changed: changed,
		}
	}
	o.state.Facts = o.parseFacts()
}

// running returns how long a unit has been active since its last change; both times are the host's.
func running(active bool, changed, now time.Time) time.Duration {
	if !active || changed.IsZero() || now.Before(changed) {
		return 0
	}
	return now.Sub(changed)
}

// systemdTime parses a time as systemctl prints it in UTC; zero if it is none.
func systemdTime(text string) time.Time {
	t, err := time.Parse("Mon 2006-01-02 15:04:05 MST", text)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// unixTime parses seconds since 1970, with or without a fraction; zero if it is no time.
func unixTime(text string) time.Time {
	seconds, _, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}
