package diagnose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
)

const (
	// skew is the difference of clocks that is reported: etcd warns from 1 s on, and certificates
	// are backdated by 5 min (certs.Backdate). Less than a few seconds cannot be told from a slow
	// answer.
	skew = 5 * time.Second
	// fullPart of a disk is free if it counts as full, but at most fullBytes.
	fullPart  = 100
	fullBytes = 64 << 20
	// littleMemory is from when on the kubelet evicts pods by default, in kB.
	littleMemory = 100 << 10
)

// remedies of hops. What SSH's errors are mended with is said by hints of the command line too.
var hopRemedies = map[Hop]string{
	HopMachine: "start the machine, or make it again",
	HopName:    "correct the machine's name in the spec, or your resolver",
	HopBastion: "look whether the bastion answers, and lets this user in",
	HopTCP:     "check that the machine runs, that sshd listens, and that no firewall drops the connection",
	HopHostKey: "compare the key with the machine's own on its console; if it is right, put it into known_hosts",
	HopAuth:    "check the user, and that the machine's authorized_keys has this key (`ssh-add -l` lists an agent's keys)",
	HopSudo:    "allow this user sudo on the machine",
	HopShell:   "look at the machine's console: it answers, and runs nothing",
}

func findMachines(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.Hosts {
		if h.Reached() {
			continue
		}
		f := Finding{
			Host: h.Name, What: "cannot be reached: the way ends at the hop " + string(h.Hop), Evidence: shortened(h.Problem, 2*maxLine),
			More: e.slipway("status"), Remedy: Remedy{Text: hopRemedies[h.Hop]},
		}
		if h.Hop == HopMachine {
			f.What, f.Remedy = "its machine does not run", e.apply("start it, or make it again:")
		}
		found = append(found, f)
	}
	return found
}

// findClocks compares clocks with each other: this computer's may be the one that is wrong. Most
// hosts are right.
func findClocks(e *Evidence) []Finding {
	hosts := e.reached()
	if len(hosts) == 0 {
		return nil
	}
	offsets := make([]time.Duration, len(hosts))
	for i, h := range hosts {
		offsets[i] = h.Offset
	}
	slices.Sort(offsets)
	middle := offsets[(len(offsets)-1)/2]
	var found []Finding
	for _, h := range hosts {
		off := h.Offset - middle
		if off.Abs() < skew {
			continue
		}
		way := "ahead of"
		if off < 0 {
			way = "behind"
		}
		found = append(found, Finding{
			Host: h.Name, Object: "clock", What: fmt.Sprintf("its clock is %s %s those of the other machines", off.Abs().Round(time.Second), way),
			Evidence: "certificates count by it, and etcd warns from 1s on", More: e.ssh(h.Name, "timedatectl"),
			Remedy: Remedy{Text: "let it synchronize (NTP):", Commands: []string{e.ssh(h.Name, "timedatectl set-ntp true")}},
		})
	}
	if len(found) == 0 && middle.Abs() > certs.Backdate*4/5 {
		found = append(found, Finding{
			Object: "clock", What: fmt.Sprintf("this computer's clock differs by %s from those of all machines", middle.Abs().Round(time.Second)),
			Evidence: "certificates that it issues count as not valid yet, or expire early", More: "date --utc",
			Remedy:     Remedy{Text: "synchronize this computer's clock"},
			everywhere: true,
		})
	}
	return found
}

func findDisks(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		for _, d := range h.Disks {
			what, evidence := "", ""
			switch {
			case d.Size > 0 && d.Free < min(d.Size/fullPart, fullBytes):
				what = "the disk of " + d.Target + " is full"
				evidence = fmt.Sprintf("%s of %s are free (%s)", bytesText(d.Free), bytesText(d.Size), d.Type)
			case d.Inodes > 0 && d.FreeInodes < d.Inodes/fullPart:
				what = "the disk of " + d.Target + " has no inodes left"
				evidence = fmt.Sprintf("%d of %d are free (%s)", d.FreeInodes, d.Inodes, d.Type)
			default:
				continue
			}
			found = append(found, Finding{
				Host: h.Name, Object: d.Target, What: what, Evidence: evidence,
				More:   e.ssh(h.Name, "du -xah "+host.Quote(d.Target)+" 2>/dev/null | sort -h | tail -n 20"),
				Remedy: Remedy{Text: "remove what takes the space, or enlarge the disk"},
			})
		}
	}
	return found
}

