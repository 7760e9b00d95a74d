package spec

import (
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
	// maxValidity bounds certificates; more does not fit a time.Duration three times over.
	maxValidity = 100 * year
	minValidity = time.Hour
)

// ParseDuration reads "30y", "90d", "12h" or a sum such as "1y30d". A year is 365 days, a day 24 hours. Minutes are not
// a unit: in a policy of years, "6m" would be read as months.
func ParseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, errors.New("the duration is empty")
	}
	units := map[byte]time.Duration{'y': year, 'd': day, 'h': time.Hour}
	var sum time.Duration
	for rest := s; rest != ""; {
		var n int64
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			if n = n*10 + int64(rest[digits]-'0'); n > math.MaxInt32 {
				return 0, fmt.Errorf("the duration %q is too long", s)
			}
			digits++
		}
		if digits == 0 {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		if digits == len(rest) {
			return 0, fmt.Errorf("the duration %q lacks a unit", s)
		}
		unit, ok := units[rest[digits]]
		if !ok {
			return 0, fmt.Errorf("the duration %q has the unit %q", s, []rune(rest[digits:])[0])
		}
		if n > int64((math.MaxInt64-sum)/unit) {
			return 0, fmt.Errorf("the duration %q is too long", s)
		}
		sum += time.Duration(n) * unit
		rest = rest[digits+1:]
	}
	return sum, nil
}

// CADuration is how long certificate authorities are valid. It is only valid on a spec that was loaded.
func (p PKI) CADuration() time.Duration { return validDuration(p.CAValidity) }

// LeafDuration is how long all other certificates are valid. It is only valid on a spec that was loaded.
func (p PKI) LeafDuration() time.Duration { return validDuration(p.LeafValidity) }

// validDuration parses what validation has passed; 0 stands for a spec that was never loaded.
func validDuration(s string) time.Duration {
	d, err := ParseDuration(s)
	if err != nil {
		return 0
	}
	return d
}

func validatePKI(d *document, p PKI) {
	ca, caOK := d.validity("spec.pki.caValidity", p.CAValidity)
	leaf, leafOK := d.validity("spec.pki.leafValidity", p.LeafValidity)
	if !caOK || !leafOK || leaf <= ca {
		return
	}
	path := "spec.pki.leafValidity"
	if !d.present(path) {
		path = "spec.pki.caValidity"
	}
	d.judge(path, "make leafValidity shorter or caValidity longer",
		"certificates (%s) would outlive their authorities (%s)", p.LeafValidity, p.CAValidity)
}

func (d *document) validity(path, value string) (time.Duration, bool) {
	if d.isBad(path) {
		return 0, false
	}
	v, err := ParseDuration(value)
	switch {
	case err != nil:
		d.judge(path, `write years, days or hours, such as "30y", "90d", "12h" or "1y30d"`, "%v", err)
	case v > maxValidity:
		d.judge(path, "write at most 100y", "%s is longer than 100 years", value)
	case v < minValidity:
		d.judge(path, "write at least 1h", "%s is shorter than an hour", value)
	default:
		return v, true
	}
	return 0, false
}
