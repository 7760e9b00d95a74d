package provision

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
	"slipway.dev/slipway/testing/fixture"
)

// keeper has a cluster of one machine, and a state in a directory.
type keeper struct {
	*testing.T
	spec  *spec.Cluster
	infra *spec.Infrastructure
	store *state.Store
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	c, infra, store := fixture.OneMachine(t)
	return &keeper{T: t, spec: c, infra: infra, store: store}
}

func (k *keeper) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// session is one for a spec of k's cluster.
func (k *keeper) session(c *spec.Cluster) *Session {
	k.Helper()
	record, err := ReadRecord(k.Context(), k.store, c, state.Options{})
	k.must(err)
	return &Session{Cluster: c, Record: record, Store: k.store, Machines: machinesThere{infra: k.infra}, UI: silent{}}
}

// silent shows nothing.
type silent struct{ UI }

func (silent) Phase(string)        {}
func (silent) Host(string, string) {}
func (silent) Note(string)         {}

// machinesThere is a provider that finds machines; nothing else is asked of it.
type machinesThere struct {
	Machines
	infra *spec.Infrastructure
	lacks []spec.ResourceChange
}

func (p machinesThere) Find(context.Context) (*spec.Infrastructure, error) { return p.infra, nil }

func (p machinesThere) Plan(context.Context, []string) ([]spec.ResourceChange, error) {
	return p.lacks, nil
}

// up is a cluster that has been up with the plugin of its spec, as the state has it, and as an older slipway has left it.
func (k *keeper) up(c *spec.Cluster, older bool) {
	k.Helper()
	applied, err := plan.NewApplied(stack.Input{Cluster: c, Machines: k.infra.Machines}, "v1")
	k.must(err)
	id := plan.NewIdentity(c.Metadata.Name)
	id.Up = applied.Up()
	record := map[string]secret.Bytes{}
	for name, value := range map[string]any{appliedName: applied, identityName: &id} {
		if older {
			id.Up.Plugin = ""
		}
		record[name], err = json.Marshal(value)
		k.must(err)
	}
	k.must(k.store.Put(k.Context(), record))
}

// TestPluginChangeIsAllowedBySayingSo: what the state knows of a cluster, an older slipway's record too, keeps apply and plan
// from changing its network plugin, and the flag allows it: before machines are made, and when hosts are observed.
func TestPluginChangeIsAllowedBySayingSo(t *testing.T) {
	programs := stack.Set{}
	for name := range strings.FieldsSeq("kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd etcdctl etcdutl containerd " +
		"containerd-shim-runc-v2 ctr runc bridge loopback host-local portmap flannel flanneld crictl slipway image/pause image/coredns") {
		programs[name] = stack.Artifact{Name: name, Component: "stack", Version: "v1", SHA256: "00"}
	}
	for _, older := range []bool{false, true} {
		k := newKeeper(t)
		k.up(k.spec, older)
		made, err := keys.Ensure(k.Context(), &keys.Stored{}, nil, k.spec, k.infra, nil)
		k.must(err)
		changed := *k.spec
		changed.Spec.Network.Plugin = "none"
		for _, allowed := range []bool{false, true} {
			s := k.session(&changed)
			s.AllowPluginChange = allowed
			err := s.Preflight(k.Context())
			if refused := err != nil && strings.Contains(err.Error(), "spec.network.plugin was flannel and is none"); refused == allowed {
				t.Errorf("older %t, allowed %t: %v", older, allowed, err)
			}
			s.observer = converge.Observer{Input: stack.Input{Cluster: &changed, UID: s.Record.UID, Machines: k.infra.Machines, PKI: made.PKI, EncryptionKeys: made.EncryptionKeys, Artifacts: stack.Sets{"amd64": programs}}}
			_, err = s.observe(k.Context()) // which there are none of: it ends either way
			if refused := err != nil && strings.Contains(err.Error(), "spec.network.plugin was flannel and is none"); refused == allowed {
				t.Errorf("observed, older %t, allowed %t: %v", older, allowed, err)
			}
		}
	}
}

