package main

import (
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/testing/fixture"
)

// TestOverviewOfWhatHasExpired says it to people.
func TestOverviewOfWhatHasExpired(t *testing.T) {
	under := certs.Begin([]string{certs.KubernetesCA}, time.Now())
	rotation := certs.BeginExpired([]string{certs.KubernetesCA, certs.EtcdCA}, time.Now())
	o := rotate.NewOverview("demo", rotation)
	o.Expire([]string{certs.EtcdCA}, rotation, under)
	o.APIError = "certificate has expired"
	o.Users = false
	for r := rotation; r != nil; r = r.Next(time.Now()) {
		o.Stages = append(o.Stages, rotate.Stage{Stage: r.Stage, What: rotate.StageWords(r.Stage, r.Back)})
	}
	var out strings.Builder
	if err := printOverview(&out, o); err != nil {
		t.Fatal(err)
	}
	fixture.Golden(t, "rotate-expired.golden", out.String())
}
