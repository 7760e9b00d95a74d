package provision

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// existing are machines that exist without slipway.
type existing struct{ machinesThere }

func (existing) Record() spec.KnownHosts { return spec.KnownHosts{} }

// TestBundlesBeforeObservation: those of the architectures that are known; otherwise that of this
// computer, but of machines that exist only if it needs not be made.
func TestBundlesBeforeObservation(t *testing.T) {
	for name, test := range map[string]struct {
		machines Machines
		recorded []string // of the machines
		has      bool
		lacks    []string // what cannot be made
		want     []string
		err      string
	}{
		"machines of a provider":         {machines: machinesThere{}, want: []string{"amd64"}},
		"what was recorded":              {machines: machinesThere{}, recorded: []string{"arm64", "", "arm64"}, want: []string{"arm64"}},
		"both":                           {machines: existing{}, recorded: []string{"arm64", "amd64"}, want: []string{"amd64", "arm64"}},
		"machines that exist":            {machines: existing{}},
		"machines that exist, a cache":   {machines: existing{}, has: true, want: []string{"amd64"}},
		"one that cannot be made":        {machines: existing{}, recorded: []string{"arm64", "amd64"}, lacks: []string{"arm64"}, want: []string{"amd64"}},
		"none that can be made":          {machines: existing{}, recorded: []string{"arm64", "amd64"}, lacks: []string{"arm64", "amd64"}, err: "cannot make arm64"},
		"the only one cannot be made":    {machines: machinesThere{}, lacks: []string{"amd64"}, err: "cannot make amd64"},
		"a machine that is not there":    {machines: machinesThere{}, recorded: []string{""}, want: []string{"amd64"}},
		"another one than this computer": {machines: existing{}, recorded: []string{"arm64"}, has: true, want: []string{"arm64"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := map[string]int{}
			s := Session{
				Machines: test.machines, Arch: "amd64", found: &spec.Infrastructure{},
				HasBundle: func(context.Context, string) bool { return test.has },
				Bundle: func(_ context.Context, arch string) (stack.Set, []string, error) {
					asked[arch]++
					if slices.Contains(test.lacks, arch) {
						return nil, nil, errors.New("cannot make " + arch)
					}
					return stack.Set{"etcd": {SHA256: arch}}, []string{"a note of " + arch}, nil
				},
			}
			for _, arch := range test.recorded {
				s.found.Machines = append(s.found.Machines, spec.Machine{Arch: arch})
			}
			err := s.getBundles(t.Context())
			if got := slices.Sorted(maps.Keys(s.artifacts)); !slices.Equal(got, test.want) || s.artifacts == nil || len(s.bundleNotes) != len(test.want) {
				t.Errorf("there are bundles for %v, with notes %v", got, s.bundleNotes)
			}
			if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			for _, arch := range test.lacks { // once in a run
				if _, err := s.set(t.Context(), arch); err == nil || asked[arch] != 1 {
					t.Errorf("%s was asked for %d times, %v", arch, asked[arch], err)
				}
			}
		})
	}
}