// TestPluginIsRecordedAtTheEnd of a run that has covered the whole cluster, and not before.
func TestPluginIsRecordedAtTheEnd(t *testing.T) {
	k := newKeeper(t)
	k.up(k.spec, false)
	changed := *k.spec
	changed.Spec.Network.Plugin = "none"
	s := k.session(&changed)
	s.view = &converge.View{Input: stack.Input{Cluster: &changed, Machines: k.infra.Machines}}
	recorded := func() string {
		text, err := k.store.Get(k.Context(), identityName)
		k.must(err)
		id, err := plan.ReadIdentity(text.Reveal())
		k.must(err)
		return id.Up.Plugin
	}
	k.must(s.view.RecordLiving(k.Context(), s.recordUp))
	if got := recorded(); got != "flannel" {
		t.Errorf("before a run ends the plugin is %q", got)
	}
	k.must(s.saveApplied(k.Context()))
	if got := recorded(); got != "none" {
		t.Errorf("at its end it is %q", got)
	}
}

// TestNotesOfARotation: who only plans or applies is told of a rotation, and who goes on with it knows.
func TestNotesOfARotation(t *testing.T) {
	rotation := certs.Begin([]string{certs.KubernetesCA, certs.ServiceAccounts}, time.Now())
	s := Session{Remarks: []string{"a remark"}, secrets: &keys.Secrets{PKI: &certs.PKI{Rotation: rotation}}}
	if got := s.Notes(); len(got) != 2 || got[0] != "a remark" || !strings.HasPrefix(got[1], "rotation of kubernetes, service-account: stage trust") {
		t.Errorf("the notes are %q", got)
	}
	if s.Prove = plan.ProveStage; len(s.Notes()) != 1 {
		t.Errorf("the notes are %q", s.Notes())
	}
}

// TestApplyWaitsForSignaturesOfARotation: a plain apply cannot keep the cluster in its stage then, and names who can.
func TestApplyWaitsForSignaturesOfARotation(t *testing.T) {
	rotation := certs.Begin([]string{certs.EtcdCA}, time.Now()).Next(time.Now())
	s := Session{stored: &keys.Stored{Rotation: rotation}}
	err := s.ofRotation(&certs.PendingError{Names: []string{"etcd/server@demo-cp-1"}})
	if !strings.Contains(err.Error(), "stage issue, 2 of 3; until") || !strings.Contains(err.Error(), "except `slipway certs rotate-ca --rollback`") {
		t.Errorf("apply says %v", err)
	}
	s.Prove = plan.ProveStage
	if err := s.ofRotation(err); strings.Count(err.Error(), "until") != 1 {
		t.Errorf("the rotation itself says %v", err)
	}
}

// TestPlansOfMachines carry who made them and when, as every plan does.
func TestPlansOfMachines(t *testing.T) {
	k := newKeeper(t)
	k.infra = &spec.Infrastructure{}
	s := k.session(k.spec)
	s.Version = "v1"
	k.must(s.Preflight(k.Context()))
	p := s.MachinePlan()
	if len(p.Machines) != 1 || p.Slipway != "v1" || time.Since(p.Created) > time.Minute || p.Created.Nanosecond() != 0 {
		t.Errorf("the plan is %+v", p)
	}
}

// TestResourcesArePlanned: what the provider would make besides machines is in every plan, and makes it one that does something.
func TestResourcesArePlanned(t *testing.T) {
	k := newKeeper(t)
	s := k.session(k.spec)
	lacks := []spec.ResourceChange{{Kind: "balancer", Name: "demo-balancer", Reason: "does not exist"}}
	s.Machines = machinesThere{infra: k.infra, lacks: lacks}
	k.must(s.Preflight(k.Context()))
	if p := s.newPlan(plan.Situation{}); p.Empty() || len(p.Resources) != 1 || p.Resources[0] != lacks[0] {
		t.Errorf("the plan is %+v", p)
	}
	saved, now := s.newPlan(plan.Situation{}), s.newPlan(plan.Situation{})
	saved.Basis, now.Resources = &plan.Basis{}, nil
	if moved := saved.Moved(stack.State{}, now); len(moved) != 1 || !strings.Contains(moved[0], "balancer demo-balancer") {
		t.Errorf("moved is %q", moved)
	}
}

// noting is a source of machines that has something to say.
type noting struct{ Machines }

func (noting) Notes() []string { return []string{"a block is left out"} }

// TestNotesOfTheProvider are shown with the others.
func TestNotesOfTheProvider(t *testing.T) {
	s := &Session{Machines: noting{}, Remarks: []string{"a remark"}, secrets: &keys.Secrets{PKI: &certs.PKI{}}}
	if got := s.Notes(); !slices.Equal(got, []string{"a remark", "a block is left out"}) {
		t.Errorf("got %q", got)
	}
}
