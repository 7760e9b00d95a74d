package converge

import (
	"testing"

	"slipway.dev/slipway/provision/kube"
)

// In the middle of a rotation much was changed already: the error must not say otherwise.
func TestBlocked(t *testing.T) {
	budget := []kube.Budget{{Name: "db"}} // it allows nothing
	workloads := []kube.Workload{
		{Kind: "StatefulSet", Namespace: "shop", Name: "db", Strategy: kube.Evict, Budgets: budget},
		{Kind: "Deployment", Namespace: "shop", Name: "web", Strategy: kube.Restart, Budgets: budget},
		{Kind: "Pod", Namespace: "shop", Name: "alone", Strategy: kube.Unmanaged, Budgets: budget},
		{Kind: "Deployment", Namespace: "shop", Name: "cache", Strategy: kube.Evict},
	}
	const want = "no workload was replaced, and the rotation stays in its stage, since:\n" +
		"  StatefulSet shop/db: budget shop/db never allows any of 0 pods to be evicted: relax it meanwhile, or add replicas"
	if err := blocked(workloads); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := blocked(workloads[1:]); err != nil {
		t.Errorf("refused for nothing: %v", err)
	}
}
