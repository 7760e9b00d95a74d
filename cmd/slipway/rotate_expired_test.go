package main

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
)

// run is a rotation by a command, in k's cluster.
func (k *keeper) run(command string) *rotateRun {
	app := &app{own: k.own, stdout: k.Output(), stderr: k.Output()}
	return &rotateRun{applyRun: applyRun{work: work{app: app, cluster: &cluster{spec: k.spec}, found: k.infra}}, command: command}
}

// expire puts an authority that has expired an hour ago in the place of one that is stored.
func (k *keeper) expire(stored certs.Material, at, name string) {
	k.Helper()
	policy := certPolicy(k.spec.Spec.PKI, nil)
	policy.CAValidity = time.Hour
	items, err := certs.NewItems([]string{name}, k.run("").requests(), policy, time.Now().Add(-2*time.Hour))
	k.must(err)
	stored[at] = items[certs.NextName(name)]
}

// TestARotationDuringWhichSomethingExpires can be gone on with, which replaces that, too, and says so.
func TestARotationDuringWhichSomethingExpires(t *testing.T) {
	const ca, key = "certs rotate-ca", "rotate-encryption-key"
	kubernetes, etcd, encryption := []string{certs.KubernetesCA}, []string{certs.EtcdCA}, []string{certs.EncryptionKey}
	for name, tt := range map[string]struct {
		under   []string
		stage   certs.Stage
		expired string
		command string
		words   []string
		back    bool
		want    []string // names, where it goes on with others
		refused string
	}{
		"goes on":                        {under: kubernetes, stage: certs.Trust, expired: certs.EtcdCA, command: ca, want: []string{certs.KubernetesCA, certs.EtcdCA}},
		"goes on with its name":          {under: kubernetes, stage: certs.Issue, expired: certs.EtcdCA, command: ca, words: kubernetes, want: []string{certs.KubernetesCA, certs.EtcdCA}},
		"goes on with what expired":      {under: kubernetes, stage: certs.Drop, expired: certs.EtcdCA, command: ca, words: etcd, want: []string{certs.KubernetesCA, certs.EtcdCA}},
		"the old one":                    {under: etcd, stage: certs.Trust, expired: certs.EtcdCA, command: ca, want: etcd},
		"the old one, which is not used": {under: etcd, stage: certs.Issue, expired: certs.EtcdCA, command: ca},
		"the new one, which is used":     {under: etcd, stage: certs.Issue, expired: certs.NextName(certs.EtcdCA), command: ca, want: etcd},
		"of the key of Secrets":          {under: encryption, stage: certs.Trust, expired: certs.EtcdCA, command: ca, want: []string{certs.EtcdCA, certs.EncryptionKey}},
		"by the other command":           {under: encryption, stage: certs.Trust, expired: certs.EtcdCA, command: key, words: encryption, refused: "end it, with `slipway certs rotate-ca`"},
		"another one":                    {under: kubernetes, stage: certs.Trust, expired: certs.EtcdCA, command: ca, words: []string{certs.FrontProxyCA}, refused: "authority etcd has expired during the rotation of kubernetes: stage trust"},
		"back":                           {under: kubernetes, stage: certs.Trust, expired: certs.EtcdCA, command: ca, back: true, refused: "cannot go back, since authority etcd has expired meanwhile"},
		"back to what has not":           {under: etcd, stage: certs.Issue, expired: certs.NextName(certs.EtcdCA), command: ca, back: true},
		"nothing is under way":           {expired: certs.EtcdCA, command: ca, words: kubernetes, refused: "replaced by themselves first, at once: `slipway certs rotate-ca etcd`"},
		"nothing is, and that is named":  {expired: certs.EtcdCA, command: ca, words: etcd, want: etcd},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper(t)
			_, all := k.load()
			s := &stored{Material: maps.Clone(all.made)}
			if tt.under != nil {
				items, err := k.run("").newItems(s, tt.under)
				k.must(err)
				maps.Copy(s.Material, items)
				for s.Rotation = certs.Begin(tt.under, time.Now()); s.Rotation.Stage != tt.stage; {
					s.Rotation = s.Rotation.Next(time.Now())
				}
			}
			k.expire(s.Material, tt.expired, strings.TrimSuffix(tt.expired, ".next"))
			run := k.run(tt.command)
			run.rollback = tt.back
			got, items, err := run.choose(s, tt.words)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("got %v, %v, want %s", got, err, tt.refused)
				}
				return
			}
			k.must(err)
			if tt.want == nil {
				if got.Expired || len(items) > 0 || !slices.Equal(got.Names, tt.under) {
					t.Errorf("it is %v, with %d items", got, len(items))
				}
				return
			}
			if !slices.Equal(got.Names, tt.want) || got.Stage != certs.Issue || !got.Expired {
				t.Errorf("it is %v of %v, want %v", got, got.Names, tt.want)
			}
			o := newOverview("demo", got)
			o.expire(run.expired(s, s.Rotation), got, s.Rotation)
			if !slices.Equal(o.Expired, []string{"etcd"}) || (o.Under == "") != (tt.under == nil) {
				t.Errorf("expired are %v, under way is %q", o.Expired, o.Under)
			}
			maps.Copy(s.Material, items)
			for s.Rotation = got; s.Rotation != nil; s.Rotation = s.Rotation.Next(time.Now()) {
				if _, err := secretsOf(t.Context(), s, nil, k.spec, k.infra, nil); err != nil {
					t.Errorf("at %v: %v", s.Rotation, err)
				}
			}
		})
	}
}

