package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
)

// TestChoicesOfARotation: who goes on gets what was chosen when it began, unless told otherwise.
func TestChoicesOfARotation(t *testing.T) {
	for _, tt := range []struct {
		args         []string
		stored       certs.Rotation
		manual, skip bool
	}{
		{nil, certs.Rotation{}, false, false},
		{[]string{"--no-rollout"}, certs.Rotation{}, true, false},
		{nil, certs.Rotation{NoRollout: true, SkipUnmanaged: true}, true, true},
		{[]string{"--no-rollout=false"}, certs.Rotation{NoRollout: true, SkipUnmanaged: true}, false, true},
		{[]string{"--leave-unmanaged"}, certs.Rotation{NoRollout: true}, true, true},
	} {
		cmd := newCertsRotateCACmd(&app{})
		if err := cmd.ParseFlags(tt.args); err != nil {
			t.Fatal(err)
		}
		w := rotate.Wish{NoRollout: given(cmd, "no-rollout"), SkipUnmanaged: given(cmd, "leave-unmanaged")}
		got := w.Choices(&tt.stored)
		how := plan.RollingOf(got)
		if got.NoRollout != tt.manual || got.SkipUnmanaged != tt.skip || how != (plan.Rolling{Manual: tt.manual, SkipUnmanaged: tt.skip}) {
			t.Errorf("%q after %+v: %+v, %+v", tt.args, tt.stored, got, how)
		}
	}
}

// TestAgreedTo: workloads that could not be shown in the beginning are asked about in their stage.
func TestAgreedTo(t *testing.T) {
	for _, tt := range []struct {
		agreed, unseen bool
		stage          certs.Stage
		want           bool
	}{
		{false, false, certs.Trust, false}, // gone on with: each stage is asked about
		{true, false, certs.Rollout, true},
		{true, true, certs.Rollout, false},
		{true, true, certs.Issue, true},
	} {
		if got := (&rotateRun{agreed: tt.agreed, unseen: tt.unseen}).agreedTo(tt.stage); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
}

// TestGatesOfARotation: what is refused is refused before anything is stored, where a rotation begins or goes on, and
// where it passes from stage to stage.
func TestGatesOfARotation(t *testing.T) {
	c, infra, _, _ := elsewhere(t)
	store, err := c.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := keys.Ensure(t.Context(), &keys.Stored{}, nil, c.spec, infra, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := demoRotation(t) // in stage issue
	if err := errors.Join(made.Save(t.Context(), store), keys.SaveRotation(t.Context(), store, at, nil)); err != nil {
		t.Fatal(err)
	}
	r := rotateRun{wish: rotate.Wish{Command: "certs rotate-ca", PauseAfter: "trust"}, applyRun: applyRun{work: work{app: &app{file: "cluster.yaml"}, cluster: c}}}
	c.provider, c.record = foundProvider{infra: infra}, &provision.Record{}
	r.session(store)
	if err := r.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.begin(t.Context()); err == nil || !strings.Contains(err.Error(), "is not a stage that lies ahead") {
		t.Errorf("it goes on: %v", err)
	}
	if _, err := r.pass(t.Context(), at, []string{"byhand"}); err == nil || !strings.Contains(err.Error(), "byhand") {
		t.Errorf("it passed: %v", err)
	}
	kept, err := keys.Load(t.Context(), store)
	if err != nil || kept.Rotation.Stage != certs.Issue {
		t.Errorf("it is in %v; %v", kept.Rotation, err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// TestPatience: who waits at a terminal, or wants to see everything, is told what goes on; what reads the output is not.
func TestPatience(t *testing.T) {
	for _, verbose := range []bool{true, false} {
		var out bytes.Buffer
		w := work{app: &app{stderr: &out, verbose: verbose}, cluster: &cluster{spec: &spec.Cluster{}}}
		p, shown := w.patience()
		p.Phase("workloads")
		if told := strings.Contains(out.String(), "workloads"); told != verbose || shown != verbose {
			t.Errorf("verbose %t: shown %t: %q", verbose, shown, &out)
		}
	}
}

// TestHintsNameTheCommand: what goes on is the command that has failed, but for renewing, which would begin anew.
func TestHintsNameTheCommand(t *testing.T) {
	root := newRoot(&app{})
	err := errors.Join(&host.UnreachableError{}, &host.LostError{})
	for _, tt := range []struct{ args, want string }{
		{"certs rotate-ca all", "slipway certs rotate-ca"},
		{"rotate-encryption-key --rollback", "slipway rotate-encryption-key"},
		{"certs renew apiserver", "slipway apply"},
		{"apply next.plan", "slipway apply"},
	} {
		cmd, _, findErr := root.Find(strings.Fields(tt.args))
		if findErr != nil {
			t.Fatal(findErr)
		}
		var out strings.Builder
		exitCode(context.Background(), err, resumeOf(cmd), &out)
		if n := strings.Count(out.String(), fmt.Sprintf("run `%s`: it continues", tt.want)); n != 2 || strings.Contains(out.String(), "{") {
			t.Errorf("%s: %s", tt.args, &out)
		}
	}
}

// TestHelpOfCertificates: each command that is about certificates shows how it is used.
func TestHelpOfCertificates(t *testing.T) {
	root := newRoot(&app{stdout: io.Discard, stderr: io.Discard})
	certsCmd, _, err := root.Find([]string{"certs"})
	if err != nil {
		t.Fatal(err)
	}
	rotateKey, _, err := root.Find([]string{"rotate-encryption-key"})
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range append(certsCmd.Commands(), certsCmd, rotateKey) {
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	}
}
