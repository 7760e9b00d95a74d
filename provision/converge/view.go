package converge

import (
	"context"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// View is the observed and the desired state of a cluster at one moment.
type View struct {
	// Input has the facts of the hosts.
	Input stack.Input
	// Before explains changes; it may be empty.
	Before            plan.Before
	Desired, Observed stack.State
	// Prove is what is proven at the end.
	Prove plan.Proving
	// Objects in the API that differ.
	Objects []kube.Change
	// Hosts are those that could be read.
	Hosts map[string]host.Host
	// API of the cluster, through any API server that is ready.
	API live.APIClient
	// Reach is how it reaches API, etcd and endpoints; nil is the network.
	Reach live.Reach
	// Report says what a host is waiting for, in a few words; it may be nil.
	Report func(host, what string)
	// Situation is the result, from which a plan is made.
	Situation plan.Situation
}

// reach is how the cluster is reached.
func (v *View) reach() live.Reach {
	if v.Reach == nil {
		return live.Network{}
	}
	return v.Reach
}

// etcd connects to the members on hosts that can be reached.
func (v *View) etcd() (live.EtcdClient, error) { return v.reach().Etcd(v.Input, v.Hosts) }

func (v *View) members(ctx context.Context) map[string]stack.Member {
	return live.Members(ctx, v.reach(), v.Input, v.Hosts)
}

func (v *View) report(host, what string) {
	if v.Report != nil {
		v.Report(host, what)
	}
}
