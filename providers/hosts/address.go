package hosts

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"slipway.dev/slipway/provision/spec"
)

// shared is the address space of carrier-grade NAT (RFC 6598), which is as private as those of RFC
// 1918.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// choose returns the address of a machine where the other nodes reach it: its only private one. If
// it has several, or none, it is the one where SSH reaches it. Addresses in the cluster's own
// networks are those of an earlier or another cluster.
func choose(addresses []netip.Addr, ssh string, c *spec.Cluster) (netip.Addr, error) {
	var all, private []netip.Addr
	for _, a := range addresses {
		if c.Spec.Network.Pods().Contains(a) || c.Spec.Network.Services().Contains(a) {
			continue
		}
		all = append(all, a)
		if a.IsPrivate() || shared.Contains(a) {
			private = append(private, a)
		}
	}
	if len(private) == 1 {
		return private[0], nil
	}
	reached, err := netip.ParseAddr(ssh)
	switch {
	case err == nil && slices.Contains(all, reached):
		return reached, nil
	case len(all) == 1:
		return all[0], nil
	case len(all) == 0:
		return netip.Addr{}, errors.New("the machine has no IPv4 address that other nodes could reach: set `privateAddress` in the spec")
	}
	var texts []string
	for _, a := range all {
		texts = append(texts, a.String())
	}
	return netip.Addr{}, fmt.Errorf("the machine has several addresses (%s), and it is unknown where the other nodes reach it: set `privateAddress` in the spec",
		strings.Join(texts, ", "))
}

// checkName refuses host names that machines have before they are given one, and those that
// Kubernetes does not take.
func checkName(name string) error {
	switch {
	case name == "" || name == "localhost" || strings.HasPrefix(name, "localhost."):
		return fmt.Errorf("the machine's own name is %q, which cannot be the name of a node: set `name` in the spec, or its host name", name)
	case len(validation.IsDNS1123Subdomain(name)) > 0 || len(name) > validation.DNS1123LabelMaxLength:
		return fmt.Errorf("the machine's own name %q cannot be the name of a node (up to 63 letters, digits, dashes and dots): set `name` in the spec", name)
	}
	return nil
}
