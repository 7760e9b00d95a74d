package converge

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// told is a host that says of itself what it is told to.
type told struct {
	*hosttest.Memory
	report string
}

func (h told) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	if cmd.Stdout == nil {
		return host.Result{Stdout: []byte(h.report)}, nil
	}
	_, err := io.WriteString(cmd.Stdout, h.report)
	return host.Result{}, err
}

// The whole way: what hosts print, what is issued, what an earlier run has issued and not brought to them.
func TestSituationRefusesClocks(t *testing.T) {
	in := fixture.Input(t)
	situation := func(behind time.Duration, before plan.Before) error {
		hosts := map[string]host.Host{}
		for _, m := range in.Machines {
			now := time.Now()
			if m.Name == "demo-worker-1" {
				now = now.Add(-behind)
			}
			report := fmt.Sprintf("[facts]\nmachine=x86_64\ncgroup=cgroup2fs\nsystemd=1\nnow=%d\n[end]\n", now.Unix())
			hosts[m.Name] = told{hosttest.NewMemory(m.Name), report}
		}
		var said []string
		o := Observer{Input: in, Before: before, Report: func(host, what string) { said = append(said, host+": "+what) }}
		_, err := o.Look(t.Context(), hosts)
		if warned := strings.Contains(strings.Join(said, "\n"), "demo-worker-1: warning: its clock is"); warned != (err == nil && behind > plan.FarBehind) {
			t.Errorf("behind by %v: it said %q, error %v", behind, said, err)
		}
		return err
	}
	if err := situation(0, plan.Before{}); err != nil {
		t.Errorf("clocks agree: %v", err)
	}
	if err := situation(30*time.Minute, plan.Before{}); err == nil || !strings.Contains(err.Error(), "demo-worker-1: its clock is ") {
		t.Errorf("certificates are brought: %v", err)
	}
	long := fixture.PKIFor(t, in, fixture.TestPolicy.LeafValidity, time.Now().Add(-24*time.Hour))
	in.PKI = long
	if err := situation(30*time.Minute, plan.Before{}); err != nil {
		t.Errorf("the certificates are old: %v", err)
	}
	for name, item := range fixture.Input(t).PKI.Material {
		if name == certs.SuperAdmin { // it is on no host
			material := maps.Clone(long.Material)
			material[name] = item
			pki := *long
			pki.Material, in.PKI = material, &pki
		}
	}
	if err := situation(30*time.Minute, plan.Before{Issued: []certs.Change{{Name: certs.SuperAdmin}}}); err == nil || !strings.Contains(err.Error(), "its clock is") {
		t.Errorf("one is issued that is on no host: %v", err)
	}
}
