package plan

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

// proofLines has what a stage is proven by, in order: those of hosts with how many.
func proofLines(proofs []Proof) string {
	var lines []string
	count := map[Verb]int{}
	for _, p := range proofs {
		if count[p.Verb]++; count[p.Verb] > 1 {
			continue
		}
		lines = append(lines, fmt.Sprint(p.Verb))
	}
	for i, line := range lines {
		for v, n := range count {
			if fmt.Sprint(v) == line {
				lines[i] = fmt.Sprintf("%s %d", line, n)
			}
		}
	}
	return strings.Join(lines, ", ")
}

func TestProofsOfEveryStage(t *testing.T) {
	in := fixture.Input(t)
	all := []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA, certs.ServiceAccounts}
	is := func(parts ...any) string {
		return strings.TrimSpace(strings.ReplaceAll(fmt.Sprintln(parts...), " , ", ", "))
	}
	for _, tt := range []struct {
		names  []string
		stage  certs.Stage
		back   bool
		proofs string
	}{
		{all, certs.Trust, false, is(ProveTrust, 4, ",", AwaitRootCA, 1, ",", AwaitClientCAs, 1)},
		{all, certs.Tokens, false, ""},
		{all, certs.Rollout, false, is(RollWorkloads, 1, ",", AwaitTokens, 1)},
		{all, certs.Issue, false, is(AwaitServed, 4, ",", AwaitRootCA, 1)},
		{all, certs.Drop, false, is(ProveRefusal, 4, ",", AwaitRootCA, 1, ",", DropClientCAs, 1)},
		{all, certs.Return, true, is(AwaitServed, 4)},
		{all, certs.Drop, true, is(ProveRefusal, 4, ",", AwaitRootCA, 1, ",", DropClientCAs, 1)},
		{[]string{certs.EtcdCA}, certs.Trust, false, is(ProveTrust, 4)},
		{[]string{certs.FrontProxyCA}, certs.Trust, false, is(ProveTrust, 4, ",", AwaitClientCAs, 1)},
		{[]string{certs.FrontProxyCA}, certs.Return, true, is(AwaitServed, 4)},
		{[]string{certs.FrontProxyCA}, certs.Drop, false, is(ProveRefusal, 4, ",", DropClientCAs, 1)},
		{[]string{certs.KubernetesCA}, certs.Rollout, false, is(RollWorkloads, 1)},
		{[]string{certs.EtcdCA}, certs.Issue, false, is(AwaitServed, 4)},
		{[]string{certs.ServiceAccounts}, certs.Issue, false, ""},
		{[]string{certs.EncryptionKey}, certs.Trust, false, is(AwaitEncryption, 3)},
		{[]string{certs.EncryptionKey}, certs.Issue, false, is(AwaitEncryption, 3, ",", RewriteSecrets, 1)},
		{[]string{certs.EncryptionKey}, certs.Return, true, is(AwaitEncryption, 3, ",", RewriteSecrets, 1)},
		{[]string{certs.EncryptionKey}, certs.Drop, true, is(AwaitEncryption, 3)},
	} {
		in.PKI.Rotation = &certs.Rotation{Names: tt.names, Stage: tt.stage, Back: tt.back}
		if got := proofLines(ProveStage.Proofs(in, nil)); got != tt.proofs {
			t.Errorf("%v at %s, back %t: %s, want %s", tt.names, tt.stage, tt.back, got, tt.proofs)
		}
		if proofs := ProveNothing.Proofs(in, nil); len(proofs) > 0 {
			t.Errorf("nothing is to be proven, and %v is", proofs)
		}
	}
	in.PKI.Rotation = nil
	if proofs := ProveStage.Proofs(in, nil); len(proofs) > 0 {
		t.Errorf("without a rotation: %v", proofs)
	}
	changes := []Change{
		{Host: "b", Kind: FileChange, Action: Update, Name: stack.PKIDir + "/kube-proxy.crt"},
		{Host: "a", Kind: FileChange, Action: Update, Name: stack.PKIDir + "/scheduler.crt"},
		{Host: "c", Kind: FileChange, Action: Update, Name: stack.PKIDir + "/apiserver.crt"},
	}
	if proofs := ProveClients.Proofs(in, changes); !slices.Equal(proofs, []Proof{{AwaitPresented, "a"}, {AwaitPresented, "b"}}) {
		t.Errorf("of clients: %v", proofs)
	}
}

// Pods that are rolled read kube-root-ca.crt: whichever stages a rotation has, it is proven to have the new authority before.
func TestWorkloadsAreRolledOnceTheyAreToldWhomToTrust(t *testing.T) {
	in := fixture.Input(t)
	names := []string{certs.KubernetesCA, certs.ServiceAccounts}
	for _, r := range []*certs.Rotation{certs.Begin(names, time.Now()), certs.BeginExpired(names, time.Now())} {
		told := false
		for ; r.Stage != certs.Rollout; r = r.Next(time.Now()) {
			in.PKI.Rotation = r
			proofs := ProveStage.Proofs(in, nil)
			told = told || slices.Contains(proofs, Proof{Verb: AwaitRootCA})
		}
		if !told {
			t.Errorf("%v: nothing has proven it", r)
		}
	}
}

// Proofs come after all that is done: those of a host after its own steps, those of the cluster after everything, in order.
func TestScheduleEndsWithProofs(t *testing.T) {
	s := Situation{Machines: fixture.Machines(1, 1), Alive: true, Changes: changed("cp-1"), Proofs: []Proof{
		{ProveTrust, "cp-1"}, {ProveTrust, "w-1"}, {RollWorkloads, ""}, {AwaitTokens, ""},
	}}
	step := func(v Verb, host string) string { return newStep(v, host, nil, nil).Name }
	want := map[string][]string{
		step(ProveTrust, "cp-1"): {step(EnsureNode, "cp-1")},
		step(ProveTrust, "w-1"):  nil,
		step(RollWorkloads, ""):  {step(ProveTrust, "cp-1"), step(ProveTrust, "w-1")},
		step(AwaitTokens, ""):    {step(RollWorkloads, "")},
	}
	check := func(s Situation) {
		t.Helper()
		found := 0
		for _, got := range Schedule(s) {
			if deps, ok := want[got.Name]; ok {
				found++
				if !slices.Equal(got.Deps, deps) {
					t.Errorf("%s waits for %q, want %q", got.Name, got.Deps, deps)
				}
			}
		}
		if found != len(want) {
			t.Errorf("got\n%s", listed(Schedule(s)))
		}
	}
	check(s)
	s.Changes = nil // nothing differs, and proofs are wanted all the same
	want[step(ProveTrust, "cp-1")] = nil
	check(s)
	s.Selected = []string{"cp-1"}
	if text := listed(Schedule(s)); strings.Contains(text, step(ProveTrust, "w-1")) {
		t.Errorf("what is not selected is proven:\n%s", text)
	}
}
