package local

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"

	"slipway.dev/slipway/provision/spec"
)

// TestCopiedBundles: a machine that gets copies has no mount of the bundles, says so, and stays what
// it was made as.
func TestCopiedBundles(t *testing.T) {
	mounting, user := opened(t, 1, Options{})
	c := testCluster("demo", 1, 0)
	c.Spec.Provider.Local.Bundle = spec.CopyBundle
	copying, err := Open(c, mounting.o)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ensureKey(mounting.keyDir(), "demo-cp-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, made := range []*Local{mounting, copying} {
		m := machine{node: made.nodes[0], host: host, user: user, disk: "disk"}
		mounts := slices.ContainsFunc(made.machineHostConfig(m).Mounts, func(m mount.Mount) bool { return m.Target == Bundles })
		if mounts != (made == mounting) {
			t.Errorf("copying is %t, and it mounts bundles: %t", made == copying, mounts)
		}
		m.exists = &found{name: "demo-cp-1", labels: made.machineConfig("image", m).Labels}
		if artifacts := made.describe(*m.exists, user, nil).Artifacts; (artifacts == "") == mounts {
			t.Errorf("it mounts bundles: %t, and has them in %q", mounts, artifacts)
		}
		for _, asked := range []*Local{mounting, copying} {
			err := asked.checkMachine(m)
			if asked == made && err != nil || asked != made && (err == nil || !strings.Contains(err.Error(), "spec.provider.local.bundle")) {
				t.Errorf("copying was %t and is to be %t: %v", made == copying, asked == copying, err)
			}
		}
		delete(m.exists.labels, labelBundles)
		if mounting.describe(*m.exists, user, nil).Artifacts == "" {
			t.Error("a machine of an older slipway has no bundles")
		}
	}
}
