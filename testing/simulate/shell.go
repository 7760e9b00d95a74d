package simulate

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/balancer"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

// steps are the commands of a script that slipway sends. One that is not known is found to be wrong. mu is held.
func (h *Host) steps(script string) []step {
	says := func(name string, what func() string) []step {
		return []step{{name, func(j *job) (bool, error) {
			j.out = what()
			return false, nil
		}}}
	}
	nothing := func() string { return "" }
	switch {
	case strings.Contains(script, "echo '[facts]'"):
		return says("observe", func() string { return h.report(script) })
	case strings.HasPrefix(script, "until "):
		return []step{{"await units", func(*job) (bool, error) { return !h.up(script), nil }}}
	case strings.HasPrefix(script, "systemctl show -p ActiveState -p SubState "+stack.EtcdService):
		return says("show etcd", h.etcdState)
	case strings.Contains(script, "journalctl -q") && !strings.HasPrefix(script, "set -e"):
		return says("journal", nothing)
	case strings.HasPrefix(script, "for f in /var/lib/kubelet/pods/"), strings.HasPrefix(script, "CLIENTS="):
		return says("look", nothing)
	case strings.HasPrefix(script, "# remove old versions\n"):
		return h.removals(script)
	case strings.Contains(script, "| systemd-sysusers -\n"):
		return []step{{"make accounts", func(j *job) (bool, error) {
			h.accounts[stack.EtcdAccount] = true
			j.changes("makes accounts")
			return false, nil
		}}}
	}
	var steps []step
	for line := range strings.Lines(script) {
		if s, ok := h.line(strings.TrimSuffix(line, "\n")); ok {
			steps = append(steps, s...)
			continue
		}
		h.c.violate("%s was sent a script that the simulation does not know: %s", h.name, line)
	}
	return steps
}

// removals are those of old versions: directories, followed by their files. Nothing else than units uses them here.
func (h *Host) removals(script string) (steps []step) {
	for line := range strings.Lines(script) {
		words, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "remove '")
		if !ok {
			continue
		}
		names := strings.Split(strings.TrimSuffix(words, "'"), "' '")
		steps = append(steps, step{"remove version", func(j *job) (bool, error) {
			for _, name := range names[1:] {
				h.removesProgram(j.run, name)
				h.remove(j, name)
			}
			return false, nil
		}})
	}
	return steps
}

// line is a command of the script that makes a host as it should be.
func (h *Host) line(line string) (steps []step, known bool) {
	simple := func(name string, do func(*job)) ([]step, bool) {
		return []step{{name, func(j *job) (bool, error) {
			do(j)
			return false, nil
		}}}, true
	}
	switch {
	case line == "set -e", strings.HasPrefix(line, "find /opt/slipway/ "), strings.HasPrefix(line, "while umount "):
		return nil, true
	case strings.HasPrefix(line, "systemd-run ") && strings.Contains(line, "--unit=slipway-try-etcd"):
		return []step{{"try etcd", func(*job) (bool, error) {
			if !h.accounts[stack.EtcdAccount] || h.files[stack.PKIDir+"/etcd/server.key"] == nil {
				return false, &host.ExitError{Host: h.name, Script: "set -e", Code: 1, Stderr: "etcd cannot run as the user etcd here, and was not touched:"}
			}
			return false, nil
		}}}, true
	case strings.HasPrefix(line, "while read -r m; do case $m in"):
		return simple("load modules", func(j *job) {
			h.loadModules()
			j.changes("loads modules")
		})
	case strings.HasPrefix(line, "/usr/lib/systemd/systemd-sysctl "):
		return simple("load sysctls", func(j *job) {
			h.loadSysctls()
			j.changes("loads sysctls")
		})
	case strings.HasPrefix(line, "rm -f -- '"), strings.HasPrefix(line, "rm -rf -- '"):
		_, name, _ := strings.Cut(line, "'")
		return simple("rm", func(j *job) { h.remove(j, strings.TrimSuffix(name, "'")) })
	case strings.HasPrefix(line, "systemctl "):
		command, forgiven, _ := strings.Cut(strings.TrimPrefix(line, "systemctl "), " || ")
		return h.systemctl(strings.Fields(command), forgiven != "")
	}
	return nil, false
}

