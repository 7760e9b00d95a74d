package certs

import (
	"maps"
	"slices"
	"time"
)

// Expired lists CAs in m that have expired, in the order of requests.
func (m Material) Expired(requests []Request, now time.Time) []string {
	var names []string
	for _, q := range requests {
		if q.Kind == Authority && m[q.Name].Expired(now) {
			names = append(names, q.Name)
		}
	}
	return names
}

// BeginExpired starts a rotation of expired CAs, and optionally ServiceAccounts, in the stage
// Issue: no working client or server is left that could be disrupted.
func BeginExpired(names []string, now time.Time) *Rotation {
	r := Begin(names, now)
	r.Stage, r.Expired = Issue, true
	return r
}

// WithExpired returns the rotation to use after CAs in use have expired. The current one can
// neither continue nor roll back, because an expired CA cannot issue. The result is what
// BeginExpired returns for the names of both, in the order of requests. New CAs of the rotation are
// kept, unless they have expired themselves. lacking has the names without a usable new CA:
// NewItems makes those stored under their NextName.
func (r *Rotation) WithExpired(expired []string, stored Material, requests []Request, now time.Time) (next *Rotation, lacking []string) {
	var names []string
	kinds := map[string]Kind{}
	for _, q := range requests {
		kinds[q.Name] = q.Kind
		if r.Has(q.Name) || slices.Contains(expired, q.Name) {
			names = append(names, q.Name)
		}
	}
	if r.Has(EncryptionKey) {
		names = append(names, EncryptionKey)
	}
	next = BeginExpired(names, now)
	next.Began, next.Former = r.Began, map[string][]string{}
	maps.Copy(next.Former, r.Former)
	for _, name := range names {
		item := stored[NextName(name)]
		past := kinds[name] == Authority && item.Expired(now)
		if r.Has(name) && len(item.Cert) > 0 && !past {
			continue
		}
		lacking = append(lacking, name)
		if r.Has(name) && past {
			next.Former[name] = append(slices.Clone(next.Former[name]), item.fingerprint())
		}
	}
	return next, lacking
}

// Expired reports whether a CA has expired. A CA that cannot be read counts as not expired.
func (i Item) Expired(now time.Time) bool {
	chain, err := Parse(i.Cert)
	return err == nil && now.After(chain[0].NotAfter)
}
