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

// EncryptionKey is the key of Secrets at rest, as a name in a Rotation. It is no item of the table: it has no certificate.
const EncryptionKey = "encryption-key"

// nextSuffix is what the name of the new one ends in while a rotation goes on: "ca.next".
const nextSuffix = ".next"

// Stage is how far a rotation has come: a desired state, to which a cluster converges like to any other.
type Stage string

// The stages, forward. Not every rotation has all of them.
const (
	// Trust: everything trusts old and new; the old is used.
	Trust Stage = "trust"
	// Tokens: tokens of service accounts are signed with the new key.
	Tokens Stage = "tokens"
	// Rollout: workloads that have read authority or token before have read them again.
	Rollout Stage = "rollout"
	// Issue: all is issued by the new authorities, and encrypted with the new key.
	Issue Stage = "issue"
	// Drop: the old is trusted no more.
	Drop Stage = "drop"
)

// Return is the first stage of a rotation that goes back: the old is used again for everything.
const Return Stage = "return"

// Rotation replaces authorities and keys that everything in a cluster trusts, while it runs. It is what has to be
// remembered between the stages; it holds no secret. Nothing in the store is replaced before the rotation is Finished:
// old and new lie there side by side, and the stage says which of them is used, and which are trusted.
type Rotation struct {
	// Names of what is replaced: authorities, ServiceAccounts, EncryptionKey.
	Names []string `json:"names"`
	// Stage that the cluster is to be in.
	Stage Stage `json:"stage"`
	// Back says that it returns to the old.
	Back bool `json:"back,omitempty"`
	// Expired says that the old ones are past their end: nobody takes what they have issued, and the new ones are used
	// from the beginning.
	Expired bool `json:"expired,omitempty"`
	// Former are fingerprints of authorities that were replaced before they came into use, by their names: hosts may have
	// been told to trust them.
	Former map[string][]string `json:"former,omitempty"`
	// Rolled says that the new one has been used: workloads may know only that, and going back has to roll them, too.
	Rolled bool `json:"rolled,omitempty"`
	// NoRollout leaves it to people to replace workloads, and LeaveUnmanaged does not wait for what nothing would replace.
	// Chosen once, they hold until the end, whoever goes on.
	NoRollout      bool      `json:"noRollout,omitempty"`
	LeaveUnmanaged bool      `json:"leaveUnmanaged,omitempty"`
	Began          time.Time `json:"began"`
	// Passed are the stages behind it, and when each was proven.
	Passed []Passed `json:"passed,omitempty"`
}

// Passed is a stage that was proven.
type Passed struct {
	Stage Stage     `json:"stage"`
	At    time.Time `json:"at"`
}

// ReadRotation reads what was stored. What this version does not know is an error: it could mean that something else is
// trusted.
func ReadRotation(text []byte) (*Rotation, error) {
	var r Rotation
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return nil, fmt.Errorf("read how far the rotation has come: %w", err)
	}
	if !slices.Contains(r.Stages(), r.Stage) || len(r.Names) == 0 {
		return nil, fmt.Errorf("read how far the rotation has come: stage %q of %q is not known; another version of slipway has begun it", r.Stage, r.Names)
	}
	for _, name := range r.Names {
		if _, ok := plainNames[name]; !ok && name != EncryptionKey {
			return nil, fmt.Errorf("read how far the rotation has come: %q is not known; another version of slipway has begun to replace it", name)
		}
	}
	return &r, nil
}

// Begin starts a rotation of items, in the stage Trust.
func Begin(names []string, now time.Time) *Rotation {
	return &Rotation{Names: names, Stage: Trust, Began: now.UTC().Truncate(time.Second)}
}

// Has says whether an item is being replaced.
func (r *Rotation) Has(name string) bool { return r != nil && slices.Contains(r.Names, name) }

// Stages are those of this rotation, in their order.
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

// Remaining are the stages from the current one on.
func (r *Rotation) Remaining() []Stage {
	stages := r.Stages()
	return stages[max(0, slices.Index(stages, r.Stage)):]
}

// Next is the rotation once its stage was proven, or nil after the last one.
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

