package certs

import (
	"testing"
	"time"
)

// TestAdminValidity: the administrators' certificates live as long as is said of them, fit for as
// long as they live, and are due by a part of their own life. All others are as they were.
func TestAdminValidity(t *testing.T) {
	p := policy
	p.AdminValidity = 100 * day
	pki, _ := ensure(t, nil, demo(), p, day0)
	for _, name := range []string{Admin, SuperAdmin, "scheduler@demo-cp-1"} {
		cert := parse(t, pki, name)
		want := p.LeafValidity
		if name != "scheduler@demo-cp-1" {
			want = p.AdminValidity
		}
		if got := cert.NotAfter.Sub(cert.NotBefore); got != want {
			t.Errorf("%s is valid for %v, want %v", name, got, want)
		}
	}
	for now, want := range map[time.Duration]int{0: 0, 79 * day: 0, 81 * day: 2, 101 * day: 2} {
		if _, changes := ensure(t, pki.Material, demo(), p, day0.Add(now)); len(changes) != want {
			t.Errorf("after %v, %d are renewed, want %d: %v", now, len(changes), want, changes)
		}
	}
	p.AdminValidity = time.Second
	if _, _, err := Ensure(t.Context(), nil, Table(demo()), p, day0); err == nil {
		t.Error("a second is a validity")
	}
}
