package rotate

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/users"
)

// Overview is what a rotation is going to do, before anything of it is done. Its JSON is documented in
// docs/certificates.md.
type Overview struct {
	Cluster string `json:"cluster"`
	// Names of what is rotated, as people call it.
	Names []string `json:"names"`
	// Back says that it returns to the old.
	Back bool `json:"back"`
	// Expired are authorities that have, as people call them: the rotation replaces them at once.
	Expired []string `json:"expired"`
	// Under is the rotation that is under way, and goes on with what has expired meanwhile.
	Under  string  `json:"under,omitempty"`
	Stages []Stage `json:"stages"`
	// Workloads that the stage rollout, where it lies ahead, replaces or leaves.
	Workloads []rolledWorkload `json:"workloads"`
	// Blocked are reasons why workloads cannot be replaced, as things are: it does not begin.
	Blocked []string `json:"blocked"`
	// TokenSecrets ("namespace/name") have tokens that the stage rollout waits for people to have made anew.
	TokenSecrets []string `json:"tokenSecrets"`
	// Unmanaged are nodes that would lose access to the API server. With any, a rotation neither begins nor
	// continues to stage issue.
	Unmanaged []UnmanagedNode `json:"strays"`
	// APIError says why the API could not be queried for these. When a rotation begins, that is allowed only if CAs have
	// expired.
	APIError string `json:"unasked,omitempty"`
	// Kubeconfigs that stop working.
	Kubeconfigs []LostKubeconfig `json:"kubeconfigs"`
	// OtherChanges are not the rotation's, which its first stage would carry out, too: it does not begin.
	OtherChanges int `json:"otherChanges"`

	// Rolls and Users report whether workloads and kubeconfigs are still affected.
	Rolls bool `json:"-"`
	Users bool `json:"-"`
	// Begins reports whether no rotation is under way yet.
	Begins bool `json:"-"`
	// SkipUnmanaged reports whether workloads without a controller are not waited for.
	SkipUnmanaged bool `json:"-"`
	// File is where the spec was read.
	File string `json:"-"`
}

// Stage is one stage that lies ahead.
type Stage struct {
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

// LostKubeconfig is one that was handed out.
type LostKubeconfig struct {
	users.User
	// DistrustsFrom is the stage from which it takes no server for the cluster's, since it knows only the authority of
	// before; empty where it knows both.
	DistrustsFrom certs.Stage `json:"distrustsFrom,omitempty"`
	// RefusedFrom is the stage from which no server takes its certificate.
	RefusedFrom certs.Stage `json:"refusedFrom"`
}

// NewOverview is the overview of a rotation, with nothing in it yet but what the rotation itself says.
func NewOverview(cluster string, r *certs.Rotation) *Overview {
	return &Overview{
		Cluster: cluster, Names: r.PlainNames(), Back: r.Back, Workloads: []rolledWorkload{}, Blocked: []string{}, TokenSecrets: []string{},
		Unmanaged: []UnmanagedNode{}, Kubeconfigs: []LostKubeconfig{}, Expired: []string{},
		Rolls: slices.Contains(r.Remaining(), certs.Rollout), Users: r.Has(certs.KubernetesCA), SkipUnmanaged: r.SkipUnmanaged,
	}
}

// Overview works out what a rotation is going to do, but for what only the cluster knows. under is the rotation under way,
// nil for none; items are what a new one brings.
func (c Cluster) Overview(s *keys.Stored, rotation *certs.Rotation, items certs.Material) (*Overview, *keys.Stored, error) {
	o := NewOverview(c.Spec.Metadata.Name, rotation)
	o.Begins, o.File = s.Rotation == nil, c.File
	o.Expire(c.Expired(s, s.Rotation), rotation, s.Rotation)
	s = &keys.Stored{Material: maps.Clone(s.Material), Rotation: s.Rotation, Users: s.Users}
	maps.Copy(s.Material, items)
	if o.Users {
		issued, err := users.ReadUsers(s.Users.Reveal())
		if err != nil {
			return nil, nil, err
		}
		o.Kubeconfigs = LostKubeconfigs(issued, rotation, s.Material, time.Now())
	}
	return o, s, nil
}

// Expire says what has expired, in a rotation that replaces it, and which one was under way until then, nil for none.
func (o *Overview) Expire(names []string, rotation, under *certs.Rotation) {
	if len(names) == 0 || !rotation.Expired {
		return
	}
	o.Expired = (&certs.Rotation{Names: names}).PlainNames()
	if under != nil {
		o.Under = under.String()
	}
}

// LostKubeconfigs are those of users that work now and stop during a rotation of the Kubernetes CA.
func LostKubeconfigs(issued users.Users, r *certs.Rotation, stored certs.Material, now time.Time) []LostKubeconfig {
	dropped, kept := stored[certs.KubernetesCA].Cert, stored[certs.NextName(certs.KubernetesCA)].Cert
	if r.Back {
		dropped, kept = kept, dropped
	}
	lost := []LostKubeconfig{}
	for _, u := range issued {
		if u.State(dropped, now) != users.UserValid {
			continue
		}
		l := LostKubeconfig{User: u, RefusedFrom: certs.Drop}
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

// Stages predicts, as a plan does, what each stage restarts: by the desired states before and after.
func (c Cluster) Stages(ctx context.Context, s *keys.Stored, rotation *certs.Rotation) ([]Stage, error) {
	s.Leaving = rotation.Names
	var before stack.State // of authorities that have expired nothing can be issued: nothing is predicted
	if !rotation.Expired {
		var err error
		if before, _, err = c.desiredAt(ctx, s); err != nil {
			return nil, err
		}
	}
	var all []Stage
	for at := rotation; at != nil; at = at.Next(time.Now()) {
		s.Rotation = at
		after, unsigned, err := c.desiredAt(ctx, s)
		if err != nil {
			return nil, err
		}
		restarts := append([]string{}, plan.Restarts(before, after)...)
		all = append(all, Stage{at.Stage, StageWords[at.Stage], restarts, unsigned})
		before = after
	}
	return all, nil
}

// desiredAt is the desired state of the stage that s is in, and how many certificates it lacks that are signed elsewhere.
// What the stage issues s keeps, for the next one.
func (c Cluster) desiredAt(ctx context.Context, s *keys.Stored) (stack.State, int, error) {
	secrets, err := keys.Ensure(ctx, s, nil, c.Spec, c.Found, c.Own)
	unsigned := 0
	if pending := new(certs.PendingError); errors.As(err, &pending) {
		unsigned = len(pending.Names)
	} else if err != nil {
		return stack.State{}, 0, err
	}
	maps.Copy(s.Material, secrets.Made)
	state, err := stack.Desired(stack.Input{
		Cluster: c.Spec, Machines: c.Found.Machines, Endpoint: stack.ExternalEndpoint(c.Spec, c.Found), Artifacts: c.Artifacts,
		PKI: secrets.PKI, EncryptionKeys: secrets.EncryptionKeys,
	})
	return state, unsigned, err
}

// StageWords say what a stage does, to people.
var StageWords = map[certs.Stage]string{
	certs.Trust:   "old and new are trusted",
	certs.Tokens:  "tokens are signed with the new key",
	certs.Rollout: "workloads are replaced",
	certs.Issue:   "the new one is used",
	certs.Drop:    "the other one is trusted no more",
	certs.Return:  "the old one is used again",
}
