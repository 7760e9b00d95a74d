package plan

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/stack"
)

// Diff returns the changes that turn observed into desired, sorted by host, kind and name. Facts
// are not compared. Files that slipway once wrote and no longer wants are deleted; files of others
// are kept.
func Diff(desired, observed stack.State) []Change {
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(desired.Hosts)) {
		want, have := desired.Hosts[name], observed.Hosts[name]
		d := hostDiff{host: name, fresh: len(have.Owned) == 0}
		d.files(want, have)
		d.units(want, have)
		if _, registered := observed.Nodes[name]; observed.Nodes != nil && !registered {
			d.register(want.Units, have.Units)
		}
		d.authentication(want, have)
		d.sysctls(want.Sysctls, have.Sysctls)
		d.modules(want.Modules, have.Modules)
		d.accounts(want.Accounts, have)
		d.images(want.Images, have)
		d.versions(want, have)
		if node, ok := desired.Nodes[name]; ok && observed.Nodes != nil {
			d.node(node, observed.Nodes)
		}
		changes = append(changes, d.changes...)
	}
	if observed.Members != nil {
		d := hostDiff{}
		d.members(desired.Members, observed.Members)
		changes = append(changes, d.changes...)
	}
	return changes
}

// hostDiff collects the changes of one host.
type hostDiff struct {
	host    string
	fresh   bool // slipway has never written there, so that nothing can have drifted
	changes []Change
}

func (d *hostDiff) add(c Change) {
	if c.Host == "" {
		c.Host = d.host
	}
	if d.fresh {
		c.Cause = Wanted
	}
	d.changes = append(d.changes, c)
}

func (d *hostDiff) files(want, have stack.HostState) {
	for _, p := range slices.Sorted(maps.Keys(want.Files)) {
		if c, differs := compareFile(p, want, have); differs {
			d.add(c)
		}
	}
	superseded := map[string]bool{}
	for _, v := range have.Facts.Superseded {
		for p := range v.Files {
			superseded[p] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(have.Owned)) {
		h, there := have.Files[p]
		if _, wanted := want.Files[p]; there && !wanted && !superseded[p] {
			kind := FileChange
			if strings.HasPrefix(p, stack.ProgramDir) {
				kind = ProgramChange
			}
			d.add(Change{Kind: kind, Name: p, Action: Delete, From: h.Digest, Cause: Wanted, Reason: "no longer wanted"})
		}
	}
}

// versions removes versions of programs that nothing uses and that are more than are kept.
func (d *hostDiff) versions(want, have stack.HostState) {
	for _, v := range stack.Excess(have.Facts.Superseded, want.KeepVersions) {
		d.add(Change{
			Kind: VersionChange, Name: v.Dir, Action: Delete, Cause: Wanted, Frees: v.Bytes,
			Reason: fmt.Sprintf("an old version that nothing uses: spec.bundle.keepVersions is %d", want.KeepVersions),
		})
	}
}

// compareFile returns the change of a wanted file, and whether there is one.
func compareFile(p string, want, have stack.HostState) (Change, bool) {
	w := want.Files[p]
	h, there := have.Files[p]
	recorded, owned := have.Owned[p]
	c := Change{
		Kind: fileKind(w), Name: p, Action: Update, From: h.Digest, To: w.Digest,
		Mode: fmt.Sprintf("%04o", w.Mode.Perm()), Secret: w.Secret, Cause: Drift,
	}
	switch {
	case !there:
		c.Action, c.Reason = Create, "removed on the host"
		if !owned || p == stack.InitializedFile { // listed with the others, but written only when the cluster is up
			c.Cause, c.Reason = Wanted, "missing"
		}
	case h.Mode.Type() != w.Mode.Type():
		c.Reason = "is a " + typeName(h.Mode) + ", should be a " + typeName(w.Mode)
	case h.Digest != w.Digest:
		c.Cause, c.Reason = whyContent(h, w, recorded)
	case h.Mode.Perm() != w.Mode.Perm() && w.Mode.Type() != fs.ModeSymlink:
		c.Reason = fmt.Sprintf("mode is %04o, should be %s", h.Mode.Perm(), c.Mode)
	case h.Owner != w.Owner:
		c.Reason = fmt.Sprintf("owner is %s, should be %s", h.Owner, w.Owner)
	case whyProgram(w, h) != "":
		c.From, c.To, c.Reason = h.Sum, w.Sum, whyProgram(w, h)
	default:
		return Change{}, false
	}
	if w.Copied() && (h.Digest != w.Digest || !h.Mode.IsRegular()) {
		c.Copy = w.Size
	}
	return c, true
}

func fileKind(f stack.File) Kind {
	if f.Program {
		return ProgramChange
	}
	return FileChange
}

// whyContent distinguishes an edit on the host from a new desired content. The latter changes the
// record, an edit does not.
func whyContent(have, want stack.File, recorded string) (Cause, string) {
	switch recorded {
	case "", have.Digest:
		return Wanted, "desired content changed"
	case want.Digest:
		return Drift, "edited on the host" + at(have.Changed)
	}
	return Drift, "edited on the host" + at(have.Changed) + ", and its desired content changed"
}

// at returns " at TIME", or "" if the time is unknown.
func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " at " + t.Local().Format(time.DateTime)
}

