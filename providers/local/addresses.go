package local

import (
	"fmt"
	"hash/fnv"
	"iter"
	"net/netip"
)

// DefaultSubnet is the default subnet of machines.
const DefaultSubnet = "10.89.0.0/24"

// Places in the subnet, counted from its base. Machines come after the balancer, and only when that
// room is used up between the gateway and the balancer.
const (
	gatewayOffset = 1
	machineOffset = 11
)

// balancerOffset is before the machines, or after the gateway in a subnet that ends earlier.
func balancerOffset(subnet netip.Prefix) int {
	if _, err := nth(subnet, machineOffset-1); err != nil {
		return gatewayOffset + 1
	}
	return machineOffset - 1
}

// machineOffsets are the places of machines, in the order in which they are given out.
func machineOffsets(subnet netip.Prefix) iter.Seq[int] {
	return func(yield func(int) bool) {
		for n := machineOffset; ; n++ {
			if _, err := nth(subnet, n); err != nil {
				break
			}
			if !yield(n) {
				return
			}
		}
		for n := gatewayOffset + 1; n < machineOffset; n++ {
			if n != balancerOffset(subnet) && !yield(n) {
				return
			}
		}
	}
}

// Ports on 127.0.0.1. SSH stays below the range from which Linux and macOS take the source ports of
// outgoing connections (32768 and 49152 and up), so that a stopped machine finds its port free
// again.
const (
	firstAPIPort = 16443
	lastAPIPort  = 16999
	firstSSHPort = 20000
	lastSSHPort  = 31999
)

// nth returns the address at offset n from the subnet's base, or an error if the subnet is too
// small.
func nth(subnet netip.Prefix, n int) (netip.Addr, error) {
	a := subnet.Masked().Addr()
	for range n {
		a = a.Next()
	}
	// The last address is the broadcast address.
	if !subnet.Contains(a) || !subnet.Contains(a.Next()) {
		return netip.Addr{}, fmt.Errorf("machine network %s has no address number %d; set spec.provider.local.subnet to "+
			"a larger one, such as %s", subnet, n, DefaultSubnet)
	}
	return a, nil
}

// assignAddresses returns an address for every name: those in have keep theirs, the others get the
// lowest free address, in the order of names.
func assignAddresses(subnet netip.Prefix, names []string, have map[string]netip.Addr) (map[string]netip.Addr, error) {
	taken := map[netip.Addr]bool{}
	for _, a := range have {
		taken[a] = true
	}
	out := make(map[string]netip.Addr, len(names))
	next, stop := iter.Pull(machineOffsets(subnet))
	defer stop()
	for _, name := range names {
		if a, ok := have[name]; ok {
			out[name] = a
			continue
		}
		for out[name] = (netip.Addr{}); !out[name].IsValid(); {
			n, ok := next()
			if !ok {
				return nil, fmt.Errorf("machine network %s has no room for %s; set spec.provider.local.subnet to a larger "+
					"one, such as %s, and recreate the cluster", subnet, name, DefaultSubnet)
			}
			if a, err := nth(subnet, n); err == nil && !taken[a] {
				out[name] = a
			}
		}
	}
	return out, nil
}

// choosePort looks for a free port between first and last, beginning at start; what it is for is
// for the error.
func choosePort(what string, start, first, last int, free func(port int) bool) (int, error) {
	n := last - first + 1
	for i := range n {
		if port := first + (start-first+i)%n; free(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port for %s is free on 127.0.0.1 between %d and %d; end what uses them", what, first, last)
}

// portStart returns a port between first and last that depends on name: a recreated machine gets
// its old port, and clusters rarely collide.
func portStart(name string, first, last int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return first + int(h.Sum32()%uint32(last-first+1)) //nolint:gosec // ports are small and positive
}
