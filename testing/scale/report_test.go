package scale_test

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

const (
	ownedFile     = "/var/lib/slipway/owned"
	imagesService = "slipway-images.service" // has exited, and left its inputs behind
)

// Files were written, then units started. What a test edits has a time of its own.
var (
	written = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	started = written.Add(time.Minute)
	edited  = written.Add(time.Hour)
)

// facts of an ordinary machine.
func facts(m spec.Machine) stack.Facts {
	up := m.Role == spec.ControlPlane
	return stack.Facts{
		OS: "Debian GNU/Linux 13 (trixie)", Kernel: "6.12.48", Arch: "amd64", CgroupV2: true, SysResource: true, ReadSearch: true,
		ConntrackWritable: true, ResolvConf: "/etc/resolv.conf", EtcdData: up, Initialized: up, Systemd: true, FreeBytes: 64 << 30,
	}
}

// report is what templates/files/observe.sh prints on a host that is so.
func report(h stack.HostState) string {
	var b strings.Builder
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	p("[facts]\nos=%s\nkernel=%s\nmachine=x86_64\ncgroup=cgroup2fs\ncapbnd=000001ffffffffff\nsystemd=1", h.Facts.OS, h.Facts.Kernel)
	if h.Facts.Initialized {
		p("etcddata=whole\ninitialized=1")
	}
	p("conntrack=1\nresolv=%s\nfree=%d", h.Facts.ResolvConf, h.Facts.FreeBytes)
	reportFiles(p, h)
	p("[owned]\n%s[units]", h.Files[ownedFile].Content)
	reportUnits(p, h)
	p("[sysctls]")
	for _, key := range slices.Sorted(maps.Keys(h.Sysctls)) {
		p("%s=%s", key, h.Sysctls[key])
	}
	p("[modules]")
	for _, name := range slices.Sorted(maps.Keys(h.Modules)) {
		p("%s=1", name)
	}
	p("[accounts]")
	for _, name := range slices.Sorted(maps.Keys(h.Accounts)) {
		p("%s=1", name)
	}
	p("[images]")
	for _, ref := range slices.Sorted(maps.Keys(h.Images)) {
		p("%s", ref)
	}
	p("known\n[end]")
	return b.String()
}

func reportFiles(p func(string, ...any), h stack.HostState) {
	paths := slices.Sorted(maps.Keys(h.Files))
	p("[files]")
	for _, path := range paths {
		f := h.Files[path]
		kind, target, changed := "f", "", f.Changed
		if f.Mode.Type() == fs.ModeSymlink {
			kind, target = "l", f.Digest
		}
		if changed.IsZero() {
			changed = written
		}
		p("%s\t%o\t%s\t%d.0000000000\t%s\t%s", kind, f.Mode.Perm(), f.Owner, changed.Unix(), target, path)
	}
	p("[digests]")
	for _, path := range paths {
		if f := h.Files[path]; f.Mode.IsRegular() {
			p("%s  %s", f.Digest, path)
		}
	}
}

func reportUnits(p func(string, ...any), h stack.HostState) {
	names := slices.Sorted(maps.Keys(h.Units))
	pid := func(i int) int {
		if names[i] == imagesService || !h.Units[names[i]].Active {
			return 0
		}
		return 1000 + i
	}
	for i, name := range names {
		if i > 0 {
			p("")
		}
		active, sub := "active", "running"
		switch {
		case !h.Units[name].Active:
			active, sub = "inactive", "dead"
		case name == imagesService:
			sub = "exited"
		}
		p("Id=%s\nLoadState=loaded\nActiveState=%s\nSubState=%s\nUnitFileState=enabled\nMainPID=%d\nStateChangeTimestamp=%s",
			name, active, sub, pid(i), started.Format("Mon 2006-01-02 15:04:05 MST"))
	}
	p("[inputs]")
	for i, name := range names {
		if pid(i) != 0 {
			p("%d=%s", pid(i), h.Units[name].Inputs)
		}
	}
	p("%s=%s", imagesService, h.Units[imagesService].Inputs)
}
