package rotate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
)

// startOf begins a rotation. Where authorities have expired, it is of all of these, and of none that has not.
func startOf(names, expired []string) (*certs.Rotation, error) {
	if len(expired) == 0 || slices.Equal(names, []string{certs.EncryptionKey}) {
		return certs.Begin(names, time.Now()), nil
	}
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == certs.ServiceAccounts })
	if !slices.Equal(rest, expired) {
		words := strings.Join(certs.Begin(expired, time.Now()).PlainNames(), " ")
		return nil, fmt.Errorf("authorities have expired, and are replaced by themselves first, at once: `slipway certs rotate-ca %s`", words)
	}
	return certs.BeginExpired(names, time.Now()), nil
}

// Expired are the authorities that have, of those that a rotation (nil for none) uses; the same ones that the spec gives with
// a new certificate are not: the next apply takes it over.
func (c Cluster) Expired(s *keys.Stored, rotation *certs.Rotation) []string {
	used, _ := rotation.View(s.Material)
	return slices.DeleteFunc(used.Expired(c.Requests(), time.Now()), func(name string) bool {
		own, given := c.Own[name]
		return given && certs.SameAuthority(used[name], own)
	})
}

// withExpired goes on with the rotation that is under way, and with what has expired meanwhile.
func (c Cluster) withExpired(s *keys.Stored, w Wish) (*certs.Rotation, certs.Material, error) {
	expired := c.Expired(s, s.Rotation)
	rotation, lacking := s.Rotation.WithExpired(expired, s.Material, c.Requests(), time.Now())
	stranger := slices.ContainsFunc(w.Names, func(name string) bool { return !rotation.Has(name) })
	if stranger || w.Command != CommandOf(rotation) {
		return nil, nil, fmt.Errorf("%s expired during the %v: first replace what has, and end it, with `slipway %s`", plainList(expired), s.Rotation, CommandOf(rotation))
	}
	if err := CheckReplaced(lacking, s.Material, c.Own); err != nil {
		return nil, nil, err
	}
	items, err := c.NewItems(s, lacking)
	return rotation, items, err
}

// cannotReturn says that a rollback would have to issue by authorities that have expired.
func cannotReturn(expired []string) error {
	if len(expired) == 0 {
		return nil
	}
	return fmt.Errorf("the rotation cannot go back, since %s expired meanwhile: `slipway certs rotate-ca` replaces that, too, and goes on", plainList(expired))
}

// plainList says of authorities that they have.
func plainList(names []string) string {
	words := (&certs.Rotation{Names: names}).PlainNames()
	if len(words) == 1 {
		return "authority " + words[0] + " has"
	}
	return "authorities " + strings.Join(words, ", ") + " have"
}
