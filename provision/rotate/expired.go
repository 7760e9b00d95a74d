package rotate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
)

// startOf begins a rotation. If CAs have expired, it replaces all of these, and no others.
func startOf(names, expired []string) (*certs.Rotation, error) {
	if len(expired) == 0 || slices.Equal(names, []string{certs.EncryptionKey}) {
		return certs.Begin(names, time.Now()), nil
	}
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == certs.ServiceAccounts })
	if !slices.Equal(rest, expired) {
		words := strings.Join(certs.Begin(expired, time.Now()).PlainNames(), " ")
		return nil, fmt.Errorf("CAs have expired; replace these alone first, at once: `slipway certs rotate-ca %s`", words)
	}
	return certs.BeginExpired(names, time.Now()), nil
}

// Expired returns the expired CAs among those that a rotation (nil for none) uses, without those
// whose new certificate is in the spec: the next apply installs that.
func (c Cluster) Expired(s *keys.Stored, rotation *certs.Rotation) []string {
	used, _ := rotation.View(s.Material)
	return slices.DeleteFunc(used.Expired(c.Requests(), time.Now()), func(name string) bool {
		own, given := c.Own[name]
		return given && certs.SameAuthority(used[name], own)
	})
}

// withExpired continues the current rotation, and includes the CAs that have expired since.
func (c Cluster) withExpired(s *keys.Stored, w Wish) (*certs.Rotation, certs.Material, error) {
	expired := c.Expired(s, s.Rotation)
	rotation, lacking := s.Rotation.WithExpired(expired, s.Material, c.Requests(), time.Now())
	stranger := slices.ContainsFunc(w.Names, func(name string) bool { return !rotation.Has(name) })
	if stranger || w.Command != CommandOf(rotation) {
		return nil, nil, fmt.Errorf("%s expired during the %v: first replace it, and complete the rotation, with `slipway %s`",
			plainList(expired), s.Rotation, CommandOf(rotation))
	}
	if err := CheckReplaced(lacking, s.Material, c.Own); err != nil {
		return nil, nil, err
	}
	items, err := c.NewItems(s, lacking)
	return rotation, items, err
}

// cannotReturn is the error of a rollback that would need expired CAs to issue certificates.
func cannotReturn(expired []string) error {
	if len(expired) == 0 {
		return nil
	}
	return fmt.Errorf("the rotation cannot be rolled back, since %s expired meanwhile: `slipway certs rotate-ca` replaces that, too, and continues",
		plainList(expired))
}

// plainList returns the plain names of expired CAs, with "has" or "have".
func plainList(names []string) string {
	words := (&certs.Rotation{Names: names}).PlainNames()
	if len(words) == 1 {
		return "CA " + words[0] + " has"
	}
	return "CAs " + strings.Join(words, ", ") + " have"
}
