package main

import (
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// machinesThere is a provider that finds machines; nothing else is asked of it.
type machinesThere struct {
	providers.Provider
	infra *spec.Infrastructure
}

func (p machinesThere) Find(context.Context) (*spec.Infrastructure, error) { return p.infra, nil }

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
	programs := map[string]stack.Artifact{}
	for name := range strings.FieldsSeq("kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd etcdctl etcdutl containerd " +
		"containerd-shim-runc-v2 ctr runc bridge loopback host-local portmap flannel flanneld crictl slipway image/pause image/coredns") {
		programs[name] = stack.Artifact{Name: name, Component: "stack", Version: "v1", SHA256: "00"}
	}
	for _, older := range []bool{false, true} {
		k := newKeeper(t)
		k.up(k.spec, older)
		_, made := k.load()
		changed := *k.spec
		changed.Spec.Network.Plugin = "none"
		for _, allowed := range []bool{false, true} {
			w := &work{app: &app{stderr: io.Discard}, allowPlugin: allowed, cluster: &cluster{spec: &changed, options: providers.Options{StateDir: t.TempDir()}}}
			k.must(w.identify(k.Context(), k.store))
			w.provider = machinesThere{infra: k.infra}
			err := w.preflight(k.Context())
			if refused := err != nil && strings.Contains(err.Error(), "spec.network.plugin was flannel and is none"); refused == allowed {
				t.Errorf("older %t, allowed %t: %v", older, allowed, err)
			}
			w.progress = newProgress(io.Discard, false, io.Discard, nil)
			w.runner = &converge.Runner{Input: stack.Input{Cluster: &changed, UID: w.identity.UID, Machines: k.infra.Machines, PKI: made.PKI, EncryptionKeys: made.EncryptionKeys, Artifacts: programs}}
			_, err = w.observe(k.Context()) // which there are none of: it ends either way
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
	w := &work{app: &app{stderr: io.Discard}, cluster: &cluster{spec: &changed, options: providers.Options{StateDir: t.TempDir()}}, store: k.store}
	k.must(w.identify(k.Context(), k.store))
	w.runner = &converge.Runner{Input: stack.Input{Cluster: &changed, Machines: k.infra.Machines}, Record: w.recorder()}
	recorded := func() string {
		text, err := k.store.Get(k.Context(), identityName)
		k.must(err)
		id, err := plan.ReadIdentity(text.Reveal())
		k.must(err)
		return id.Up.Plugin
	}
	k.must(w.runner.RecordLiving(k.Context()))
	if got := recorded(); got != "flannel" {
		t.Errorf("before a run ends the plugin is %q", got)
	}
	k.must(w.saveApplied(k.Context()))
	if got := recorded(); got != "none" {
		t.Errorf("at its end it is %q", got)
	}
}

// TestSavedPlanCarriesThePluginChange: what the plan was allowed, applying it is, and nothing else.
func TestSavedPlanCarriesThePluginChange(t *testing.T) {
	k := newKeeper(t)
	_, made := k.load()
	for _, allowed := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "next.plan")
		a := &app{file: "-", stderr: io.Discard}
		p := planRun{out: file, work: work{
			app: a, allowPlugin: allowed, cluster: &cluster{spec: k.spec}, secrets: made, runner: &converge.Runner{},
		}}
		k.must(p.save(plan.NewPlan("demo", plan.Situation{})))
		t.Setenv("SLIPWAY_CACHE_DIR", "/dev/null/nowhere") // no further than that
		r := applyRun{work: work{app: a}}
		if err := r.applySaved(k.Context(), file, false); err == nil || r.allowPlugin != allowed {
			t.Errorf("planned with %t, applied with %t, %v", allowed, r.allowPlugin, err)
		}
	}
}

// TestInterruptedPluginChange goes on with the flag: without it the next apply would be refused.
func TestInterruptedPluginChange(t *testing.T) {
	for allowed, want := range map[bool]string{false: "`slipway apply -f a.yaml` goes on", true: "`slipway apply -f a.yaml --allow-plugin-change` goes on"} {
		r := applyRun{work: work{app: &app{file: "a.yaml"}, allowPlugin: allowed}}
		if err := r.interrupted("apply", nil); !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
