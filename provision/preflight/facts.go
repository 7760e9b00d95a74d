package preflight

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/provision/distro"
)

// Facts are what a host reports about itself.
type Facts struct {
	OS                                distro.Release
	Kernel, Machine, Hostname         string
	Container                         string // the kind of container that it is; "none" or empty for a computer
	Systemd                           int    // its version; 0 if it does not run
	FailedUnits                       []string
	SocketActivate, Bash              bool
	Nft                               string // its version, "1.0.6"
	MissingTools, MissingModules      []string
	CgroupV2                          bool
	Controllers, Swaps                []string
	MemoryKB                          int64
	CPUs                              int
	NoKmsg, SharedRoot                bool
	MachineID, Product                string
	Sysctls                           map[string]string
	SELinuxEnforcing, NoProfileParser bool
	Disks                             map[string]Disk // by directory
	Syncs                             []time.Duration // how long writes to the disk took
	Addresses                         []string
	Links                             map[string]Link // by name
	Interface                         string          // that has the node's address
	Listeners                         []Listener
	Owned, Leftovers                  []string
	Processes                         []Process
	Chains                            []string // "iptables-save KUBE-SERVICES", or "nft kube-proxy"
	Firewalls                         []string
	InputChains                       []string // of nft, "inet filter input"
	Nameservers, Upstreams            []string
	NoOwnName                         bool
	// Clock is the host's time, at a moment between Sent and Heard by this computer's clock.
	Clock, Sent, Heard time.Time
}

// Disk is the file system of a directory.
type Disk struct {
	Free, Size             int64 // bytes
	Target, Device, Number string
	ReadOnly, NoExec       bool
}

// Link is a network interface.
type Link struct {
	MTU int
	MAC string
}

// Listener is a process on a port, or the kernel (PID "").
type Listener struct {
	Protocol           string // tcp or udp
	Port               int
	PID, Unit, Command string
}

// Process is one of another installer's.
type Process struct{ PID, Command, Unit string }

// Member reports whether slipway has installed anything on the host.
func (f Facts) Member() bool { return len(f.Owned) > 0 }

// ParseFacts parses the output of preflight.sh. Lines that it does not know, or that are damaged, are
// skipped: then a check has no fact, and finds nothing. Output without its end is an error.
func ParseFacts(text string) (Facts, error) {
	f := Facts{Sysctls: map[string]string{}, Disks: map[string]Disk{}, Links: map[string]Link{}}
	var release strings.Builder
	ended := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if ended = line == "[end]"; ended {
			break
		}
		key, value, _ := strings.Cut(line, "=")
		if key == "os" {
			release.WriteString(value + "\n")
			continue
		}
		if value == "" {
			continue
		}
		if !f.word(key, value) && !f.list(key, value) {
			f.record(key, strings.Fields(value))
		}
	}
	if !ended {
		return Facts{}, fmt.Errorf("the host's report is incomplete after %d bytes", len(text))
	}
	f.OS = distro.Parse(release.String())
	return f, nil
}

// word takes a fact of one word, or a few; it reports whether it knows the key.
func (f *Facts) word(key, value string) bool {
	words := map[string]*string{
		"kernel": &f.Kernel, "machine": &f.Machine, "hostname": &f.Hostname, "container": &f.Container,
		"machineid": &f.MachineID, "product": &f.Product, "interface": &f.Interface,
	}
	flags := map[string]*bool{
		"activate": &f.SocketActivate, "bash": &f.Bash, "nokmsg": &f.NoKmsg, "noparser": &f.NoProfileParser, "noname": &f.NoOwnName,
	}
	if p := words[key]; p != nil {
		*p = value
		return true
	}
	if p := flags[key]; p != nil {
		*p = true
		return true
	}
	switch key {
	case "now":
		f.Clock = parseTime(value)
	case "systemd":
		f.Systemd, _ = strconv.Atoi(value)
	case "nft":
		if _, version, ok := strings.Cut(value, "v"); ok {
			f.Nft, _, _ = strings.Cut(version, " ")
		}
	case "cgroup":
		f.CgroupV2 = value == "cgroup2fs"
	case "memory":
		f.MemoryKB, _ = strconv.ParseInt(value, 10, 64)
	case "cpus":
		f.CPUs, _ = strconv.Atoi(value)
	case "propagation":
		f.SharedRoot = value == "shared"
	case "selinux":
		f.SELinuxEnforcing = value == "1"
	default:
		return false
	}
	return true
}

// mostValues is how many different values of a kind are kept.
const mostValues = 10_000

// list takes a fact of which there may be several.
func (f *Facts) list(key, value string) bool {
	lists := map[string]*[]string{
		"failed": &f.FailedUnits, "missing": &f.MissingTools, "nomodule": &f.MissingModules, "controller": &f.Controllers, "swap": &f.Swaps,
		"address": &f.Addresses, "owned": &f.Owned, "left": &f.Leftovers, "chain": &f.Chains, "firewall": &f.Firewalls, "input": &f.InputChains,
		"nameserver": &f.Nameservers, "upstream": &f.Upstreams,
	}
	p := lists[key]
	if p == nil {
		return false
	}
	if len(*p) < mostValues && !slices.Contains(*p, value) {
		*p = append(*p, value)
	}
	return true
}

// record takes a fact of several words.
func (f *Facts) record(key string, words []string) {
	word := func(i int) string {
		if i < len(words) && words[i] != "-" {
			return words[i]
		}
		return ""
	}
	switch key {
	case "sync":
		if seconds, err := strconv.ParseFloat(word(0), 64); err == nil && seconds >= 0 && seconds < 3600 {
			f.Syncs = append(f.Syncs, time.Duration(seconds*float64(time.Second)))
		}
	case "sysctl":
		f.Sysctls[word(0)] = word(1)
	case "link":
		mtu, _ := strconv.Atoi(word(1))
		f.Links[word(0)] = Link{MTU: mtu, MAC: word(2)}
	case "disk":
		if len(words) != 7 {
			return
		}
		free, errFree := strconv.ParseInt(words[2], 10, 64)
		size, errSize := strconv.ParseInt(words[3], 10, 64)
		if errFree != nil || errSize != nil {
			return
		}
		f.Disks[words[0]] = Disk{
			Free: free, Size: size, Device: words[1], Target: words[4], Number: words[6],
			ReadOnly: strings.HasPrefix(words[5], "ro"), NoExec: strings.Contains(words[5], "noexec"),
		}
	case "listens":
		f.listener(word)
	case "process":
		f.Processes = append(f.Processes, Process{PID: word(0), Command: word(1), Unit: word(2)})
	}
}

// listener takes "protocol address port pid unit command"; address and port are hexadecimal.
func (f *Facts) listener(word func(int) string) {
	port, err := strconv.ParseUint(word(2), 16, 16)
	if err != nil {
		return
	}
	l := Listener{Protocol: strings.TrimSuffix(word(0), "6"), Port: int(port), PID: word(3), Unit: word(4), Command: word(5)}
	if len(f.Listeners) < mostValues && !slices.Contains(f.Listeners, l) {
		f.Listeners = append(f.Listeners, l)
	}
}

// parseTime parses seconds since 1970 with a fraction; zero if it is no time.
func parseTime(text string) time.Time {
	whole, part, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds <= 0 {
		return time.Time{}
	}
	nanos, _ := strconv.ParseInt(part, 10, 64)
	return time.Unix(seconds, nanos)
}
