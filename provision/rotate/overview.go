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

// Overview is what a rotation will do, before any of it is done. Its JSON is documented in
// docs/certificates.md.
type Overview struct {
	Cluster string `json:"cluster"`
	// Names of the rotated items, for people.
	Names []string `json:"names"`
	// Back means a rollback.
	Back bool `json:"back"`
	// Expired are the expired CAs, by plain name: the rotation replaces them at once.
	Expired []string `json:"expired"`
	// Under is the current rotation, if it continues with CAs that have expired since.
	Under  string  `json:"under,omitempty"`
	Stages []Stage `json:"stages"`
	// Workloads that the stage rollout, if it lies ahead, replaces or leaves to the user.
	Workloads []rolledWorkload `json:"workloads"`
	// Blocked are reasons why workloads cannot be replaced: with any, it does not begin.
	Blocked []string `json:"blocked"`
	// TokenSecrets ("namespace/name") have tokens that users have to renew; the stage rollout waits
	// for that.
	TokenSecrets []string `json:"tokenSecrets"`
	// Unmanaged are nodes that would lose access to the API server. With any, a rotation neither begins nor
	// continues to stage issue.
	Unmanaged []UnmanagedNode `json:"strays"`
	// APIError says why the API could not be queried for these. When a rotation begins, that is allowed only if CAs have
	// expired.
	APIError string `json:"unasked,omitempty"`
	// Kubeconfigs that stop working.
	Kubeconfigs []LostKubeconfig `json:"kubeconfigs"`
	// OtherChanges are pending changes besides the rotation, which its first stage would make, too:
	// with any, it does not begin.
	OtherChanges int `json:"otherChanges"`

	// Rolls and Users report whether workloads and kubeconfigs are still affected.
	Rolls bool `json:"-"`
	Users bool `json:"-"`
	// Begins reports whether no rotation is running yet.
	Begins bool `json:"-"`
	// SkipUnmanaged reports whether workloads without a controller are not waited for.
	SkipUnmanaged bool `json:"-"`
	// File is the path of the spec.
	File string `json:"-"`
}

// Stage is one stage that lies ahead.
type Stage struct {
	Stage certs.Stage `json:"stage"`
	What  string      `json:"what"`
	// Restarts are units, without their suffix.
	Restarts []string `json:"restarts"`
	// Signatures are how many certificates an external CA has to sign before it.
	Signatures int `json:"signatures"`
}

// rolledWorkload is a workload, with what happens to its pods.
type rolledWorkload struct {
	kube.Workload
	How string `json:"how"`
}

// LostKubeconfig is an issued kubeconfig that stops working.
type LostKubeconfig struct {
	users.User
	// DistrustsFrom is the stage from which it no longer trusts the servers, since it contains only
	// the old CA; empty if it contains both.
	DistrustsFrom certs.Stage `json:"distrustsFrom,omitempty"`
	// RefusedFrom is the stage from which servers refuse its certificate.
	RefusedFrom certs.Stage `json:"refusedFrom"`
}

// NewOverview returns an overview with the data of the rotation itself.
func NewOverview(cluster string, r *certs.Rotation) *Overview {
	return &Overview{
		Cluster: cluster, Names: r.PlainNames(), Back: r.Back, Workloads: []rolledWorkload{}, Blocked: []string{}, TokenSecrets: []string{},
		Unmanaged: []UnmanagedNode{}, Kubeconfigs: []LostKubeconfig{}, Expired: []string{},
		Rolls: slices.Contains(r.Remaining(), certs.Rollout), Users: r.Has(certs.KubernetesCA), SkipUnmanaged: r.SkipUnmanaged,
	}
}

// Overview determines what a rotation will do, without the data of the running cluster. under is
// the current rotation, nil for none; items are the new ones of a new rotation.
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

// Expire adds expired CAs, in a rotation that replaces them, and the rotation that was running
// until then, nil for none.
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

// shareCertificate reports whether two CAs have a certificate in common, the root above them:
// whoever trusts that root trusts the servers of both.
func shareCertificate(a, b []byte) bool {
	these, err := certs.Parse(a)
	those, err2 := certs.Parse(b)
	return errors.Join(err, err2) == nil && slices.ContainsFunc(these, func(c *x509.Certificate) bool { return slices.ContainsFunc(those, c.Equal) })
}

// Stages predicts, as a plan does, what each stage restarts: by the desired states before and after.
func (c Cluster) Stages(ctx context.Context, s *keys.Stored, rotation *certs.Rotation) ([]Stage, error) {
	s.Leaving = rotation.Names
	var before stack.State // expired CAs cannot issue certificates: nothing is predicted
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
		all = append(all, Stage{at.Stage, StageWords(at.Stage, at.Back), restarts, unsigned})
		before = after
	}
	return all, nil
}

// desiredAt returns the desired state of the stage that s is in, and how many externally signed
// certificates are missing. Certificates that the stage issues are kept in s for the next one.
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

// StageWords describe a stage of a rotation, or of a rollback, for people.
func StageWords(stage certs.Stage, back bool) string {
	if stage == certs.Drop && back {
		return "the new one is no longer trusted"
	}
	return stageWords[stage]
}

var stageWords = map[certs.Stage]string{
	certs.Trust:   "old and new are both trusted",
	certs.Tokens:  "tokens are signed with the new key",
	certs.Rollout: "workloads are replaced",
	certs.Issue:   "the new one is used",
	certs.Drop:    "the old one is no longer trusted",
	certs.Return:  "the old one is used again",
}
