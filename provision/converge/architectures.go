package converge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// learn notes the architectures of the hosts that were observed, and gets the artifacts for those
// that have none yet. If they cannot be had, the hosts are held, unless no host has any. again
// means that hosts were asked for the programs of another architecture than their own: an
// architecture is known from the last apply, and before the first one nothing is.
func (l *looking) learn(ctx context.Context) (again bool, err error) {
	asked := maps.Clone(l.Input.Artifacts) // the run puts into its own what it gets
	machines, sets, failed := slices.Clone(l.Input.Machines), maps.Clone(asked), map[string]error{}
	if sets == nil {
		sets = stack.Sets{}
	}
	for i := range machines {
		m := &machines[i]
		arch := l.Observed.Hosts[m.Name].Facts.Arch
		if !slices.Contains(stack.Architectures(), arch) {
			continue // not observed, or refused
		}
		if err := l.complete(ctx, sets, failed, arch); err != nil {
			return false, err
		}
		if failed[arch] == nil {
			again = again || len(asked) == 0 || asked.Taken(m.Arch) != arch
		}
		m.Arch = arch
	}
	if len(sets) == 0 {
		return false, l.withoutBundle(failed)
	}
	l.Input.Machines, l.Input.Artifacts, l.lacking = machines, sets, failed
	return again, nil
}

// complete gets the artifacts for an architecture, or puts into failed why there are none.
func (l *looking) complete(ctx context.Context, sets stack.Sets, failed map[string]error, arch string) error {
	if _, ok := sets[arch]; ok || failed[arch] != nil {
		return nil
	}
	if l.from.Artifacts == nil {
		failed[arch] = errors.New("none was given")
		return nil
	}
	set, err := l.from.Artifacts(ctx, arch)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed[arch] = err; err == nil {
		sets[arch] = set
	}
	return nil
}

// withoutBundle is the error if no host can be given anything.
func (l *looking) withoutBundle(failed map[string]error) error {
	if len(failed) > 0 {
		return errors.Join(slices.Collect(maps.Values(failed))...)
	}
	var hosts []string
	for _, name := range slices.Sorted(maps.Keys(l.Observed.Hosts)) {
		hosts = append(hosts, name+" ("+l.Observed.Hosts[name].Facts.Arch+")")
	}
	return fmt.Errorf("slipway has programs for %s, and none of the machines has such a processor: %s. Use other machines",
		strings.Join(stack.Architectures(), " and "), strings.Join(hosts, ", "))
}

// lackBundle returns the hosts for whose architecture there is no bundle, with the reasons.
func (l *looking) lackBundle() map[string][]string {
	held := map[string][]string{}
	for name, h := range l.Observed.Hosts {
		if err := l.lacking[h.Facts.Arch]; err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			held[name] = []string{fmt.Sprintf("there is no bundle for its processor, %[1]s: %[2]s. "+
				"`slipway bundle build --arch %[1]s` makes one, or `slipway bundle download --arch %[1]s`", h.Facts.Arch, first)}
		}
	}
	return held
}