func typeName(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "file"
	case mode.IsDir():
		return "directory"
	case mode.Type() == fs.ModeSymlink:
		return "link"
	}
	return "special file"
}

func (d *hostDiff) units(want, have stack.HostState) {
	for _, name := range slices.Sorted(maps.Keys(want.Units)) {
		if c, differs := compareUnit(name, want, have); differs {
			d.add(c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Units)) {
		_, wanted := want.Units[name]
		if _, owned := have.Owned[stack.UnitDir+name]; owned && !wanted {
			d.add(Change{Kind: UnitChange, Name: name, Action: Delete, From: have.Units[name].Inputs, Cause: Wanted, Reason: "no longer wanted"})
		}
	}
}

// compareUnit returns the change of a wanted unit, and whether there is one.
func compareUnit(name string, want, have stack.HostState) (Change, bool) {
	w := want.Units[name]
	h, ok := have.Units[name]
	_, owned := have.Owned[stack.UnitDir+name]
	c := Change{Kind: UnitChange, Name: name, Action: Update, From: h.Inputs, To: w.Inputs, Cause: Drift}
	switch {
	case !ok:
		c.Action, c.Reason = Create, "removed on the host"
		if !owned {
			c.Cause, c.Reason = Wanted, "missing"
		}
	case strings.HasPrefix(h.State, "activating/"):
		c.Action, c.Cause, c.Reason = Await, Wanted, "is "+h.State
		switch {
		case startsWrong(want, have, name):
			c.Action = Restart
		case !h.Enabled:
			c.Action, c.Cause, c.Reason = Update, Drift, "is "+h.State+", and is not enabled"
		}
	case !h.Active:
		c.Reason = "is " + h.State + since(h.Changed)
	case h.Inputs != w.Inputs:
		c.Action, c.Cause, c.Reason = Restart, Wanted, "was started with an earlier configuration"
	case foreignProgram(w, want.Files, have.Files) != "":
		c.Action, c.Reason = Restart, "may run "+foreignProgram(w, want.Files, have.Files)+", whose content differs from the bundle's"
	case h.Replaced:
		c.Action, c.Reason = Restart, "runs a program whose file was replaced since it started"
	case misread(w, h, want.Files, have) != "":
		c.Action, c.Reason = Restart, "was started after "+misread(w, h, want.Files, have)+" had been edited"
	case w.MaxAge > 0 && h.Running > w.MaxAge:
		c.Action, c.Cause = Restart, Wanted
		c.Reason = "has run since " + h.Changed.Local().Format(time.DateOnly) +
			": the certificate that it uses for connections to itself may expire a year after its start"
	case !h.Enabled:
		c.Reason = "is not enabled"
	default:
		return Change{}, false
	}
	return c, true
}

// startsWrong reports whether a unit that is only starting does so with other inputs, or with an
// outdated unit file. A process that does not exist yet has no inputs to compare; it will have
// those of its unit file.
func startsWrong(want, have stack.HostState, name string) bool {
	h := have.Units[name]
	if h.Inputs != "" && h.Inputs != want.Units[name].Inputs {
		return true
	}
	f, there := have.Files[stack.UnitDir+name]
	return h.Unread || there && f.Digest != want.Files[stack.UnitDir+name].Digest
}

// settleTime is how long a kubelet may take to register its node.
const settleTime = time.Minute

// register restarts a kubelet whose node was deleted in the API: a kubelet registers only once,
// when it starts.
func (d *hostDiff) register(want, have map[string]stack.Unit) {
	other := slices.ContainsFunc(d.changes, func(c Change) bool { return c.Kind == UnitChange && c.Name == stack.KubeletService })
	if h := have[stack.KubeletService]; h.Running > settleTime && !other {
		d.add(Change{
			Kind: UnitChange, Name: stack.KubeletService, Action: Restart, From: h.Inputs, To: want[stack.KubeletService].Inputs, Cause: Drift,
			Reason: "runs, and its node was deleted in the API: it registers again when it starts",
		})
	}
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.Local().Format(time.DateTime)
}

// misread returns a file that a running unit may have read with unwanted content: one that was
// edited before the unit was started. The unit's inputs do not show that, since they are what
// slipway told it. A file that slipway wrote itself does not count as edited.
func misread(w, h stack.Unit, want map[string]stack.File, have stack.HostState) string {
	for _, p := range w.Reads {
		f, there := have.Files[p]
		if there && f.Digest != want[p].Digest && f.Digest != have.Owned[p] && !f.Changed.IsZero() && !h.Changed.Before(f.Changed) {
			return p
		}
	}
	return ""
}

// sysctls compares only keys that the host has: a key that it lacks belongs to a module that it
// does not need.
func (d *hostDiff) sysctls(want, have map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if h, ok := have[key]; ok && h != want[key] {
			d.add(Change{
				Kind: SysctlChange, Name: key, Action: Update, From: h, To: want[key], Cause: Drift,
				Reason: fmt.Sprintf("is %s, should be %s", h, want[key]),
			})
		}
	}
}

