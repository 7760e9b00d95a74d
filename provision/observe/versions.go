package observe

import (
	"strconv"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// old is what a host reports of versions that it was not asked for.
type old struct {
	sizes map[string]int64 // by path
	users []oldUser
}

// oldUser is what uses a version: a process, or a unit file ("-").
type oldUser struct{ dir, pid, who string }

// line parses "size", bytes and path, or "used", directory, process ID and description, separated by
// tabs.
func (o *old) line(line string) {
	words := strings.SplitN(line, "\t", 4)
	switch {
	case len(words) == 3 && words[0] == "size":
		if o.sizes == nil {
			o.sizes = map[string]int64{}
		}
		o.sizes[words[2]], _ = strconv.ParseInt(words[1], 10, 64) // of find
	case len(words) == 4 && words[0] == "used":
		o.users = append(o.users, oldUser{words[1], words[2], words[3]})
	}
}

// superseded sets which versions the host has besides those that it is asked for.
func (o *observation) superseded(desired stack.HostState) {
	main := map[string]bool{}
	for _, u := range o.units {
		main[u["MainPID"]] = true
	}
	versions := stack.Superseded(desired.Files, o.state)
	for i := range versions {
		v := &versions[i]
		for p := range v.Files {
			v.Bytes += o.old.sizes[p]
		}
		for _, u := range o.old.users {
			if u.dir == v.Dir && !main[u.pid] {
				v.Users = append(v.Users, u.who)
			}
		}
	}
	o.state.Facts.Superseded = versions
}
