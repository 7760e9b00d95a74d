package provision

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
)

// A state of before the user went from one authority of theirs to another is as foreign as any other.
func TestAStateOlderThanAnOwnAuthorityIsRefused(t *testing.T) {
	alone(t)
	first := input(t)
	for _, name := range authorities {
		stored := beginning(t, first, []string{name})
		old := inStage(t, first, stored, nil)
		old.PKI.Own = []string{name}
		now := recorded(t, old, "demo-cp-1")
		for r := certs.Begin([]string{name}, time.Now()); r != nil; r = r.Next(time.Now()) {
			later := inStage(t, first, stored, r)
			later.PKI.Own = []string{name}
			owned := recorded(t, later, "demo-cp-2")
			if err := refused(old, now, owned, now); err == nil || !strings.Contains(err.Error(), "demo-cp-2: "+authoritiesFile+" was put there") {
				t.Errorf("%s, a host at %s: %v", name, r.Stage, err)
			}
			if err := refused(later, now, owned); r.Stage != certs.Drop && err != nil {
				t.Errorf("%s, with the state at %s: %v", name, r.Stage, err)
			}
		}
	}
}

// The user's own authority may come with a new certificate at any stage, and the rotation be rolled back from there.
func TestAnOwnAuthorityRenewedDuringARotationIsNotRefused(t *testing.T) {
	first, theirs := input(t), sameKey(t, "Theirs", 2)
	names := []string{certs.EtcdCA}
	stored := beginning(t, first, names)
	stored[certs.NextName(certs.EtcdCA)] = theirs[0]
	renewed := maps.Clone(stored)
	renewed[certs.NextName(certs.EtcdCA)] = theirs[1]
	for r := certs.Begin(names, time.Now()); r != nil; r = r.Next(time.Now()) {
		owned := recorded(t, inStage(t, first, stored, r), "demo-cp-1")
		if err := refused(inStage(t, first, renewed, r), owned); err != nil {
			t.Errorf("at %s: %v", r.Stage, err)
		}
		if r.Stage == certs.Drop {
			continue
		}
		back, err := r.Rollback()
		if err != nil {
			t.Fatal(err)
		}
		if err := refused(inStage(t, first, renewed, back), owned); err != nil {
			t.Errorf("back from %s: %v", r.Stage, err)
		}
	}
}

// What a host has been told of an authority that never came into use is known for as long as the rotation goes on.
func TestFormerAuthoritiesAreNotForeign(t *testing.T) {
	first := input(t)
	names := []string{certs.EtcdCA}
	stored := beginning(t, first, names)
	another := maps.Clone(stored)
	another[certs.NextName(certs.EtcdCA)] = sameKey(t, "Another", 1)[0]
	r := certs.Begin(names, time.Now())
	was := inStage(t, first, stored, r)
	owned := recorded(t, was, "demo-cp-1")
	now := inStage(t, first, another, r)
	if refused(now, owned) == nil {
		t.Error("an authority of which nobody knows was not refused")
	}
	former := *r
	former.Former = map[string][]string{certs.EtcdCA: was.PKI.KnownKeys(certs.EtcdCA)[1:]}
	now.PKI.Rotation = &former
	if err := refused(now, owned); err != nil {
		t.Error(err)
	}
}

// A ring holds names and fingerprints, in an order that does not tell which is in use.
func TestAuthorityRing(t *testing.T) {
	in := input(t)
	stored := beginning(t, in, authorities)
	alone := authorityRing(inStage(t, in, stored, nil).PKI)
	trust := inStage(t, in, stored, certs.Begin(authorities, time.Now()))
	issue := trust
	for r := trust.PKI.Rotation; r.Stage != certs.Issue; {
		r = r.Next(time.Now())
		issue = inStage(t, in, stored, r)
	}
	if got, want := string(authorityRing(issue.PKI)), string(authorityRing(trust.PKI)); got != want {
		t.Errorf("at issue it is %s, at trust %s", got, want)
	}
	for ring, lines := range map[string]int{string(alone): 3, string(authorityRing(trust.PKI)): 6} {
		for _, name := range authorities {
			if n := strings.Count("\n"+ring, "\n"+name+" "); n != lines/3 {
				t.Errorf("%s is there %d times: %s", name, n, ring)
			}
		}
		if len(strings.Split(ring, "\n")) != lines+1 {
			t.Errorf("%d lines are wanted: %s", lines, ring)
		}
	}
	if n := len(authorityRings(trust.PKI)); n != 27 {
		t.Errorf("%d rings are possible, want 27", n)
	}
	if got := fmt.Sprint(subsets([]string{"a", "b", "c"})); got != "[[a] [b] [a b] [c] [a c] [b c] [a b c]]" {
		t.Errorf("subsets are %s", got)
	}
	if !slices.ContainsFunc(authorityRings(trust.PKI), func(r []byte) bool { return string(r) == string(alone) }) {
		t.Error("that of before the rotation is not among them")
	}
}
