package simulate

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Host is a machine.
type Host struct {
	c       *Cluster
	name    string
	machine spec.Machine
	cp      bool
	disk
	units map[string]*unit
	// images that the runtime has, and what of the kernel is set: sysctls by name.
	images, modules map[string]bool
	sysctls         map[string]string

	// life counts boots: what ran in an earlier one is gone. It is 0 while the machine is off, and boots then.
	life, lives int
	boots       time.Time
	// What is wrong with it: it does not do anything, does all slowly, has no room, or takes no new connections.
	frozen, slow, full, closed bool
	lock                       *job
	conns                      []*Conn
	// hurt is when something was last done to it by others than a run.
	hurt time.Time
	away *disk // that is not in the machine now
}

// disk is what outlives a boot.
type disk struct {
	files    map[string]*file
	accounts map[string]bool
	enabled  map[string]bool // units
	// etcd is the ID of the cluster whose data is there, "" for none; had says that there was some.
	etcd string
	had  bool
}

type file struct {
	host.File
	digest  string
	spoilt  bool // somebody has edited it
	changed time.Time
}

type unit struct {
	enabled, running, active bool
	// text is the unit file as systemd has read it last, inputs are of the process.
	text, inputs string
	// since is when the process began, takes how long it takes to be up, changed when the unit's state did.
	since, changed time.Time
	takes          time.Duration
}

// unitOrder are the services in the order of the table, which dependencies follow.
var unitOrder = func() (names []string) {
	for _, row := range stack.Units() {
		names = append(names, row.Name)
	}
	return names
}()

func newDisk() disk {
	return disk{files: map[string]*file{}, accounts: map[string]bool{}, enabled: map[string]bool{}}
}

func newHost(c *Cluster, m spec.Machine) *Host {
	h := &Host{c: c, name: m.Name, machine: m, cp: isControlPlane(m), disk: newDisk(), lives: 1, life: 1}
	h.reset()
	return h
}

func (h *Host) on() bool { return h.life > 0 }

// reset is what a boot begins with.
func (h *Host) reset() {
	h.units, h.modules, h.sysctls = map[string]*unit{}, map[string]bool{}, map[string]string{"net.ipv4.ip_forward": "0"}
	h.images = map[string]bool{}
}

// start boots the machine. mu is held.
func (h *Host) start() {
	h.lives++
	h.life, h.boots = h.lives, time.Time{}
	h.reset()
	h.c.note("%s boots", h.name)
	h.loadModules()
	h.loadSysctls()
	h.reload()
	for _, name := range slices.Sorted(maps.Keys(h.enabled)) {
		if u := h.units[name]; u != nil {
			u.enabled = true
			h.launch(name)
		}
	}
}

// stop is what becomes of a machine that is switched off, or loses its power, until it boots. mu is held.
func (h *Host) stop(boots time.Time, why string) {
	for _, k := range h.conns {
		k.cut(why)
	}
	h.life, h.boots, h.lock, h.conns, h.frozen = 0, boots, nil, nil, false
	if !boots.IsZero() {
		h.c.busy.Go(func() {
			time.Sleep(time.Until(boots))
			h.c.mu.Lock()
			defer h.c.mu.Unlock()
			h.c.settle()
		})
	}
	for _, u := range h.units {
		u.running, u.active = false, false
	}
}

// works says whether a unit does what it is there for, as far as that is a matter of this host.
func (h *Host) works(name string) bool {
	u := h.units[name]
	return h.on() && !h.frozen && u != nil && u.running && u.active
}

// put stores a file. mu is held.
func (h *Host) put(f host.File) {
	f.Owner = cmp.Or(f.Owner, "root:root")
	digest := ""
	switch {
	case f.Mode.IsRegular():
		digest = stack.Digest(f.Content)
	case !f.Mode.IsDir():
		digest = string(f.Content)
	}
	if f.Path == stack.InitializedFile {
		h.c.up, h.c.joined[h.name] = true, true
	}
	h.files[f.Path] = &file{File: f, digest: digest, changed: time.Now()}
}

func (h *Host) content(name string) []byte {
	if f := h.files[name]; f != nil {
		return f.Content
	}
	return nil
}

// reload is systemctl daemon-reload.
func (h *Host) reload() {
	for p, f := range h.files {
		name := path.Base(p)
		if !strings.HasPrefix(p, stack.UnitDir) || path.Ext(name) != ".service" {
			continue
		}
		if h.units[name] == nil {
			h.units[name] = &unit{enabled: h.enabled[name]}
		}
		h.units[name].text = string(f.Content)
	}
	for name, u := range h.units {
		if h.files[stack.UnitDir+name] == nil && !u.running {
			delete(h.units, name)
		}
	}
}

// launch starts the process of a unit. mu is held.
func (h *Host) launch(name string) {
	u := h.units[name]
	u.running, u.active, u.since, u.changed = true, false, time.Now(), time.Now()
	u.takes = 200*time.Millisecond + time.Duration(h.c.chance(h.name+" "+name)%uint64(time.Second)) //nolint:gosec // G115: positive
	if h.slow {
		u.takes *= 10
	}
	u.inputs = wordAfter(u.text, "SLIPWAY_INPUTS=")
	if name == stack.EtcdService && h.etcd == "" {
		h.etcd, h.had = stack.Digest([]byte(wordAfter(u.text, "--initial-cluster-token=") + wordAfter(u.text, "--initial-cluster=")))[:16], true
	}
}

// kill ends the process of a unit. mu is held.
func (h *Host) kill(name string) {
	if u := h.units[name]; u != nil && u.running {
		u.running, u.active, u.changed = false, false, time.Now()
	}
}

// imported is what the unit of images does: those that its text names are in the runtime.
func (h *Host) imported() {
	for name, artifact := range h.c.shape.images {
		if strings.Contains(h.units[stack.ImagesService].text, "/"+path.Base(name)+".tar") {
			h.images[artifact] = true
		}
	}
}

func (h *Host) loadModules() {
	for _, name := range settings(h.content("/etc/modules-load.d/slipway.conf")) {
		h.modules[name] = true
	}
}

func (h *Host) loadSysctls() {
	for _, line := range settings(h.content("/etc/sysctl.d/90-slipway.conf")) {
		key, value, _ := strings.Cut(line, "=")
		h.sysctls[strings.TrimPrefix(strings.TrimSpace(key), "-")] = strings.TrimSpace(value)
	}
}

// settings are the lines that are neither empty nor comments.
func settings(text []byte) (lines []string) {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// wordAfter is what follows in a text, up to a space, a quote or the end of the line.
func wordAfter(text, prefix string) string {
	_, rest, found := strings.Cut(text, prefix)
	if !found {
		return ""
	}
	if i := strings.IndexAny(rest, " \n\"\\"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}
