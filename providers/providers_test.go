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
		{"hosts", spec.Provider{Hosts: &spec.HostsProvider{}}, ""},
		{"none", spec.Provider{}, "names no provider"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &spec.Cluster{Metadata: spec.Metadata{Name: "demo"}, Spec: spec.ClusterSpec{Provider: tc.p}}
			p, err := Open(c, Options{})
			switch {
			case tc.want == "" && err != nil:
				t.Fatal(err)
			case tc.want == "":
				if _, ok := p.(provision.Publisher); ok != (tc.name == "local") {
					t.Errorf("publishes the API: %v", ok)
				}
				_, resolves := p.(Resolver)
				_, records := p.(provision.Recorder)
				_, notes := p.(provision.Noter)
				if hosts := tc.name == "hosts"; resolves != hosts || records != hosts || notes != hosts {
					t.Errorf("resolves: %v, records: %v, notes: %v", resolves, records, notes)
				}
			case err == nil || !strings.Contains(err.Error(), tc.want):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
