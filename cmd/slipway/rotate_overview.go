package main

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/users"
)

// rotationOverview is what a rotation is going to do, before anything of it is done. Its JSON is documented in
// docs/certificates.md.
type rotationOverview struct {
	Cluster string `json:"cluster"`
	// Names of what is rotated, as people call it.
	Names []string `json:"names"`
	// Back says that it returns to the old.
	Back bool `json:"back"`
	// Expired are authorities that have, as people call them: the rotation replaces them at once.
	Expired []string `json:"expired"`
	// Under is the rotation that is under way, and goes on with what has expired meanwhile.
	Under  string          `json:"under,omitempty"`
	Stages []stageOverview `json:"stages"`
	// Workloads that the stage rollout, where it lies ahead, replaces or leaves.
	Workloads []rolledWorkload `json:"workloads"`
	// Blocked are reasons why workloads cannot be replaced, as things are: it does not begin.
	Blocked []string `json:"blocked"`
	// TokenSecrets ("namespace/name") have tokens that the stage rollout waits for people to have made anew.
	TokenSecrets []string `json:"tokenSecrets"`
	// Strays are nodes that would be cut off: it does not begin, nor go on to stage issue.
	Strays []strayNode `json:"strays"`
	// Unasked says why the API could not be asked for these; of a rotation that begins only where authorities have expired.
	Unasked string `json:"unasked,omitempty"`
	// Kubeconfigs that stop working.
	Kubeconfigs []lostKubeconfig `json:"kubeconfigs"`
	// OtherChanges are not the rotation's, which its first stage would carry out, too: it does not begin.
	OtherChanges int `json:"otherChanges"`

	rolls, users bool // whether it has still to do with workloads, and whether with kubeconfigs
	begins       bool
	forsakes     bool // does not wait for what nothing would replace
	file         string
}

type stageOverview struct {
	Stage certs.Stage `json:"stage"`
	What  string      `json:"what"`
	// Restarts are units, without their suffix.
	Restarts []string `json:"restarts"`
	// Signatures are how many certificates have to be signed elsewhere before it.
	Signatures int `json:"signatures"`
}

// rolledWorkload is one with what becomes of its pods.
type rolledWorkload struct {
	kube.Workload
	How string `json:"how"`
}

// lostKubeconfig is one that was handed out.
type lostKubeconfig struct {
	users.User
	// DistrustsFrom is the stage from which it takes no server for the cluster's, since it knows only the authority of
	// before; empty where it knows both.
	DistrustsFrom certs.Stage `json:"distrustsFrom,omitempty"`
	// RefusedFrom is the stage from which no server takes its certificate.
	RefusedFrom certs.Stage `json:"refusedFrom"`
}

func newOverview(cluster string, r *certs.Rotation) *rotationOverview {
	return &rotationOverview{
		Cluster: cluster, Names: r.PlainNames(), Back: r.Back, Workloads: []rolledWorkload{}, Blocked: []string{}, TokenSecrets: []string{},
		Strays: []strayNode{}, Kubeconfigs: []lostKubeconfig{}, Expired: []string{},
		rolls: slices.Contains(r.Remaining(), certs.Rollout), users: r.Has(certs.KubernetesCA), forsakes: r.LeaveUnmanaged,
	}
}

// overview finds out what a rotation is going to do. One that begins needs a cluster that answers; to go on with one
// must be possible without.
func (r *rotateRun) overview(ctx context.Context, s *stored, rotation *certs.Rotation, items certs.Material) (o *rotationOverview, err error) {
	r.progress, _ = r.patience()
	defer func() { r.progress.Done(err) }()
	r.progress.Phase("bundle")
	artifacts, err := r.ensureBundle(ctx)
	if err != nil {
		return nil, err
	}
	o = newOverview(r.spec.Metadata.Name, rotation)
	o.begins, o.file = s.Rotation == nil, r.file
	o.expire(r.expired(s, s.Rotation), rotation, s.Rotation)
	s = &stored{Material: maps.Clone(s.Material), Rotation: s.Rotation, Users: s.Users}
	maps.Copy(s.Material, items)
	if o.users {
		users, err := users.ReadUsers(s.Users.Reveal())
		if err != nil {
			return nil, err
		}
		o.Kubeconfigs = lostKubeconfigs(users, rotation, s.Material, time.Now())
	}
	if err := r.survey(ctx, o, s, rotation, artifacts); err != nil {
		return nil, err
	}
	o.Stages, err = r.stages(ctx, s, rotation, artifacts)
	return o, err
}

