package providers

import (
	"strings"
	"testing"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/spec"
)

func TestOpen(t *testing.T) {
	for _, tc := range []struct {
		name string
		p    spec.Provider
		want string // in the error; empty: none
	}{
		{"local", spec.Provider{Local: &spec.LocalProvider{}}, ""},
		{"aws", spec.Provider{AWS: &spec.AWSProvider{}}, "spec.provider.aws is not available in this release"},
		{"hosts", spec.Provider{Hosts: &spec.HostsProvider{}}, "spec.provider.hosts is not available in this release"},
		{"none", spec.Provider{}, "names no provider"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &spec.Cluster{Metadata: spec.Metadata{Name: "demo"}, Spec: spec.ClusterSpec{Provider: tc.p}}
			p, err := Open(c, Options{})
			switch {
			case tc.want == "" && err != nil:
				t.Fatal(err)
			case tc.want == "":
				if _, ok := p.(provision.Publisher); !ok {
					t.Error("the local provider cannot publish the API")
				}
			case err == nil || !strings.Contains(err.Error(), tc.want):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