// modules compares only modules that the host could load: built-in and missing modules are not in
// have.
func (d *hostDiff) modules(want, have map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if loaded, ok := have[name]; ok && !loaded {
			d.add(Change{Kind: ModuleChange, Name: name, Action: Create, Cause: Drift, Reason: "is not loaded"})
		}
	}
}

func (d *hostDiff) images(want map[string]bool, have stack.HostState) {
	c := Change{Kind: ImageChange, Action: Create, Cause: Drift, Reason: "the container runtime does not have it"}
	switch {
	case strings.HasPrefix(have.Units[stack.ImagesService].State, "activating/"):
		c.Action, c.Cause, c.Reason = Await, Wanted, "is being imported"
	case have.Images == nil:
		c.Cause, c.Reason = Wanted, "the container runtime does not run yet"
	}
	for _, ref := range slices.Sorted(maps.Keys(want)) {
		if !have.Images[ref] {
			c.Name = ref
			d.add(c)
		}
	}
}

func (d *hostDiff) node(want kube.Node, nodes map[string]kube.Node) {
	have, ok := nodes[d.host]
	c := Change{Kind: NodeChange, Name: d.host, Action: Update, From: have.Version, To: want.Version, Cause: Drift}
	switch {
	case !ok:
		c.Action, c.Cause, c.Reason = Create, Wanted, "is not registered"
		d.add(c)
	case !have.Fits(want):
		c.Reason = have.Condition
		d.add(c)
	case have.Version != want.Version:
		c.Cause, c.Reason = Wanted, fmt.Sprintf("its kubelet is %s, should be %s", have.Version, want.Version)
		d.add(c)
	}
	d.settings(LabelChange, want.Labels, have.Labels, have.RecordedLabels)
	for _, key := range want.Absent {
		_, recorded := have.RecordedLabels[key]
		if h, there := have.Labels[key]; there && !recorded {
			d.add(Change{Kind: LabelChange, Name: key, Action: Delete, From: h, Cause: Drift, Reason: "added in the API"})
		}
	}
	d.settings(TaintChange, want.Taints, have.Taints, have.RecordedTaints)
}

// settings compares labels or taints. Those that slipway never set belong to others, and are kept.
func (d *hostDiff) settings(kind Kind, want, have, recorded map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		h, ok := have[key]
		if ok && h == want[key] {
			continue
		}
		c := Change{Kind: kind, Name: key, Action: Create, From: h, To: want[key], Cause: Wanted, Reason: "missing"}
		if last, given := recorded[key]; given && last == want[key] {
			c.Cause, c.Reason = Drift, "removed in the API"
		}
		if ok {
			c.Action, c.Reason = Update, fmt.Sprintf("is %q, should be %q", h, want[key])
		}
		d.add(c)
	}
	for _, key := range slices.Sorted(maps.Keys(recorded)) {
		h, there := have[key]
		if _, wanted := want[key]; there && !wanted {
			d.add(Change{Kind: kind, Name: key, Action: Delete, From: h, Cause: Wanted, Reason: "no longer wanted"})
		}
	}
}

func (d *hostDiff) members(want, have map[string]stack.Member) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w := want[name]
		h, ok := have[name]
		c := Change{Host: name, Kind: MemberChange, Name: name, Action: Update, From: h.PeerURL, To: w.PeerURL, Cause: Drift}
		switch {
		case !ok:
			c.Action, c.Reason = Create, "is not a member of etcd"
		case h.PeerURL != w.PeerURL:
			c.Reason = fmt.Sprintf("its peer URL is %s, should be %s", h.PeerURL, w.PeerURL)
		case !h.Healthy:
			c.Reason = "is not healthy: " + h.Problem
		default:
			continue
		}
		d.add(c)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, wanted := want[name]; !wanted {
			d.add(Change{Kind: MemberChange, Name: name, Action: Delete, From: have[name].PeerURL, Cause: Wanted, Reason: "is not in the spec"})
		}
	}
}