// systemctl is an order to systemd. With forgiven it may fail for units whose first attempt has failed; here none does.
func (h *Host) systemctl(words []string, forgiven bool) (steps []step, known bool) {
	block := !slices.Contains(words, "--no-block")
	words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "--") && w != "--now" })
	verb, units := words[0], words[1:]
	order := func(do func(j *job, unit string) error) {
		steps = append(steps, step{"systemctl " + verb, func(j *job) (bool, error) {
			for _, u := range units {
				if h.units[u] == nil && h.files[stack.UnitDir+u] != nil {
					h.reload() // systemd reads what it has not heard of
				}
				if h.units[u] == nil {
					return false, &host.ExitError{Host: h.name, Script: "set -e", Code: 5, Stderr: "Unit " + u + " not found."}
				}
				if err := do(j, u); err != nil {
					return false, err
				}
			}
			j.changes("systemctl %s %s", verb, strings.Join(units, " "))
			return false, nil
		}})
	}
	switch verb {
	case "daemon-reload":
		return []step{{verb, func(j *job) (bool, error) {
			h.reload()
			j.changes("systemctl daemon-reload")
			return false, nil
		}}}, true
	case "reset-failed":
		return nil, true
	case "enable":
		order(func(_ *job, u string) error { h.units[u].enabled, h.enabled[u] = true, true; return nil })
	case "disable": // --now
		units = slices.DeleteFunc(units, func(w string) bool { return w == "--now" })
		order(func(j *job, u string) error {
			h.disturbed(j.run, u)
			h.units[u].enabled, h.enabled[u] = false, false
			h.kill(u)
			return nil
		})
	case "stop":
		order(func(j *job, u string) error { h.disturbed(j.run, u); h.kill(u); return nil })
	case "start", "restart":
		order(func(j *job, u string) error {
			if verb == "start" && h.units[u].running {
				return nil
			}
			h.disturbed(j.run, u)
			h.begins(j.run, u)
			h.kill(u)
			h.launch(u)
			return nil
		})
		if block {
			steps = append(steps, step{"wait for units", func(*job) (bool, error) {
				return slices.ContainsFunc(units, func(u string) bool { return !h.works(u) }), nil
			}})
		}
	default:
		return nil, false
	}
	return steps, forgiven || verb != "start" && verb != "restart" || slices.Equal(units, []string{stack.ImagesService})
}

// up says whether what a script waits for is so: units that are active, the runtime, and what the balancer says.
func (h *Host) up(script string) bool {
	_, units, _ := strings.Cut(script, "is-active ")
	units, _, _ = strings.Cut(units, " |")
	for u := range strings.FieldsSeq(units) {
		if !h.works(u) {
			return false
		}
	}
	if !strings.Contains(script, "StatusText") {
		return true
	}
	return strings.Contains(script, host.Quote(balancer.Status(h.content(stack.BalancerFile), h.content(stack.CAFile))))
}

func (h *Host) etcdState() string {
	active, sub := "inactive", "dead"
	if u := h.units[stack.EtcdService]; u != nil && u.running {
		active, sub = "activating", "start"
		if u.active {
			active, sub = "active", "running"
		}
	}
	return fmt.Sprintf("ActiveState=%s\nSubState=%s\n", active, sub)
}

// remove is rm: of etcd's data where its directory, or one above, is named.
func (h *Host) remove(j *job, name string) {
	h.deletes(j.run, name)
	for p := range h.files {
		if p == name || strings.HasPrefix(p, name+"/") {
			delete(h.files, p)
		}
	}
	if h.etcd != "" && strings.HasPrefix("/var/lib/etcd/member/", path.Clean(name)+"/") {
		h.etcd = ""
	}
	j.changes("removes %s", name)
}
