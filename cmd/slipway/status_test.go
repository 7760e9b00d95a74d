package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision"
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
	line := "rotation of kubernetes, service-account: stage issue, 4 of 5, under way since " + r.Began.Local().Format(time.DateTime) +
		": `slipway certs rotate-ca` goes on\n"
	for _, rotation := range []*certs.Rotation{nil, r} {
		var out strings.Builder
		s := &provision.Status{Cluster: "demo", Rotation: rotation}
		if err := printStatus(&out, s, time.Now()); err != nil {
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

// TestNotesOfARotation: who only plans or applies is told of a rotation, and who goes on with it knows.
func TestNotesOfARotation(t *testing.T) {
	w := work{app: &app{remarks: []string{"a remark"}}, secrets: &secrets{PKI: &certs.PKI{Rotation: demoRotation(t)}}}
	if got := w.notes(); len(got) != 2 || got[0] != "a remark" || !strings.HasPrefix(got[1], "rotation of kubernetes, service-account: stage issue") {
		t.Errorf("the notes are %q", got)
	}
	if w.prove = provision.ProveStage; len(w.notes()) != 1 {
		t.Errorf("the notes are %q", w.notes())
	}
}
