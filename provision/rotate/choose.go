package rotate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Cluster is the input of a rotation. No host is queried.
type Cluster struct {
	Spec *spec.Cluster
	// Found are its machines, and File is the path of its spec.
	Found *spec.Infrastructure
	File  string
	// Own are the CAs that the spec names, by name of the table.
	Own map[string]certs.Item
	// Artifacts of the bundle; only stages need them.
	Artifacts stack.Sets
}

// Wish is a person's request for a rotation.
type Wish struct {
	// Command continues the rotation: see commandOf.
	Command string
	// Names of the items to replace; none continues the current rotation.
	Names []string
	// PauseAfter is the stage to end after, empty for none.
	PauseAfter string
	// Rollback reverses the current rotation.
	Rollback bool
	// NoRollout and SkipUnmanaged are nil if they were not set: then the earlier choice stays.
	NoRollout, SkipUnmanaged *bool
}

// CheckPause refuses to pause after a stage that does not lie ahead: that pause would never happen.
func (w Wish) CheckPause(rotation *certs.Rotation) error {
	left := rotation.Remaining()
	left = left[:len(left)-1] // after the last there is nothing to continue
	if w.PauseAfter == "" || slices.Contains(left, certs.Stage(w.PauseAfter)) {
		return nil
	}
	var words []string
	for _, stage := range left {
		words = append(words, string(stage))
	}
	return fmt.Errorf("--pause-after %s is not a stage that lies ahead (%v); it can pause after: %s; nothing was changed",
		w.PauseAfter, rotation, cmp.Or(strings.Join(words, ", "), "none"))
}

// Choices sets a rotation's flags from the wish, and keeps earlier ones that were not set.
func (w Wish) Choices(rotation *certs.Rotation) *certs.Rotation {
	chosen := *rotation
	if w.NoRollout != nil {
		chosen.NoRollout = *w.NoRollout
	}
	if w.SkipUnmanaged != nil {
		chosen.SkipUnmanaged = *w.SkipUnmanaged
	}
	return &chosen
}

// Choose returns the requested rotation: the current one, the same reversed, or a new one with its
// new items.
func (c Cluster) Choose(s *keys.Stored, w Wish) (*certs.Rotation, certs.Material, error) {
	switch {
	case len(s.Material) == 0:
		return nil, nil, fmt.Errorf("cluster %s has nothing to rotate yet: run `slipway apply` first", c.Spec.Metadata.Name)
	case s.Rotation != nil:
		return c.continued(s, w)
	}
	return c.started(s, w)
}

// continued returns the rotation that is running, the same reversed, or the same with the CAs that
// have expired meanwhile.
func (c Cluster) continued(s *keys.Stored, w Wish) (*certs.Rotation, certs.Material, error) {
	under := s.Rotation
	switch {
	case !w.Rollback && len(c.Expired(s, under)) > 0:
		return c.withExpired(s, w)
	case CommandOf(under) != w.Command || len(w.Names) > 0 && !slices.Equal(w.Names, under.Names):
		return nil, nil, fmt.Errorf("the %v: complete it first with `slipway %s`, or return with --rollback", under, CommandOf(under))
	case !w.Rollback:
		return under, nil, nil
	}
	back, err := under.Rollback()
	if err == nil {
		err = cannotReturn(c.Expired(s, back))
	}
	return back, nil, err
}

// started returns a new rotation, with its new items.
func (c Cluster) started(s *keys.Stored, w Wish) (*certs.Rotation, certs.Material, error) {
	switch {
	case w.Rollback:
		return nil, nil, errors.New("no rotation is running that could be rolled back")
	case len(w.Names) == 0:
		return nil, nil, errors.New("no rotation is running; name what to rotate: kubernetes, etcd, front-proxy, service-account or all")
	}
	if err := CheckReplaced(w.Names, s.Material, c.Own); err != nil {
		return nil, nil, err
	}
	items, err := c.NewItems(s, w.Names)
	if err != nil {
		return nil, nil, err
	}
	rotation, err := startOf(w.Names, c.Expired(s, nil))
	return rotation, items, err
}

// Requests returns the rows of the table.
func (c Cluster) Requests() []certs.Request {
	return certs.Table(stack.CertInputs(c.Spec, c.Found.Machines, c.Found.ExtraSANs))
}

// CommandOf returns the command that continues a rotation.
func CommandOf(r *certs.Rotation) string {
	if slices.Equal(r.Names, []string{certs.EncryptionKey}) {
		return "rotate-encryption-key"
	}
	return "certs rotate-ca"
}

// Progress describes a rotation: its stage, since when it runs, and which command continues it.
func Progress(r *certs.Rotation) string {
	return fmt.Sprintf("%v, running since %s: `slipway %s` continues it", r, r.Began.Local().Format(time.DateTime), CommandOf(r))
}

// CheckReplaced refuses to replace a CA by itself, if the spec names the one that is in use.
func CheckReplaced(names []string, stored certs.Material, own map[string]certs.Item) error {
	var errs []error
	for _, name := range names {
		item, given := own[name]
		if given && certs.SameAuthority(stored[name], item) {
			field := keys.AuthorityFields[name]
			errs = append(errs, fmt.Errorf("the spec's own CA %s is the one in use: put the new CA's files into %s first; nothing was changed",
				strings.TrimPrefix(field, keys.AuthoritiesField), field))
		}
	}
	return errors.Join(errs...)
}

// NewItems creates the new items of a rotation.
func (c Cluster) NewItems(s *keys.Stored, names []string) (certs.Material, error) {
	items, err := certs.NewItems(names, c.Requests(), keys.CertPolicy(c.Spec.Spec.PKI, c.Own), time.Now())
	if err == nil && slices.Contains(names, certs.EncryptionKey) {
		items[certs.NextName(certs.EncryptionKey)] = certs.NewEncryptionKey(append(s.Retired, string(s.Material[certs.EncryptionKey].Cert))...)
	}
	return items, err
}

// Rotatable are the items that `slipway certs rotate-ca` can rotate, by certs.PlainName, in the
// order of the table.
var Rotatable = []string{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA, certs.ServiceAccounts}

// Items turns words of the command line into the names of items, in the order of the table.
func Items(words []string) ([]string, error) {
	wanted := map[string]bool{}
	for _, w := range words {
		wanted[w] = true
	}
	all := wanted["all"]
	delete(wanted, "all")
	var items, known []string
	for _, item := range Rotatable {
		word := certs.PlainName(item)
		known = append(known, word)
		if all || wanted[word] {
			items = append(items, item)
		}
		delete(wanted, word)
	}
	if unknown := slices.Sorted(maps.Keys(wanted)); len(unknown) > 0 {
		return nil, fmt.Errorf("there is no CA %s: name %s, or all", strings.Join(unknown, ", "), strings.Join(known, ", "))
	}
	return items, nil
}