// Previous is the rotation in the stage before, or nil where there was none: before the first stage.
func (r *Rotation) Previous() *Rotation {
	if r == nil || len(r.Passed) == 0 && r.Stage != Return {
		return nil
	}
	before := *r
	if last := len(r.Passed) - 1; r.Stage != Return {
		before.Stage, before.Passed = r.Passed[last].Stage, r.Passed[:last]
		return &before
	}
	// It turned round in the stage after the last that it had passed.
	before.Back = false
	stages, at := before.Stages(), 0
	if last := len(r.Passed) - 1; last >= 0 {
		at = slices.Index(stages, r.Passed[last].Stage) + 1
	}
	before.Stage = stages[at]
	return &before
}

// Rollback turns the rotation round. That is possible until the old is dropped.
func (r *Rotation) Rollback() (*Rotation, error) {
	switch {
	case r.Back:
		return nil, errors.New("the rotation goes back already: run the same without --rollback to go on")
	case r.Expired:
		return nil, errors.New("the rotation cannot go back: the old authorities have expired; run the same without --rollback to go on")
	case r.Stage == Drop:
		return nil, errors.New("the rotation cannot go back any more, since hosts have begun to drop the old: run the same without --rollback " +
			"to go on; once it has ended, rotate again")
	}
	back := *r
	back.Back, back.Stage = true, Return
	return &back, nil
}

// TrustsBoth says whether old and new are trusted.
func (r *Rotation) TrustsBoth() bool { return r != nil && r.Stage != Drop }

// UsesNew says whether the new item of a name is what is used.
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

// NextName is the name under which the new one of an item is kept until the end.
func NextName(name string) string { return name + nextSuffix }

// View tells, of all that is stored, what is used at this stage and what is not: the other one of everything that is
// being replaced. What an ended rotation has left behind is in neither.
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
		if !ok || len(next.Cert) == 0 { // half forgotten, after its end
			continue
		}
		if bytes.Equal(next.Cert, stored[name].Cert) {
			continue // it has ended, and was interrupted before the old one's name was free
		}
		other[name] = next
		if r.UsesNew(name) {
			used[name], other[name] = next, stored[name]
		}
	}
	return used, other
}

// Finished gives what is stored at last under the names of a rotation that has ended; the names of what is not needed
// any more are those of NextName.
func (r *Rotation) Finished(stored Material) Material {
	kept := Material{}
	for _, name := range r.Names {
		if next, ok := stored[NextName(name)]; ok && !r.Back {
			kept[name] = next
		}
	}
	return kept
}

// NewItems makes what a rotation needs: a new authority or key pair for each of the names that requests have. The user's
// own authorities are taken as they are.
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

// plainNames are people's words for what can be rotated.
var plainNames = map[string]string{
	KubernetesCA: "kubernetes", EtcdCA: "etcd", FrontProxyCA: "front-proxy", ServiceAccounts: "service-account",
}

// PlainName is what people call an item that can be rotated: "kubernetes" for KubernetesCA.
func PlainName(name string) string { return cmp.Or(plainNames[name], name) }

// PlainNames are what people call what is replaced.
func (r *Rotation) PlainNames() []string {
	var words []string
	for _, name := range r.Names {
		words = append(words, PlainName(name))
	}
	return words
}

// String says where the rotation is: "rotation of kubernetes, service-account: stage tokens, 2 of 5".
func (r *Rotation) String() string {
	stages := r.Stages()
	way := "rotation"
	if r.Back {
		way = "rollback of the rotation"
	}
	return fmt.Sprintf("%s of %s: stage %s, %d of %d", way, strings.Join(r.PlainNames(), ", "), r.Stage, slices.Index(stages, r.Stage)+1, len(stages))
}

// probeValidity is how long a probe's certificate is valid: it is used at once.
const probeValidity = time.Hour

// NewProbe issues a short-lived client certificate by an authority, to find out who takes it. It gives no rights.
func NewProbe(ca Item, commonName string, now time.Time) (Item, error) {
	by, err := loadAuthority(ca, false)
	if err != nil {
		return Item{}, err
	}
	p := Policy{LeafValidity: probeValidity, KeyAlgorithm: ECDSAP256}
	return issue(Request{Name: "probe", CommonName: commonName, Usages: ClientAuth}, p, by, now)
}
