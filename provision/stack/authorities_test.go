package stack_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// A ring holds names and fingerprints, in an order that does not tell which is in use.
func TestAuthorityRing(t *testing.T) {
	in, authorities := fixture.Input(t), []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA}
	stored := fixture.Beginning(t, in, authorities)
	alone := stack.AuthorityRing(fixture.InStage(t, in, stored, nil).PKI)
	trust := fixture.InStage(t, in, stored, certs.Begin(authorities, time.Now()))
	issue := trust
	for r := trust.PKI.Rotation; r.Stage != certs.Issue; {
		r = r.Next(time.Now())
		issue = fixture.InStage(t, in, stored, r)
	}
	if got, want := string(stack.AuthorityRing(issue.PKI)), string(stack.AuthorityRing(trust.PKI)); got != want {
		t.Errorf("at issue it is %s, at trust %s", got, want)
	}
	for ring, lines := range map[string]int{string(alone): 3, string(stack.AuthorityRing(trust.PKI)): 6} {
		for _, name := range authorities {
			if n := strings.Count("\n"+ring, "\n"+name+" "); n != lines/3 {
				t.Errorf("%s is there %d times: %s", name, n, ring)
			}
		}
		if len(strings.Split(ring, "\n")) != lines+1 {
			t.Errorf("%d lines are wanted: %s", lines, ring)
		}
	}
	if n := len(stack.AuthorityRings(trust.PKI)); n != 27 {
		t.Errorf("%d rings are possible, want 27", n)
	}
	if got := fmt.Sprint(stack.Subsets([]string{"a", "b", "c"})); got != "[[a] [b] [a b] [c] [a c] [b c] [a b c]]" {
		t.Errorf("subsets are %s", got)
	}
	if !slices.ContainsFunc(stack.AuthorityRings(trust.PKI), func(r []byte) bool { return string(r) == string(alone) }) {
		t.Error("that of before the rotation is not among them")
	}
}
