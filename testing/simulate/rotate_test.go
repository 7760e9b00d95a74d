package simulate

import (
	"slices"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// Every CA and key is replaced, stage after stage, on a living cluster: each stage is proven, and ends with nothing to do.
// Nobody is cut off meanwhile, and in the end the old ones are gone from every host.
func TestRotate(t *testing.T) {
	s := shape(t, 3, 1)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		names := []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA, certs.ServiceAccounts, certs.EncryptionKey}
		v := s.Variants[0].computed()
		applied(t, c, memory, v)
		old := string(v.Input.PKI.Material[certs.KubernetesCA].Cert)
		var stages []certs.Stage
		proofs := map[plan.Verb]bool{}
		r, err := begin(c, memory, v, names)
		for ; err == nil && r != nil; r, err = underWay(memory) {
			time.Sleep(time.Minute)
			stages = append(stages, r.Stage)
			for _, pause := range []bool{true, false} {
				run := NewRun(c, 10+2*len(stages), memory, v)
				run.Prove, run.NewKeys, run.Pause = plan.ProveStage, true, pause
				if err := run.Apply(t.Context()); err != nil {
					t.Fatalf("stage %s: %v", r.Stage, err)
				}
				for _, step := range run.plan.Steps {
					proofs[step.Verb] = true
				}
				if !pause { // the same stage again: there may be no plan
					continue
				}
				if !run.plan.Alive {
					t.Errorf("in stage %s the cluster was not taken for a living one", r.Stage)
				}
				idle(t, c, memory, v)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(stages, certs.Begin(names, time.Now()).Stages()) {
			t.Errorf("the stages were %v", stages)
		}
		for _, verb := range []plan.Verb{
			plan.ProveTrust, plan.AwaitRootCA, plan.AwaitClientCAs, plan.AwaitEncryption, plan.RollWorkloads, plan.AwaitTokens, plan.RewriteSecrets,
			plan.ProveRefusal, plan.DropClientCAs,
		} {
			if !proofs[verb] {
				t.Errorf("no stage had %s", verb)
			}
		}
		for _, h := range c.order {
			if text := string(h.content(stack.CAFile)); text == "" || text == old {
				t.Errorf("%s still trusts the old CA", h.name)
			}
		}
	})
}
