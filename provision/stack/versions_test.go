package stack

import (
	"slices"
	"testing"
	"time"
)

func dirs(versions []Version) (all []string) {
	for _, v := range versions {
		all = append(all, v.Dir)
	}
	return all
}

// TestSuperseded: only what slipway recorded, of components that it wants in another version.
func TestSuperseded(t *testing.T) {
	early, late := time.Unix(100, 0), time.Unix(200, 0)
	have := HostState{Files: map[string]File{}, Owned: map[string]string{}}
	for p, at := range map[string]time.Time{
		"/opt/slipway/etcd/v1/bin/etcd":       early,
		"/opt/slipway/etcd/v1/bin/etcdctl":    late,
		"/opt/slipway/etcd/v2/bin/etcd":       late, // wanted
		"/opt/slipway/pause/v1/images/p.tar":  early,
		"/opt/slipway/vpn/v1/bin/vpnd":        early, // whose component is not wanted
		"/opt/slipway/bin/runc":               early,
		"/opt/slipway/etcd/v0/doc/etcd":       early,
		"/opt/slipway/etcd/v0/bin/a/b":        early,
		"/elsewhere/slipway/etcd/v0/bin/etcd": early,
	} {
		have.Files[p], have.Owned[p] = File{Changed: at}, "digest of "+p
	}
	have.Owned["/opt/slipway/etcd/v0/bin/etcd"] = "removed by somebody"
	have.Files["/opt/slipway/etcd/v0/bin/mine"] = File{Changed: early} // not recorded
	got := Superseded(map[string]File{"/opt/slipway/etcd/v2/bin/etcd": {}, "/opt/slipway/pause/v2/images/p.tar": {}, "/opt/slipway/bin/slipway": {}}, have)
	if want := []string{"/opt/slipway/etcd/v1", "/opt/slipway/pause/v1"}; !slices.Equal(dirs(got), want) {
		t.Fatalf("got %v, want %q", got, want)
	}
	if v := got[0]; len(v.Files) != 2 || v.Files["/opt/slipway/etcd/v1/bin/etcd"] != "digest of /opt/slipway/etcd/v1/bin/etcd" || !v.Placed.Equal(late) ||
		v.Component() != "etcd" {
		t.Errorf("got %+v", v)
	}
}

// TestExcess: those placed last stay, per component, and one in use stays besides.
func TestExcess(t *testing.T) {
	at := func(dir string, seconds int64, users ...string) Version {
		return Version{Dir: ProgramDir + dir, Placed: time.Unix(seconds, 0), Users: users}
	}
	versions := []Version{at("a/v1", 1), at("a/v2", 9), at("a/v3", 3), at("a/v4", 2, "a process"), at("b/v1", 1)}
	for keep, want := range map[int][]string{
		0: {ProgramDir + "a/v1", ProgramDir + "a/v2", ProgramDir + "a/v3", ProgramDir + "b/v1"},
		1: {ProgramDir + "a/v1", ProgramDir + "a/v3"},
		2: {ProgramDir + "a/v1"},
		3: nil,
	} {
		if got := dirs(Excess(versions, keep)); !slices.Equal(got, want) {
			t.Errorf("with %d kept: got %q, want %q", keep, got, want)
		}
	}
}
