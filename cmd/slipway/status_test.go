package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// demoRotation is in the stage issue, and began at noon in UTC.
func demoRotation(t *testing.T) *certs.Rotation {
	t.Helper()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	r := certs.Begin([]string{certs.KubernetesCA, certs.ServiceAccounts}, now)
	for range 3 {
		now = now.Add(time.Hour)
		r = r.Next(now)
	}
	return r
}

func TestStatusOfARotation(t *testing.T) {
	r := demoRotation(t)
	line := "rotation of kubernetes, service-account: stage issue, 4 of 5, running since " + r.Began.Local().Format(time.DateTime) +
		": `slipway certs rotate-ca` continues it\n"
	for _, rotation := range []*certs.Rotation{nil, r} {
		var out strings.Builder
		s := &observe.Status{Cluster: "demo", Rotation: rotation}
		if err := printStatus(&out, s, time.Now(), ""); err != nil {
			t.Fatal(err)
		}
		if got := strings.HasSuffix(out.String(), line); got != (rotation != nil) {
			t.Errorf("of %v the status says:\n%s", rotation, &out)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(text), `"rotation":{"names":["ca","sa"],"stage":"issue"`); got != (rotation != nil) {
			t.Errorf("the JSON of %v is %s", rotation, text)
		}
	}
}

// foundProvider finds what it is told, and has no other power.
type foundProvider struct {
	providers.Provider
	infra *spec.Infrastructure
}

func (p foundProvider) Find(context.Context) (*spec.Infrastructure, error) { return p.infra, nil }

func (p foundProvider) Plan(context.Context, []string) ([]spec.ResourceChange, error) {
	return nil, nil
}

// statusOf runs status for demo, of which there is no state, where a provider finds infra.
func statusOf(t *testing.T, infra *spec.Infrastructure, output string) (string, error) {
	t.Helper()
	t.Setenv("SLIPWAY_STATE_DIR", t.TempDir())
	c := clusterWith(spec.State{})
	c.Spec.NodePools = []spec.NodePool{{Name: "cp", Role: spec.ControlPlane, Replicas: 1}}
	var out bytes.Buffer
	a := &app{file: "demo.yaml", output: output, stdout: &out}
	err := a.showStatus(t.Context(), &cluster{
		spec: c, provider: foundProvider{infra: infra}, state: state.Options{Dir: filepath.Join(t.TempDir(), "demo")},
	})
	return out.String(), err
}

func TestStatusOfNoCluster(t *testing.T) {
	nothing := &spec.Infrastructure{}
	foreign := &spec.Infrastructure{Foreign: []spec.Foreign{{Kind: "machine", Name: "demo-cp-1", UID: "another", Remove: "docker rm"}}}
	volume := &spec.Infrastructure{Disks: map[string]string{"demo-cp-1": "volume demo-cp-1"}}
	for name, test := range map[string]struct {
		infra *spec.Infrastructure
		want  []string
		not   string
	}{
		"nothing":   {nothing, []string{"There is no cluster demo yet: no machine of it, and no state in ", "Run `slipway apply -f demo.yaml` to create it."}, "MACHINE"},
		"another's": {foreign, []string{"There is no cluster demo yet", "another cluster with this name\n  machine demo-cp-1 (UID another)"}, "MACHINE"},
		"a disk":    {volume, []string{"Cluster demo is NOT healthy", "  Kubernetes is not installed\n", "  demo-cp-1: has no machine\n"}, "There is no cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := statusOf(t, test.infra, "text")
			var exit *exitError
			if !errors.As(err, &exit) || exit.code != exitFailed || exit.err != nil {
				t.Errorf("the error is %v, and what was found out is no error but for the exit code", err)
			}
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("the status lacks %q:\n%s", want, out)
				}
			}
			if strings.Contains(out, test.not) {
				t.Errorf("the status has %q:\n%s", test.not, out)
			}
			out, err = statusOf(t, test.infra, "json")
			var s observe.Status
			if jsonErr := json.Unmarshal([]byte(out), &s); jsonErr != nil || !errors.As(err, &exit) {
				t.Fatalf("%v, %v:\n%s", jsonErr, err, out)
			}
			if s.Healthy || len(s.Reasons) == 0 || s.Exists != (name == "a disk") {
				t.Errorf("the JSON is %s", out)
			}
		})
	}
}

func TestStatusOfAnUnhealthyCluster(t *testing.T) {
	s := &observe.Status{
		Cluster: "demo", API: "ok", Reasons: []observe.Reason{{Text: "DNS: 0 of 2"}, {Machine: "demo-cp-1", Text: "not active: etcd.service"}},
		Machines: []observe.MachineStatus{
			{Name: "demo-cp-1", Role: spec.ControlPlane, State: spec.MachineRunning, Units: map[string]string{"etcd.service": "failed/failed", "a.service": "active/running"}},
			{Name: "demo-cp-2", Role: spec.ControlPlane, State: "missing", Node: &observe.NodeStatus{Ready: true, Taints: []string{"a:NoSchedule"}}},
		},
	}
	var out strings.Builder
	if err := printStatus(&out, s, time.Now(), " -f x.yaml"); err != nil {
		t.Fatal(err)
	}
	want := `Cluster demo is NOT healthy: Kubernetes , API ok

MACHINE    ROLE           ADDRESS  STATE    NODE   VERSION  UNITS  ETCD
demo-cp-1  control-plane  -        running  -      -        1/2    -
demo-cp-2  control-plane  -        missing  Ready           -      -

Not healthy, since
  DNS: 0 of 2
  demo-cp-1: not active: etcd.service
` + "`slipway plan -f x.yaml` shows what `slipway apply -f x.yaml` would change.\n" + `demo-cp-2: has taints that are not in the spec: a:NoSchedule
`
	if out.String() != want {
		t.Errorf("the status is\n%s\nand should be\n%s", &out, want)
	}
}

// TestNoSuchMachine: whoever names a machine that is not there is told which are, or how to make some.
func TestNoSuchMachine(t *testing.T) {
	c := &cluster{spec: &spec.Cluster{Metadata: spec.Metadata{Name: "demo"}}}
	infra := &spec.Infrastructure{}
	if got, want := noMachineError(c, infra, "x", " -f a.yaml").Error(), "has none yet: run `slipway apply -f a.yaml` first"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want %q at the end", got, want)
	}
	infra.Machines = []spec.Machine{{Name: "demo-cp-1"}, {Name: "demo-cp-2"}}
	if got, want := noMachineError(c, infra, "x", "").Error(), "cluster demo has demo-cp-1, demo-cp-2"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want %q at the end", got, want)
	}
}
