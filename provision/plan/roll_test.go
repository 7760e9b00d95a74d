package plan

import (
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/kube"
)

func TestDisruptionsOfARoll(t *testing.T) {
	workloads := []kube.Workload{
		{Kind: "Deployment", Namespace: "shop", Name: "web", Pods: make([]kube.Pod, 3), Strategy: kube.Restart},
		{Kind: "StatefulSet", Namespace: "shop", Name: "db", Pods: make([]kube.Pod, 2), Strategy: kube.Evict},
		{Kind: "Pod", Namespace: "shop", Name: "alone", Pods: make([]kube.Pod, 1), Strategy: kube.Unmanaged},
	}
	many := slices.Repeat(workloads[:1], 9)
	for _, tt := range []struct {
		roll Roll
		want []string
	}{
		{Roll{}, nil},
		{Roll{Workloads: workloads}, []string{
			"2 workloads (5 pods) to replace, through their controllers and within disruption budgets: restarts pods of Deployment shop/web, StatefulSet shop/db",
			"1 workload (1 pod) that nothing would replace: the stage waits until you have replaced Pod shop/alone",
		}},
		{Roll{Rolling: Rolling{Manual: true, SkipUnmanaged: true}, Workloads: workloads}, []string{
			"2 workloads (5 pods) left to you (--no-rollout): the stage waits until you have replaced Deployment shop/web, StatefulSet shop/db",
			"1 workload (1 pod) that nothing would replace: not waited for (--leave-unmanaged), and may lose the API: Pod shop/alone",
		}},
		{Roll{APIError: "it is down", Workloads: workloads}, []string{"workloads to replace: unknown, since the API could not be queried (it is down)"}},
		{Roll{Workloads: many}, []string{
			"9 workloads (27 pods) to replace, through their controllers and within disruption budgets: restarts pods of " +
				strings.Repeat("Deployment shop/web, ", 6) + "and 3 more",
		}},
	} {
		if got := names(tt.roll.disruptions(), Disruption.String); !slices.Equal(got, tt.want) {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
}
