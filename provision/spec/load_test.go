package spec

import "testing"

const minimal = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {local: {}}
  nodePools:
  - {name: cp, role: control-plane, replicas: 3}
  - {name: worker, role: worker, replicas: 1, labels: {}, taints: []}
`

func TestParseMinimal(t *testing.T) {
	c, err := Parse("cluster.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(c.Nodes()); got != 4 {
		t.Errorf("%d nodes, want 4", got)
	}
}
