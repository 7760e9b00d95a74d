package certs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// EncryptionKey is the name in a Rotation of the key that encrypts Secrets at rest. It is not in
// the table, because it has no certificate.
const EncryptionKey = "encryption-key"

// nextSuffix is the suffix of the new item's name during a rotation: "ca.next".
const nextSuffix = ".next"

// Stage is the progress of a rotation. It is a desired state, to which a cluster converges like to
// any other.
type Stage string

// The stages, forward. Not every rotation has all of them.
const (
	// Trust: everything trusts both; the old one is used.
	Trust Stage = "trust"
	// Tokens: service-account tokens are signed with the new key.
	Tokens Stage = "tokens"
	// Rollout: workloads that had read the old CA or token have been restarted.
	Rollout Stage = "rollout"
	// Issue: everything is issued by the new CAs, and encrypted with the new key.
	Issue Stage = "issue"
	// Drop: the old one is no longer trusted.
	Drop Stage = "drop"
)

// Return is the first stage of a rollback: the old one is used again for everything.
const Return Stage = "return"

// Rotation replaces CAs and keys that are trusted throughout a running cluster. It has the
// progress, which is stored between the stages, and contains no secrets. Until the rotation is
// Finished, old and new are both stored, and the stage says which of them is used and which are
// trusted.
type Rotation struct {
	// Names of the replaced items: CAs, ServiceAccounts, EncryptionKey.
	Names []string `json:"names"`
	// Stage is the desired stage of the cluster.
	Stage Stage `json:"stage"`
	// Back means that this is a rollback.
	Back bool `json:"back,omitempty"`
	// Expired means that the old ones have expired: nothing accepts what they have issued, so the
	// new ones are used from the beginning.
	Expired bool `json:"expired,omitempty"`
	// Former has, by name, the fingerprints of new CAs that were replaced before they were used:
	// hosts may trust them.
	Former map[string][]string `json:"former,omitempty"`
	// Rolled means that the new one has been used. Workloads may know only that one, so a rollback
	// has to replace them too.
	Rolled bool `json:"rolled,omitempty"`
	// NoRollout means that people replace workloads. SkipUnmanaged skips pods that no controller
	// would replace. Both are chosen once and kept until the end of the rotation.
	NoRollout     bool      `json:"noRollout,omitempty"`
	SkipUnmanaged bool      `json:"leaveUnmanaged,omitempty"`
	Began         time.Time `json:"began"`
	// Passed lists the completed stages, and when each was verified.
	Passed []Passed `json:"passed,omitempty"`
}

// Passed is a completed stage.
type Passed struct {
	Stage Stage     `json:"stage"`
	At    time.Time `json:"at"`
}

// ReadRotation decodes a stored rotation. Unknown content is an error, because it could change what
// is trusted.
func ReadRotation(text []byte) (*Rotation, error) {
	var r Rotation
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return nil, fmt.Errorf("read the progress of the rotation: %w", err)
	}
	if !slices.Contains(r.Stages(), r.Stage) || len(r.Names) == 0 {
		return nil, fmt.Errorf("read the progress of the rotation: unknown stage %q of %q; another version of slipway started it", r.Stage, r.Names)
	}
	for _, name := range r.Names {
		if _, ok := plainNames[name]; !ok && name != EncryptionKey {
			return nil, fmt.Errorf("read the progress of the rotation: unknown item %q; another version of slipway started to replace it", name)
		}
	}
	return &r, nil
}

// Begin starts a rotation of items, in the stage Trust.
func Begin(names []string, now time.Time) *Rotation {
	return &Rotation{Names: names, Stage: Trust, Began: now.UTC().Truncate(time.Second)}
}

// Has reports whether an item is being replaced.
func (r *Rotation) Has(name string) bool { return r != nil && slices.Contains(r.Names, name) }

// Stages returns the stages of this rotation, in order.
func (r *Rotation) Stages() []Stage {
	workloads := r.Has(KubernetesCA) || r.Has(ServiceAccounts)
	if r.Back {
		if workloads && r.Rolled {
			return []Stage{Return, Rollout, Drop}
		}
		return []Stage{Return, Drop}
	}
	if r.Expired {
		if workloads {
			return []Stage{Issue, Rollout, Drop}
		}
		return []Stage{Issue, Drop}
	}
	stages := []Stage{Trust}
	if r.Has(ServiceAccounts) {
		stages = append(stages, Tokens)
	}
	if workloads {
		stages = append(stages, Rollout)
	}
	return append(stages, Issue, Drop)
}

// Remaining returns the stages from the current one on.
func (r *Rotation) Remaining() []Stage {
	stages := r.Stages()
	return stages[max(0, slices.Index(stages, r.Stage)):]
}

// Next returns the rotation in the next stage, or nil after the last one.
func (r *Rotation) Next(now time.Time) *Rotation {
	stages := r.Stages()
	i := slices.Index(stages, r.Stage)
	if i < 0 || i == len(stages)-1 {
		return nil
	}
	next := *r
	next.Passed = append(slices.Clone(r.Passed), Passed{r.Stage, now.UTC().Truncate(time.Second)})
	next.Stage = stages[i+1]
	next.Rolled = r.Rolled || !r.Back && next.Stage != Trust
	return &next
}

