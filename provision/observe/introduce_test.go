package observe

import (
	"net/netip"
	"reflect"
	"testing"

	"slipway.dev/slipway/provision/spec"
)

func TestParseSelf(t *testing.T) {
	const text = `name Node-A.example.com
2: eth0    inet 203.0.113.7/24 brd 203.0.113.255 scope global dynamic eth0\       valid_lft 86000sec preferred_lft 86000sec
2: eth0    inet 10.1.0.7/16 scope global secondary eth0\       valid_lft forever preferred_lft forever
3: wg0    inet 100.64.3.1 peer 100.64.3.2/32 scope global wg0\       valid_lft forever
4: docker0    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0\       valid_lft forever
7: flannel.1    inet 10.244.1.0/32 scope global flannel.1\       valid_lft forever
8: cni0    inet 10.244.1.1/24 scope global cni0\       valid_lft forever
`
	want := spec.Self{HostName: "node-a.example.com", Addresses: []netip.Addr{
		netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("100.64.3.1"),
	}}
	if got := parseSelf(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := parseSelf(""); got.HostName != "" || got.Addresses != nil {
		t.Errorf("of nothing: %+v", got)
	}
}
