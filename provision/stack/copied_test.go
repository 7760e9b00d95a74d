package stack_test

import (
	"io/fs"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// TestCopiedArtifacts: a machine that does not see the bundle gets the artifacts of its components,
// and no others, at the very paths where others have links; nothing else differs, so that units
// need not know.
func TestCopiedArtifacts(t *testing.T) {
	in := fixture.Input(t)
	mounted, copied := fixture.Desired(t, in), fixture.Desired(t, fixture.Blind(in))
	for name, host := range copied.Hosts {
		programs := 0
		for p, f := range host.Files {
			m, there := mounted.Hosts[name].Files[p]
			switch {
			case !there:
				t.Errorf("%s: %s is only there", name, p)
			case p == stack.OwnedFile: // has the digests of them all
			case !f.Program:
				if m.Digest != f.Digest || m.Mode != f.Mode {
					t.Errorf("%s: %s differs", name, p)
				}
				continue
			case !f.Copied() || m.Copied():
				t.Errorf("%s: %s is %v, and a copy is %v", name, p, m.Mode, f.Mode)
			default:
				programs++
				mode := fs.FileMode(0o755)
				if strings.HasSuffix(p, ".tar") {
					mode = 0o644
				}
				if f.Mode != mode || f.Owner != "root:root" || f.Digest != m.Sum || f.Size != 1<<20 || !strings.HasPrefix(f.Local, "/cache/d1/") {
					t.Errorf("%s: %s is %+v", name, p, f)
				}
			}
		}
		if programs < 5 || len(host.Files) != len(mounted.Hosts[name].Files) {
			t.Errorf("%s has %d programs", name, programs)
		}
		for unit, u := range host.Units {
			if u.Inputs != mounted.Hosts[name].Units[unit].Inputs {
				t.Errorf("%s: %s restarts where a mount becomes a copy", name, unit)
			}
		}
	}
	if _, there := copied.Hosts["demo-worker-1"].Files[in.Artifacts["amd64"]["etcd"].Path()]; there {
		t.Error("a worker gets etcd")
	}
}
