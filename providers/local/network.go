package local

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/moby/moby/client"
)

// networkName is the cluster's own network.
func (p *Local) networkName() string { return "slipway-" + p.cluster }

// ensureNetwork makes the machine network and returns the API's port on 127.0.0.1: the spec's, or
// the one that was chosen when the network was made.
func (p *Local) ensureNetwork(ctx context.Context, inv *inventory) (apiPort int, err error) {
	if err := p.checkSubnet(inv); err != nil {
		return 0, err
	}
	if len(inv.networks) > 0 {
		if p.apiPort != 0 {
			return p.apiPort, nil
		}
		return inv.apiPort(), nil
	}
	if other, subnet, ok := overlapping(p.subnet, inv.others); ok {
		return 0, fmt.Errorf("the machine network %s meets %s of Docker's network %q; "+
			"set spec.provider.local.subnet to another, or remove that network (`docker network rm %s`)",
			p.subnet, subnet, other, other)
	}
	if apiPort = p.apiPort; apiPort == 0 {
		if apiPort, err = choosePort("the API", firstAPIPort, firstAPIPort, lastAPIPort, inv.free); err != nil {
			return 0, err
		}
	}
	gateway, err := nth(p.subnet, gatewayOffset)
	if err != nil {
		return 0, err
	}
	_, err = p.docker.NetworkCreate(ctx, p.networkName(), client.NetworkCreateOptions{
		Driver: "bridge",
		IPAM:   &network.IPAM{Config: []network.IPAMConfig{{Subnet: p.subnet.Masked(), Gateway: gateway}}},
		Labels: map[string]string{labelCluster: p.cluster, labelUID: p.o.UID, labelAPIPort: strconv.Itoa(apiPort)},
	})
	if err != nil {
		return 0, fmt.Errorf("make the machine network %s (%s): %w; set spec.provider.local.subnet to a free one",
			p.networkName(), p.subnet, err)
	}
	return apiPort, nil
}

// checkSubnet refuses another subnet than the one that the machines' network has.
func (p *Local) checkSubnet(inv *inventory) error {
	if len(inv.networks) == 0 {
		return nil
	}
	have := subnets(inv.networks[0])
	if len(have) == 1 && have[0] == p.subnet.Masked() {
		return nil
	}
	return fmt.Errorf("machine network %s has the subnet %v and the spec says %s; a subnet cannot change: "+
		"set spec.provider.local.subnet back, or destroy and recreate the cluster",
		inv.networks[0].Name, have, p.subnet)
}

// subnets of a network, as far as they can be read.
func subnets(n network.Summary) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range n.IPAM.Config {
		if c.Subnet.IsValid() {
			out = append(out, c.Subnet.Masked())
		}
	}
	return out
}

// overlapping finds a network that shares addresses with subnet.
func overlapping(subnet netip.Prefix, networks []network.Summary) (name string, met netip.Prefix, ok bool) {
	for _, n := range networks {
		for _, s := range subnets(n) {
			if s.Overlaps(subnet) {
				return n.Name, s, true
			}
		}
	}
	return "", netip.Prefix{}, false
}

// removeNetwork removes one of our networks; none is no error.
func (p *Local) removeNetwork(ctx context.Context, n network.Summary) error {
	if _, err := p.docker.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove network %s: %w; disconnect what else uses it (`docker network inspect %s`) and destroy again",
			n.Name, err, n.Name)
	}
	return nil
}

// removeVolume removes one of our volumes; none is no error.
func (p *Local) removeVolume(ctx context.Context, v volume.Volume) error {
	if _, err := p.docker.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove volume %s of %s: %w", v.Name, v.Labels[labelMachine], err)
	}
	return nil
}
