package certs

import (
	"maps"
	"slices"
	"time"
)

// Expired lists authorities in m that are past their end, in the order of requests.
func (m Material) Expired(requests []Request, now time.Time) []string {
	var names []string
	for _, q := range requests {
		if q.Kind == Authority && m[q.Name].Expired(now) {
			names = append(names, q.Name)
		}
	}
	return names
}

// BeginExpired starts a rotation of authorities that have expired, and perhaps of ServiceAccounts with them, in the stage
// Issue: there is nobody left who could be cut off.
func BeginExpired(names []string, now time.Time) *Rotation {
	r := Begin(names, now)
	r.Stage, r.Expired = Issue, true
	return r
}

// WithExpired is the rotation once authorities that are in use have expired: it can go neither on nor back as it was, since
// they can issue nothing. It becomes what BeginExpired gives for what it replaces and for these, in the order of requests.
// Of what it has brought it keeps what has not expired itself; lacking are the names for which that is not so, and
// NewItems makes what is stored under their NextName.
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

// Expired says whether an authority is past its end; one that cannot be read is not.
func (i Item) Expired(now time.Time) bool {
	chain, err := Parse(i.Cert)
	return err == nil && now.After(chain[0].NotAfter)
}
