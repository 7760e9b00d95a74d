package diagnose

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what templates.DiagnoseScript printed, taken apart. A report that was cut off has what came before.
type report struct {
	complete bool
	facts    map[string]string
	units    []map[string]string
	logs     map[string][]string // by unit
	lines    map[string][]string // of the other sections
	texts    map[string]string   // by name
}

// parseReport never fails: what cannot be read is left out.
func parseReport(text string) report {
	r := report{facts: map[string]string{}, logs: map[string][]string{}, lines: map[string][]string{}, texts: map[string]string{}}
	section, name := "", ""
	var body strings.Builder
	keep := func() {
		if section == "text" {
			r.texts[name] = body.String()
		}
		body.Reset()
	}
	for line := range strings.Lines(text) {
		line, whole := strings.CutSuffix(line, "\n")
		if !whole {
			break // half a line says something else
		}
		if head, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(head, "]") {
			keep()
			section, name, _ = strings.Cut(strings.TrimSuffix(head, "]"), " ")
			r.complete = section == "end"
			continue
		}
		if section == "text" {
			body.WriteString(strings.TrimPrefix(line, " ") + "\n")
			continue
		}
		r.line(section, name, line)
	}
	keep()
	if n := len(r.units); section == "units" && n > 0 {
		r.units = r.units[:n-1] // of the last one, only a part may be here
	}
	return r
}

func (r *report) line(section, name, line string) {
	switch section {
	case "facts":
		if key, value, ok := strings.Cut(line, "="); ok {
			r.facts[key] = value
		}
	case "units":
		key, value, ok := strings.Cut(line, "=")
		switch {
		case key == "Id":
			r.units = append(r.units, map[string]string{key: value})
		case ok && len(r.units) > 0:
			r.units[len(r.units)-1][key] = value
		}
	case "log":
		r.logs[name] = append(r.logs[name], strings.TrimPrefix(line, " "))
	default:
		if line != "" {
			r.lines[section] = append(r.lines[section], line)
		}
	}
}

// into adds the report to a host. asked is what the report was asked for.
func (r *report) into(h *Host, asked question) {
	h.Complete, h.Facts, h.ProxyRules = r.complete, r.facts, -1
	if seconds, err := strconv.ParseFloat(r.facts["uptime"], 64); err == nil {
		h.Uptime = time.Duration(seconds * float64(time.Second)).Truncate(time.Second)
	}
	now := secondsOf(r.facts["now"])
	for _, values := range r.units {
		u := unitOf(values, now)
		u.Restarts = restartsOf(r.logs[u.Name], now)
		if len(r.logs[u.Name]) > 0 && (u.Active != "active" || u.Restarts >= flapping) {
			u.Why = why(r.logs[u.Name])
		}
		h.Units = append(h.Units, u)
	}
	h.Disks, h.CNI, h.Networks = disksOf(r.lines["disks"]), cniOf(r.lines["cni"]), networksOf(r.lines["networks"])
	for _, line := range r.lines["servers"] {
		path, server, _ := strings.Cut(line, " ")
		if want := asked.servers[path]; want != "" && server != want {
			h.Servers = append(h.Servers, Server{path, withoutUser(server), want})
		}
	}
	for _, line := range r.lines["keys"] {
		sum, path, _ := strings.Cut(line, "  ")
		if want := asked.keys[path]; want != "" && sum != want {
			h.Keys = append(h.Keys, path)
		}
	}
	for _, line := range r.lines["proxy"] {
		if n, err := strconv.Atoi(strings.TrimPrefix(line, "rules=")); err == nil {
			h.ProxyRules = n
		}
	}
	h.Drops = r.lines["drops"]
}

// unitOf reads a unit as systemctl show has it.
func unitOf(values map[string]string, now time.Time) Unit {
	u := Unit{
		Name: values["Id"], Load: values["LoadState"], Active: values["ActiveState"], Sub: values["SubState"],
		File: values["UnitFileState"], Result: values["Result"], Queued: values["Job"] != "" && values["Job"] != "0",
	}
	u.Status, _ = strconv.Atoi(values["ExecMainStatus"])
	if t, err := time.Parse("Mon 2006-01-02 15:04:05 MST", values["StateChangeTimestamp"]); err == nil {
		u.Changed = t.UTC()
		if now.After(t) {
			u.For = now.Sub(t).Truncate(time.Second)
		}
	}
	return u
}

// restartsOf counts in a unit's log how often systemd restarted it within the last minute. Its own
// count, NRestarts, goes back to the first start of the unit.
func restartsOf(lines []string, now time.Time) (n int) {
	for _, line := range lines {
		at, _, _ := strings.Cut(line, " ")
		if strings.Contains(line, ": Scheduled restart job") && now.Sub(secondsOf(at)) < lately {
			n++
		}
	}
	return n
}

// disksOf reads lines of df: type, size, free, inodes, free inodes, target.
func disksOf(lines []string) []Disk {
	var disks []Disk
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		d := Disk{Type: f[0], Target: strings.Join(f[5:], " ")}
		var err error
		for i, to := range []*int64{&d.Size, &d.Free, &d.Inodes, &d.FreeInodes} {
			if f[i+1] == "-" {
				continue
			}
			if *to, err = strconv.ParseInt(f[i+1], 10, 64); err != nil {
				break
			}
		}
		if err == nil {
			disks = append(disks, d)
		}
	}
	return disks
}

func cniOf(lines []string) CNI {
	var c CNI
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "file":
			c.Files = append(c.Files, value)
		case "type":
			c.Types = append(c.Types, value)
		case "plugin":
			c.Plugins = append(c.Plugins, value)
		}
	}
	slices.Sort(c.Types)
	c.Types = slices.Compact(c.Types)
	return c
}

func networksOf(lines []string) map[string]netip.Prefix {
	networks := map[string]netip.Prefix{}
	for _, line := range lines {
		name, text, _ := strings.Cut(line, " ")
		if prefix, err := netip.ParsePrefix(text); err == nil {
			networks[name] = prefix
		}
	}
	return networks
}

// secondsOf parses seconds since 1970 with a fraction; zero if it is no time.
func secondsOf(text string) time.Time {
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds == 0 {
		return time.Time{}
	}
	nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Unix(seconds, nanos).UTC()
}

// withoutUser removes user and password from a URL.
func withoutUser(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	if _, after, has := strings.Cut(rest, "@"); has {
		rest = after
	}
	return scheme + "://" + rest
}