// bytesText is "12.3 MB".
func bytesText(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	value, i := float64(n), 0
	for ; value >= 1000 && i < len(units)-1; i++ {
		value /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}

func (h *Host) number(fact string) (int64, bool) {
	n, err := strconv.ParseInt(h.Facts[fact], 10, 64)
	return n, err == nil
}

func findMemory(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		free, known := h.number("memavailable")
		total, _ := h.number("memtotal")
		if !known || free >= littleMemory || total <= 2*littleMemory {
			continue
		}
		found = append(found, Finding{
			Host: h.Name, What: "it has no memory left", Evidence: fmt.Sprintf("%s of %s are available", bytesText(free<<10), bytesText(total<<10)),
			More:   e.ssh(h.Name, "ps -eo rss,pid,comm --sort=-rss | head -n 15"),
			Remedy: Remedy{Text: "stop what takes the memory, limit pods, or give the machine more"},
		})
	}
	return found
}

func findPIDs(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		most, known := h.number("pidmax")
		threads, has := h.number("threads")
		if !known || !has || most == 0 || threads*100 < most*95 {
			continue
		}
		found = append(found, Finding{
			Host: h.Name, What: "it can start hardly any further process", Evidence: fmt.Sprintf("%d of %d (kernel.pid_max)", threads, most),
			More: e.ssh(h.Name, "ps -eo nlwp,pid,comm --sort=-nlwp | head -n 15"), Remedy: Remedy{Text: "stop what makes so many threads, or raise kernel.pid_max"},
		})
	}
	return found
}

func findSettings(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		for _, key := range []string{"net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"} {
			if h.Facts[key] != "0" {
				continue
			}
			found = append(found, Finding{
				Host: h.Name, Object: key, What: "the kernel setting " + key + " is off: packets of pods are not forwarded",
				More: e.ssh(h.Name, "grep -rn "+key+" /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d"), Remedy: e.onNode(h.Name, "sysctl -w "+key+"=1"),
			})
		}
	}
	return found
}

func findCNIConfig(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		if !h.Complete || slices.ContainsFunc(h.CNI.Files, isCNIConfig) {
			continue
		}
		found = append(found, Finding{
			Host: h.Name, Object: "/etc/cni/net.d", What: "there is no configuration of a pod network in /etc/cni/net.d",
			Evidence: "containerd gives pods no network, and the node does not become Ready", More: e.ssh(h.Name, "ls -l /etc/cni/net.d"),
			Remedy: e.apply("restore it; if you install a network plugin yourself, look at its pods:"),
		})
	}
	return found
}

// isCNIConfig reports whether the container runtime reads a file (libcni, ConfFiles).
func isCNIConfig(path string) bool {
	return strings.HasSuffix(path, ".conflist") || strings.HasSuffix(path, ".conf") || strings.HasSuffix(path, ".json")
}

func findCNIPlugins(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		if !h.Complete {
			continue
		}
		var missing []string
		for _, t := range h.CNI.Types {
			if !slices.Contains(h.CNI.Plugins, t) {
				missing = append(missing, t)
			}
		}
		if len(missing) == 0 {
			continue
		}
		found = append(found, Finding{
			Host: h.Name, Object: "CNI", What: "programs of the pod network are missing: " + strings.Join(missing, ", "),
			Evidence: "a file in /etc/cni/net.d names them, and none of containerd's directories has them",
			More:     e.ssh(h.Name, "grep -r bin_dirs /etc/containerd/config.toml"), Remedy: e.apply("restore them:"),
		})
	}
	return found
}

func findKubeconfigs(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		for _, s := range h.Servers {
			found = append(found, Finding{
				Host: h.Name, Object: s.Path, What: fmt.Sprintf("%s leads to %s, not to %s", s.Path, s.Is, s.Want),
				More: e.ssh(h.Name, "grep server: "+s.Path), Remedy: e.apply("restore it:"),
			})
		}
	}
	return found
}

// findNotInstalled is about a cluster of which nothing is on any machine that was reached.
func findNotInstalled(e *Evidence) []Finding {
	var bare []string
	for _, h := range e.Hosts {
		if h.Reached() && slices.ContainsFunc(h.Units, func(u Unit) bool { return u.Load != "not-found" }) {
			return nil
		}
		if h.Reached() {
			bare = append(bare, h.Name)
		}
	}
	if e.API.Asked || len(bare) == 0 {
		return nil
	}
	return []Finding{{
		What: "the cluster has not been installed", Evidence: "there is no unit of it on " + some(bare),
		More: e.slipway("plan"), Remedy: e.apply("install it:"), everywhere: true,
	}}
}
