package observe

import (
	"encoding/hex"
	"strconv"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// Bits of capabilities, linux/capability.h.
const (
	capDACReadSearch = 2
	capSysResource   = 24
)

func (o *observation) parseFacts() stack.Facts {
	free, _ := strconv.ParseInt(o.facts["free"], 10, 64) // missing without df: no fact, no check
	size, _ := strconv.ParseInt(o.facts["disk"], 10, 64)
	uid, generation, _ := strings.Cut(o.facts["cluster"], " ")
	arch, _ := stack.ArchitectureOf(o.facts["machine"])
	return stack.Facts{
		OS: o.facts["os"], Kernel: o.facts["kernel"], Arch: arch,
		CgroupV2:          o.facts["cgroup"] == "cgroup2fs",
		SysResource:       hasCapability(o.facts["capbnd"], capSysResource),
		ReadSearch:        hasCapability(o.facts["capbnd"], capDACReadSearch),
		NoSysusers:        o.facts["nosysusers"] == "1",
		ConntrackWritable: o.facts["conntrack"] == "1",
		ResolvConf:        o.facts["resolv"],
		EtcdData:          o.facts["etcddata"] == "whole",
		EtcdDamaged:       o.facts["etcddata"] == "damaged",
		Initialized:       o.facts["initialized"] == "1",
		ClusterUID:        uid,
		Generation:        generation,
		PodSubnet:         o.facts["pods"],
		ServiceSubnet:     o.facts["services"],
		DNSDomain:         o.facts["domain"],
		Node:              o.facts["node"],
		Systemd:           o.facts["systemd"] == "1",
		FreeBytes:         free,
		DiskBytes:         size,
		Clock:             stack.Clock{Read: unixTime(o.facts["now"])},
	}
}

// hasCapability tests a bit of a mask in the format of /proc/PID/status.
func hasCapability(mask string, bit uint) bool {
	raw, err := hex.DecodeString(mask)
	if err != nil || len(raw) != 8 {
		return false
	}
	return raw[7-bit/8]>>(bit%8)&1 == 1
}
