package local

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"
)

func TestAssignAddresses(t *testing.T) {
	for _, tc := range []struct {
		name, subnet, nodes, have, want string
	}{
		{"first", "10.89.0.0/24", "cp-1 cp-2 w-1", "", "cp-1=10.89.0.11 cp-2=10.89.0.12 w-1=10.89.0.13"},
		{
			"kept when the control plane grows", "10.89.0.0/24", "cp-1 cp-2 w-1", "cp-1=10.89.0.11 w-1=10.89.0.12",
			"cp-1=10.89.0.11 cp-2=10.89.0.13 w-1=10.89.0.12",
		},
		{
			"a surplus machine keeps its own", "10.89.0.0/24", "cp-1 cp-2", "cp-1=10.89.0.11 old=10.89.0.12",
			"cp-1=10.89.0.11 cp-2=10.89.0.13",
		},
		{"a gap is filled", "10.89.0.0/24", "cp-1 cp-2", "cp-2=10.89.0.12", "cp-1=10.89.0.11 cp-2=10.89.0.12"},
		{"host bits in the subnet", "10.89.0.77/24", "cp-1", "", "cp-1=10.89.0.11"},
		{"over the end of an octet", "10.89.0.248/20", "cp-1", "", "cp-1=10.89.0.11"},
		{
			"down to the gateway when full", "10.89.0.0/28", "a b c d e f", "e=10.89.0.2",
			"a=10.89.0.11 b=10.89.0.12 c=10.89.0.13 d=10.89.0.14 e=10.89.0.2 f=10.89.0.3",
		},
		{"the smallest", "10.89.0.8/29", "a b c d", "", "a=10.89.0.11 b=10.89.0.12 c=10.89.0.13 d=10.89.0.14"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := assignAddresses(netip.MustParsePrefix(tc.subnet), strings.Fields(tc.nodes), addresses(tc.have))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(addresses(tc.want), got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
				t.Error(d)
			}
		})
	}
}

func addresses(s string) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	for _, f := range strings.Fields(s) {
		name, a, _ := strings.Cut(f, "=")
		out[name] = netip.MustParseAddr(a)
	}
	return out
}

// Of a subnet's addresses four are taken: its own, the broadcast address, the gateway and the balancer. The spec's
// validation counts on it.
func TestRoom(t *testing.T) {
	for _, subnet := range []string{"10.89.0.0/29", "10.89.0.0/28", "10.89.0.0/27", "10.89.0.0/24"} {
		p := netip.MustParsePrefix(subnet)
		names := make([]string, 1<<(32-p.Bits())-4)
		for i := range names {
			names[i] = fmt.Sprint("n", i)
		}
		got, err := assignAddresses(p, names, nil)
		if err != nil {
			t.Fatal(err)
		}
		used := map[netip.Addr]bool{}
		for _, offset := range []int{0, gatewayOffset, balancerOffset(p), 1<<(32-p.Bits()) - 1} {
			a := p.Addr()
			for range offset {
				a = a.Next()
			}
			used[a] = true
		}
		for name, a := range got {
			if used[a] || !p.Contains(a) {
				t.Errorf("%s: %s has %s, which is taken or outside", subnet, name, a)
			}
			used[a] = true
		}
		_, err = assignAddresses(p, append(names, "one-too-many"), nil)
		if err == nil || !strings.Contains(err.Error(), subnet) || !strings.Contains(err.Error(), "one-too-many") ||
			!strings.Contains(err.Error(), "spec.provider.local.subnet") {
			t.Errorf("%s: one machine too many: %v", subnet, err)
		}
	}
	if _, err := nth(netip.MustParsePrefix("10.89.0.8/31"), gatewayOffset); err == nil {
		t.Error("a /31 has a gateway")
	}
}

func TestChoosePort(t *testing.T) {
	taken := map[int]bool{103: true, 104: true}
	free := func(p int) bool { return !taken[p] }
	for _, tc := range []struct{ start, want int }{{100, 100}, {103, 100}, {102, 102}} {
		if got, err := choosePort("SSH", tc.start, 100, 104, free); err != nil || got != tc.want {
			t.Errorf("from %d: %d, %v; want %d", tc.start, got, err, tc.want)
		}
	}
	if _, err := choosePort("SSH", 103, 103, 104, free); err == nil || !strings.Contains(err.Error(), "between 103 and 104") {
		t.Errorf("no port is free: %v", err)
	}
	seen := map[int]bool{}
	for _, name := range strings.Fields("demo-cp-1 demo-cp-2 demo-cp-3 demo-worker-1 other-cp-1") {
		p := portStart(name, firstSSHPort, lastSSHPort)
		if p < firstSSHPort || p > lastSSHPort || p != portStart(name, firstSSHPort, lastSSHPort) {
			t.Errorf("%s starts at %d", name, p)
		}
		seen[p] = true
	}
	if len(seen) < 4 {
		t.Errorf("names hardly spread: %v", seen)
	}
}

func TestOverlapping(t *testing.T) {
	net := func(name, subnet string) network.Summary {
		return network.Summary{Network: network.Network{
			Name: name, IPAM: network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix(subnet)}}},
		}}
	}
	others := []network.Summary{
		{Network: network.Network{Name: "host"}}, // has no subnet
		net("bridge", "172.17.0.0/16"), net("six", "fd00::/64"), net("theirs", "10.89.0.0/16"),
	}
	name, met, ok := overlapping(netip.MustParsePrefix("10.89.7.0/24"), others)
	if !ok || name != "theirs" || met.String() != "10.89.0.0/16" {
		t.Errorf("got %q %v %v", name, met, ok)
	}
	if name, _, ok := overlapping(netip.MustParsePrefix("10.90.0.0/24"), others); ok {
		t.Errorf("10.90.0.0/24 meets %q", name)
	}
}
