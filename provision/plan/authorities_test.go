package plan

import (
	"maps"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// A state of before the user went from one authority of theirs to another is as foreign as any other.
func TestAStateOlderThanAnOwnAuthorityIsRefused(t *testing.T) {
	fixture.Alone(t)
	first := fixture.Input(t)
	for _, name := range Authorities {
		stored := fixture.Beginning(t, first, []string{name})
		old := fixture.InStage(t, first, stored, nil)
		old.PKI.Own = []string{name}
		now := recorded(t, old, "demo-cp-1")
		for r := certs.Begin([]string{name}, time.Now()); r != nil; r = r.Next(time.Now()) {
			later := fixture.InStage(t, first, stored, r)
			later.PKI.Own = []string{name}
			owned := recorded(t, later, "demo-cp-2")
			if err := refused(old, now, owned, now); err == nil || !strings.Contains(err.Error(), "demo-cp-2: slipway wrote "+stack.AuthoritiesFile) {
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
	first, theirs := fixture.Input(t), sameKey(t, "Theirs", 2)
	names := []string{certs.EtcdCA}
	stored := fixture.Beginning(t, first, names)
	stored[certs.NextName(certs.EtcdCA)] = theirs[0]
	renewed := maps.Clone(stored)
	renewed[certs.NextName(certs.EtcdCA)] = theirs[1]
	for r := certs.Begin(names, time.Now()); r != nil; r = r.Next(time.Now()) {
		owned := recorded(t, fixture.InStage(t, first, stored, r), "demo-cp-1")
		if err := refused(fixture.InStage(t, first, renewed, r), owned); err != nil {
			t.Errorf("at %s: %v", r.Stage, err)
		}
		if r.Stage == certs.Drop {
			continue
		}
		back, err := r.Rollback()
		if err != nil {
			t.Fatal(err)
		}
		if err := refused(fixture.InStage(t, first, renewed, back), owned); err != nil {
			t.Errorf("back from %s: %v", r.Stage, err)
		}
	}
}

// What a host has been told of an authority that never came into use is known for as long as the rotation goes on.
func TestFormerAuthoritiesAreNotForeign(t *testing.T) {
	first := fixture.Input(t)
	names := []string{certs.EtcdCA}
	stored := fixture.Beginning(t, first, names)
	another := maps.Clone(stored)
	another[certs.NextName(certs.EtcdCA)] = sameKey(t, "Another", 1)[0]
	r := certs.Begin(names, time.Now())
	was := fixture.InStage(t, first, stored, r)
	owned := recorded(t, was, "demo-cp-1")
	now := fixture.InStage(t, first, another, r)
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