// TestAnOwnAuthorityThatHasExpired and that the spec gives anew needs no rotation.
func TestAnOwnAuthorityThatHasExpired(t *testing.T) {
	k := newKeeper(t)
	_, all := k.load()
	s := &stored{Material: all.made}
	k.expire(s.Material, certs.EtcdCA, certs.EtcdCA)
	if got := k.run("").expired(s, nil); !slices.Equal(got, []string{certs.EtcdCA}) {
		t.Errorf("expired are %v", got)
	}
	k.own = map[string]certs.Item{certs.EtcdCA: s.Material[certs.EtcdCA]} // of the same key and subject
	if got := k.run("").expired(s, nil); len(got) > 0 {
		t.Errorf("expired are %v", got)
	}
}

// TestLeavingAnAuthorityElsewhere: before a rotation from an authority whose key was never here to one of slipway's is
// stored, the cluster is looked at, and the spec does not name the old one any more.
func TestLeavingAnAuthorityElsewhere(t *testing.T) {
	k := newKeeper(t)
	_, all := k.load()
	s := &stored{Material: maps.Clone(all.made)}
	s.Material[certs.EtcdCA] = certs.Item{Cert: all.made[certs.EtcdCA].Cert}
	if _, err := secretsOf(t.Context(), s, nil, k.spec, k.infra, nil); !errors.Is(err, certs.ErrNoKey) {
		t.Errorf("got %v", err)
	}
	s.Leaving = []string{certs.EtcdCA}
	if _, err := secretsOf(t.Context(), s, nil, k.spec, k.infra, nil); err != nil {
		t.Error(err)
	}
}

// TestSurveyOfAnAuthorityElsewhere comes as far as asking the machines, which do not answer, and the bundle, which is empty.
func TestSurveyOfAnAuthorityElsewhere(t *testing.T) {
	k := newKeeper(t)
	_, all := k.load()
	all.made[certs.EtcdCA] = certs.Item{Cert: all.made[certs.EtcdCA].Cert}
	k.must(k.store.Put(t.Context(), flat(all.made)))
	s, err := loadSecrets(t.Context(), k.store)
	k.must(err)
	names := []string{certs.EtcdCA}
	run := k.run("certs rotate-ca")
	run.store, run.connectTimeout, run.progress = k.store, time.Nanosecond, newProgress(io.Discard, false, io.Discard, nil)
	rotation, items, err := run.choose(s, names)
	k.must(err)
	maps.Copy(s.Material, items)
	o := newOverview("demo", rotation)
	o.begins = true
	if err := run.survey(t.Context(), o, s, rotation, nil); err == nil || errors.Is(err, certs.ErrNoKey) {
		t.Errorf("the survey ends with %v", err)
	}
	if _, err := run.stages(t.Context(), s, rotation, nil); err == nil || errors.Is(err, certs.ErrNoKey) {
		t.Errorf("the stages end with %v", err)
	}
}

// TestOverviewOfWhatHasExpired says it to people.
func TestOverviewOfWhatHasExpired(t *testing.T) {
	under := certs.Begin([]string{certs.KubernetesCA}, time.Now())
	rotation := certs.BeginExpired([]string{certs.KubernetesCA, certs.EtcdCA}, time.Now())
	o := newOverview("demo", rotation)
	o.expire([]string{certs.EtcdCA}, rotation, under)
	o.Unasked = "certificate has expired"
	o.users = false
	for r := rotation; r != nil; r = r.Next(time.Now()) {
		o.Stages = append(o.Stages, stageOverview{Stage: r.Stage, What: stageWords[r.Stage]})
	}
	var out strings.Builder
	if err := o.print(&out); err != nil {
		t.Fatal(err)
	}
	goldenText(t, "rotate-expired", out.String())
}