// Previous returns the rotation in the previous stage, or nil before the first stage.
func (r *Rotation) Previous() *Rotation {
	if r == nil || len(r.Passed) == 0 && r.Stage != Return {
		return nil
	}
	before := *r
	if last := len(r.Passed) - 1; r.Stage != Return {
		before.Stage, before.Passed = r.Passed[last].Stage, r.Passed[:last]
		return &before
	}
	// The rollback began in the stage after the last completed one.
	before.Back = false
	stages, at := before.Stages(), 0
	if last := len(r.Passed) - 1; last >= 0 {
		at = slices.Index(stages, r.Passed[last].Stage) + 1
	}
	before.Stage = stages[at]
	return &before
}

// Rollback turns the rotation into a rollback. This is possible until the old one is dropped.
func (r *Rotation) Rollback() (*Rotation, error) {
	switch {
	case r.Back:
		return nil, errors.New("a rollback is already in progress: run the command without --rollback to continue it")
	case r.Expired:
		return nil, errors.New("the rotation cannot be rolled back, because the old CAs have expired: run the command without --rollback to continue")
	case r.Stage == Drop:
		return nil, errors.New("the rotation can no longer be rolled back, because hosts have begun to drop the old CA or key: run the command without --rollback " +
			"to continue; when it has ended, rotate again")
	}
	back := *r
	back.Back, back.Stage = true, Return
	return &back, nil
}

// TrustsBoth reports whether old and new are both trusted.
func (r *Rotation) TrustsBoth() bool { return r != nil && r.Stage != Drop }

// UsesNew reports whether the new item of a name is used.
func (r *Rotation) UsesNew(name string) bool {
	if !r.Has(name) || r.Back {
		return false
	}
	if r.Expired {
		return true
	}
	switch r.Stage {
	case Trust:
		return false
	case Tokens, Rollout:
		return name == ServiceAccounts
	default:
		return true
	}
}

// NextName returns the name under which the new item is stored until the end.
func NextName(name string) string { return name + nextSuffix }

// View splits the stored material into what is used at this stage, and the other item of everything
// that is being replaced. Leftovers of a finished rotation are in neither.
func (r *Rotation) View(stored Material) (used, other Material) {
	used, other = maps.Clone(stored), Material{}
	for name := range stored {
		if strings.HasSuffix(name, nextSuffix) {
			delete(used, name)
		}
	}
	if r == nil {
		return used, other
	}
	for _, name := range r.Names {
		next, ok := stored[NextName(name)]
		if !ok || len(next.Cert) == 0 { // partly removed after the rotation ended
			continue
		}
		if bytes.Equal(next.Cert, stored[name].Cert) {
			continue // the rotation ended, but was interrupted before the leftover was removed
		}
		other[name] = next
		if r.UsesNew(name) {
			used[name], other[name] = next, stored[name]
		}
	}
	return used, other
}

// Finished returns what to store under the names of a finished rotation. What is stored under
// NextName is no longer needed.
func (r *Rotation) Finished(stored Material) Material {
	kept := Material{}
	for _, name := range r.Names {
		if next, ok := stored[NextName(name)]; ok && !r.Back {
			kept[name] = next
		}
	}
	return kept
}

// NewItems makes the new items of a rotation: a CA or key pair for each of the names that are in
// requests. For the user's own CAs, it uses those of the policy.
func NewItems(names []string, requests []Request, p Policy, now time.Time) (Material, error) {
	items := Material{}
	for _, name := range names {
		i := slices.IndexFunc(requests, func(q Request) bool { return q.Name == name && q.Kind != Leaf })
		if i < 0 {
			continue // the encryption key
		}
		q, own := requests[i], normalized(p.Own)
		item, given := own[name]
		var err error
		switch {
		case given:
		case q.Kind == KeyPair:
			item, err = newKeyPair(q, p)
		default:
			item, err = issue(q, p, nil, now)
		}
		if err != nil {
			return nil, err
		}
		items[NextName(name)] = item
	}
	return items, nil
}

// plainNames are the command-line names of what can be rotated.
var plainNames = map[string]string{
	KubernetesCA: "kubernetes", EtcdCA: "etcd", FrontProxyCA: "front-proxy", ServiceAccounts: "service-account",
}

// PlainName returns the command-line name of an item that can be rotated: "kubernetes" for
// KubernetesCA.
func PlainName(name string) string { return cmp.Or(plainNames[name], name) }

// PlainNames returns the command-line names of the replaced items.
func (r *Rotation) PlainNames() []string {
	var words []string
	for _, name := range r.Names {
		words = append(words, PlainName(name))
	}
	return words
}

// String describes the progress: "rotation of kubernetes, service-account: stage tokens, 2 of 5".
func (r *Rotation) String() string {
	stages := r.Stages()
	way := "rotation"
	if r.Back {
		way = "rollback of the rotation"
	}
	return fmt.Sprintf("%s of %s: stage %s, %d of %d", way, strings.Join(r.PlainNames(), ", "), r.Stage, slices.Index(stages, r.Stage)+1, len(stages))
}

// probeValidity is the validity of a probe's certificate, which is used at once.
const probeValidity = time.Hour

// NewProbe issues a short-lived client certificate from a CA, to test who accepts it. It grants no
// permissions.
func NewProbe(ca Item, commonName string, now time.Time) (Item, error) {
	by, err := loadAuthority(ca, false)
	if err != nil {
		return Item{}, err
	}
	p := Policy{LeafValidity: probeValidity, KeyAlgorithm: ECDSAP256}
	return issue(Request{Name: "probe", CommonName: commonName, Usages: ClientAuth}, p, by, now)
}