// expire says what has expired, in a rotation that replaces it, and which one was under way until then, nil for none.
func (o *rotationOverview) expire(names []string, rotation, under *certs.Rotation) {
	if len(names) == 0 || !rotation.Expired {
		return
	}
	o.Expired = (&certs.Rotation{Names: names}).PlainNames()
	if under != nil {
		o.Under = under.String()
	}
}

// lostKubeconfigs are those of users that work now and stop during a rotation of the Kubernetes CA.
func lostKubeconfigs(issued users.Users, r *certs.Rotation, stored certs.Material, now time.Time) []lostKubeconfig {
	dropped, kept := stored[certs.KubernetesCA].Cert, stored[certs.NextName(certs.KubernetesCA)].Cert
	if r.Back {
		dropped, kept = kept, dropped
	}
	lost := []lostKubeconfig{}
	for _, u := range issued {
		if u.State(dropped, now) != users.UserValid {
			continue
		}
		l := lostKubeconfig{User: u, RefusedFrom: certs.Drop}
		if !r.Back && u.Issued.Before(r.Began) && !shareCertificate(dropped, kept) {
			l.DistrustsFrom = certs.Issue
		}
		lost = append(lost, l)
	}
	return lost
}

// shareCertificate says whether two authorities have a certificate in common, the root above them: who knows that trusts
// servers of both.
func shareCertificate(a, b []byte) bool {
	these, err := certs.Parse(a)
	those, err2 := certs.Parse(b)
	return errors.Join(err, err2) == nil && slices.ContainsFunc(these, func(c *x509.Certificate) bool { return slices.ContainsFunc(those, c.Equal) })
}

// stages predicts, as a plan does, what each stage restarts: by the desired states before and after.
func (r *rotateRun) stages(ctx context.Context, s *stored, rotation *certs.Rotation, artifacts map[string]stack.Artifact) ([]stageOverview, error) {
	s.Leaving = rotation.Names
	var before stack.State // of authorities that have expired nothing can be issued: nothing is predicted
	if !rotation.Expired {
		var err error
		if before, _, err = r.desiredAt(ctx, s, artifacts); err != nil {
			return nil, err
		}
	}
	var all []stageOverview
	for at := rotation; at != nil; at = at.Next(time.Now()) {
		s.Rotation = at
		after, unsigned, err := r.desiredAt(ctx, s, artifacts)
		if err != nil {
			return nil, err
		}
		restarts := append([]string{}, plan.Restarts(before, after)...)
		all = append(all, stageOverview{at.Stage, stageWords[at.Stage], restarts, unsigned})
		before = after
	}
	return all, nil
}

// desiredAt is the desired state of the stage that s is in, and how many certificates it lacks that are signed elsewhere.
// What the stage issues s keeps, for the next one.
func (r *rotateRun) desiredAt(ctx context.Context, s *stored, artifacts map[string]stack.Artifact) (stack.State, int, error) {
	secrets, err := secretsOf(ctx, s, nil, r.spec, r.found, r.own)
	unsigned := 0
	if pending := new(certs.PendingError); errors.As(err, &pending) {
		unsigned = len(pending.Names)
	} else if err != nil {
		return stack.State{}, 0, err
	}
	maps.Copy(s.Material, secrets.made)
	state, err := stack.Desired(stack.Input{
		Cluster: r.spec, Machines: r.found.Machines, Endpoint: endpoint(r.spec, r.found), Artifacts: artifacts,
		PKI: secrets.PKI, EncryptionKeys: secrets.EncryptionKeys,
	})
	return state, unsigned, err
}
