package simulate

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/provision/stack"
)

// report is what observe.sh prints here, asked by its script. Programs are not looked into. mu is held.
func (h *Host) report(script string) string {
	var b strings.Builder
	p := func(words ...string) {
		for _, w := range words {
			b.WriteString(w)
		}
		b.WriteByte('\n')
	}
	machine := map[bool]string{true: "aarch64", false: "x86_64"}[h.name == h.c.shape.another()]
	p("[facts]\nos=Debian GNU/Linux 13 (trixie)\nkernel=6.12.48\nmachine=" + machine + "\ncgroup=cgroup2fs\n" +
		"capbnd=000001ffffffffff\nsystemd=1\nconntrack=1\nresolv=/etc/resolv.conf")
	p("now=", strconv.FormatInt(time.Now().Unix(), 10))
	if h.etcd != "" {
		p("etcddata=whole")
	}
	if h.files[stack.InitializedFile] != nil {
		p("initialized=1")
	}
	if f := h.files[stack.ClusterFile]; f != nil {
		p("cluster=", strings.TrimSpace(string(f.Content)))
	}
	h.reportFiles(p, script)
	b.WriteString("[owned]\n" + string(h.content(stack.OwnedFile)))
	h.reportUnits(p)
	p("[sysctls]")
	for _, key := range slices.Sorted(maps.Keys(h.sysctls)) {
		p(key, "=", h.sysctls[key])
	}
	p("[modules]")
	for name := range strings.FieldsSeq(variable(script, "MODULES")) {
		p(name, "=", map[bool]string{true: "1", false: "0"}[h.modules[name]])
	}
	p("[accounts]")
	for _, name := range slices.Sorted(maps.Keys(h.accounts)) {
		p(name, "=1")
	}
	p("[images]")
	if h.works(containerd) {
		for _, ref := range slices.Sorted(maps.Keys(h.images)) {
			p(ref)
		}
		p("known")
	}
	p("[end]")
	return b.String()
}

func (h *Host) reportFiles(p func(...string), script string) {
	paths := map[string]bool{}
	for name := range strings.SplitSeq(variable(script, "PATHS"), "\n") {
		paths[name] = h.files[name] != nil
	}
	for line := range strings.Lines(string(h.content(stack.OwnedFile))) {
		_, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		paths[name] = h.files[name] != nil
	}
	maps.DeleteFunc(paths, func(_ string, there bool) bool { return !there })
	sorted := slices.Sorted(maps.Keys(paths))
	p("[files]")
	for _, name := range sorted {
		f := h.files[name]
		kind, target := "f", ""
		switch f.Mode.Type() {
		case fs.ModeSymlink:
			kind, target = "l", f.digest
		case fs.ModeDir:
			kind = "d"
		}
		p(kind, "\t", strconv.FormatUint(uint64(f.Mode.Perm()), 8), "\t", f.Owner, "\t", strconv.FormatInt(f.changed.Unix(), 10), ".0\t", target, "\t", name)
	}
	p("[digests]")
	for _, name := range sorted {
		if f := h.files[name]; f.Mode.IsRegular() {
			p(f.digest, "  ", name)
		}
	}
}

func (h *Host) reportUnits(p func(...string)) {
	names := slices.Sorted(maps.Keys(h.units))
	p("[units]")
	var inputs []string
	for i, name := range names {
		u := h.units[name]
		active, sub, pid, load, enabled, unread := "inactive", "dead", 0, "loaded", "disabled", "no"
		if u.running {
			active, sub, pid = "activating", "start", 1000+i
		}
		if u.running && u.active {
			active, sub = "active", "running"
		}
		if name == stack.ImagesService {
			pid = 0
			if u.active {
				sub = "exited"
				inputs = append(inputs, name+"="+u.inputs)
			}
		}
		if pid > 0 {
			inputs = append(inputs, strconv.Itoa(pid)+"="+u.inputs)
		}
		f := h.files[stack.UnitDir+name]
		if f == nil {
			load = "not-found"
		} else if string(f.Content) != u.text {
			unread = "yes"
		}
		if u.enabled {
			enabled = "enabled"
		}
		if i > 0 {
			p()
		}
		p(fmt.Sprintf("Id=%s\nLoadState=%s\nActiveState=%s\nSubState=%s\nUnitFileState=%s\nMainPID=%d\nNeedDaemonReload=%s\nStateChangeTimestamp=%s",
			name, load, active, sub, enabled, pid, unread, u.changed.UTC().Format("Mon 2006-01-02 15:04:05 MST")))
	}
	p("[inputs]")
	for _, line := range inputs {
		p(line)
	}
	p("[replaced]")
}

// variable is the value that a script gives a variable, in single quotes.
func variable(script, name string) string {
	_, rest, found := strings.Cut("\n"+script, "\n"+name+"='")
	if !found {
		return ""
	}
	value, _, _ := strings.Cut(rest, "'")
	return value
}
