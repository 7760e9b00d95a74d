package rotate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/testing/fixture"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
)

// TestPauseAhead: to pause after a stage that has passed would be never to pause.
func TestPauseAhead(t *testing.T) {
	at := certs.Begin([]string{certs.KubernetesCA, certs.ServiceAccounts}, time.Now())
	for at.Stage != certs.Issue {
		at = at.Next(time.Now())
	}
	for stage, ok := range map[string]bool{"": true, "issue": true, "trust": false, "rollout": false, "drop": false, "nonsense": false} {
		err := rotate.Wish{PauseAfter: stage}.CheckPause(at)
		if (err == nil) != ok {
			t.Errorf("--pause-after %s: %v", stage, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "stage issue, 4 of 5") || !strings.Contains(err.Error(), "can pause after: issue;")) {
			t.Errorf("it does not say where the rotation is: %v", err)
		}
	}
	if err := (rotate.Wish{PauseAfter: "drop"}).CheckPause(at.Next(at.Began)); err == nil || !strings.Contains(err.Error(), "can pause after: none;") {
		t.Errorf("in the last stage: %v", err)
	}
}

// TestStrays: a node that slipway does not reach would be cut off by another Kubernetes CA, and by nothing else.
func TestStrays(t *testing.T) {
	infra := &spec.Infrastructure{Machines: []spec.Machine{{Name: "demo-cp-1"}, {Name: "demo-worker-1"}}}
	if got := rotate.UnmanagedNodes([]string{"demo-cp-1", "demo-worker-1"}, infra, "cluster.yaml"); got != nil {
		t.Errorf("the spec's own are strays: %v", got)
	}
	infra.Surplus = []spec.Machine{{Name: "demo-worker-2"}, {Name: "demo-worker-3"}} // the last is no node
	var names []string
	for _, s := range rotate.UnmanagedNodes([]string{"byhand", "demo-cp-1", "demo-worker-1", "demo-worker-2"}, infra, "cluster.yaml") {
		names = append(names, s.Name)
		if !strings.Contains(s.Why, "`kubectl delete node "+s.Name+"`") || !strings.Contains(s.Why, "cluster.yaml") {
			t.Errorf("no remedy: %v", s)
		}
	}
	if want := []string{"byhand", "demo-worker-2", "demo-worker-3"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	began := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	all := []string{certs.KubernetesCA, certs.EtcdCA}
	back, err := certs.Begin(all, began).Rollback()
	if err != nil {
		t.Fatal(err)
	}
	at := func(r *certs.Rotation, stage certs.Stage) *certs.Rotation {
		for ; r != nil && r.Stage != stage; r = r.Next(began) {
		}
		return r
	}
	for _, tt := range []struct {
		next    *certs.Rotation
		refused bool
	}{
		{at(certs.Begin(all, began), certs.Rollout), false},
		{at(certs.Begin(all, began), certs.Issue), true},
		{at(certs.Begin(all, began), certs.Drop), true},
		{at(certs.Begin([]string{certs.EtcdCA, certs.FrontProxyCA, certs.ServiceAccounts}, began), certs.Issue), false},
		{at(certs.Begin([]string{certs.EncryptionKey}, began), certs.Issue), false},
		{at(certs.BeginExpired(all, began), certs.Drop), false},
		{at(back, certs.Drop), false},
		{nil, false},
	} {
		err := rotate.RefuseNext(tt.next, []string{"byhand"}, infra, "cluster.yaml", "certs rotate-ca")
		if (err != nil) != tt.refused {
			t.Errorf("%v: %v", tt.next, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "was not started") || !strings.Contains(err.Error(), "\n  byhand: ")) {
			t.Errorf("%v: %v", tt.next, err)
		}
	}
}

// TestReplacedByItself: an authority of the spec that is in use already, perhaps with another certificate, replaces nothing.
func TestReplacedByItself(t *testing.T) {
	dir := t.TempDir()
	fixture.OpenSSL(t, dir, "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "3000", "-subj", "/CN=Etcd", "-keyout", "etcd.key", "-out", "etcd.crt")
	names := []string{certs.KubernetesCA, certs.EtcdCA, certs.ServiceAccounts}
	in := certs.Material{certs.EtcdCA: {Cert: fixture.FileOf(t, dir, "etcd.crt")}}
	fixture.OpenSSL(t, dir, "req", "-x509", "-key", "etcd.key", "-days", "4000", "-subj", "/CN=Etcd", "-out", "again.crt")
	for _, file := range []string{"etcd.crt", "again.crt"} {
		text := fixture.FileOf(t, dir, file)
		const want = "the spec's own CA etcd is the one in use: put the new CA's files into spec.pki.authorities.etcd first; nothing was changed"
		if err := rotate.CheckReplaced(names, in, map[string]certs.Item{certs.EtcdCA: {Cert: text}}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", file, err)
		}
	}
	fixture.OpenSSL(t, dir, "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "3000", "-subj", "/CN=Etcd", "-keyout", "other.key", "-out", "other.crt")
	for _, own := range []map[string]certs.Item{nil, {certs.EtcdCA: {Cert: fixture.FileOf(t, dir, "other.crt")}}} {
		if err := rotate.CheckReplaced(names, in, own); err != nil {
			t.Errorf("refused: %v", err)
		}
	}
}
