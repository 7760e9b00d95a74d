package local

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// capabilities are Linux's, by number: include/uapi/linux/capability.h.
var capabilities = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
	"PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// newNames is the first capability whose name Docker 20.10 (API 1.41) does not know yet.
const newNames = 38

// known is the number of capabilities, from 0, that a daemon of this API version can name.
func known(apiVersion string) int {
	major, minor, _ := strings.Cut(apiVersion, ".")
	if n, err := strconv.Atoi(minor); major == "1" && err == nil && n < 42 {
		return newNames
	}
	return len(capabilities)
}

// capAdd returns the capabilities of a bounding set to request; nil if all known ones are in it,
// which means --privileged.
func capAdd(bounding uint64, known int) []string {
	var names []string
	for i, name := range capabilities[:known] {
		if bounding&(1<<i) != 0 {
			names = append(names, "CAP_"+name)
		}
	}
	if len(names) == known {
		return nil
	}
	return names
}

// boundingSet reads CapBnd from a /proc/PID/status.
func boundingSet(status []byte) (uint64, error) {
	for s := bufio.NewScanner(bytes.NewReader(status)); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "CapBnd:"); ok {
			return strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		}
	}
	return 0, fmt.Errorf("no CapBnd line in %d bytes", len(status))
}

// daemonCaps returns the capabilities that machines should request, from the dockerd process on
// this computer; nil means --privileged. Docker Desktop's daemon is not visible, but has every
// capability in its virtual machine.
func (p *Local) daemonCaps() []string {
	comms, _ := filepath.Glob(filepath.Join(p.proc, "[0-9]*", "comm"))
	for _, comm := range comms {
		if b, err := os.ReadFile(comm); err == nil && strings.TrimSpace(string(b)) == "dockerd" { //nolint:gosec // under /proc
			return capsOf(filepath.Join(filepath.Dir(comm), "status"), p.api)
		}
	}
	return nil
}

// ownCaps is the same for a daemon that refused --privileged and cannot be seen: what this process
// may have, it may.
func (p *Local) ownCaps() []string { return capsOf("/proc/self/status", p.api) }

// capsOf returns the capabilities to request from the bounding set in a status file; nil if it is
// full or cannot be read.
func capsOf(status, apiVersion string) []string {
	b, err := os.ReadFile(status) //nolint:gosec // under /proc
	if err != nil {
		return nil
	}
	set, err := boundingSet(b)
	if err != nil {
		return nil
	}
	return capAdd(set, known(apiVersion))
}

// capsRefused reports whether a container could not be started because the daemon lacks a
// capability, from runc's message.
func capsRefused(err error) bool { return strings.Contains(err.Error(), "unable to apply caps") }
