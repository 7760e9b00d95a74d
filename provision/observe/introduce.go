package observe

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
)

// introduceScript prints the machine's name, and its IPv4 addresses as ip(8) does.
const introduceScript = `# ask for name and addresses
printf 'name %s\n' "$(uname -n)"
ip -o -4 addr show scope global
`

// containerInterfaces are the prefixes of the names of network interfaces that belong to containers
// and to Services: their addresses are not the machine's.
var containerInterfaces = []string{
	"docker", "br-", "veth", "cni", "flannel", "cali", "tunl", "vxlan", "kube-", "nodelocaldns", "virbr", "lxc", "lxd", "podman", "cilium",
}

// Introduce asks a machine who it is, before it is a node.
func Introduce(ctx context.Context, h host.Host) (spec.Self, error) {
	ctx, cancel := Within(ctx, h, ObserveTimeout)
	defer cancel()
	result, err := h.Run(ctx, host.Cmd{Script: introduceScript})
	if err != nil {
		return spec.Self{}, fmt.Errorf("ask %s for its name and addresses: %w", h.Name(), err)
	}
	return parseSelf(string(result.Stdout)), nil
}

// parseSelf reads lines such as "2: eth0    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\ ...".
func parseSelf(text string) spec.Self {
	var self spec.Self
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "name":
			self.HostName = strings.ToLower(fields[1])
		case len(fields) > 3 && fields[2] == "inet" && !ofContainers(fields[1]):
			if p, err := netip.ParsePrefix(fields[3]); err == nil {
				self.Addresses = append(self.Addresses, p.Addr())
			} else if a, err := netip.ParseAddr(fields[3]); err == nil { // of a point-to-point interface
				self.Addresses = append(self.Addresses, a)
			}
		}
	}
	return self
}

func ofContainers(name string) bool {
	for _, prefix := range containerInterfaces {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
