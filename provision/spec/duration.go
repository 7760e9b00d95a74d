package spec

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
	// maxValidity limits the validity of certificates. A time.Duration holds 292 years, so a sum of
	// two still fits.
	maxValidity = 100 * year
	minValidity = time.Minute
)

// ParseDuration reads "30y", "90d", "12h", "15m" or a sum such as "1y30d". A year is 365 days, a
// day 24 hours, and m is a minute. m together with years or days is refused, because months were
// probably meant.
func ParseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, errors.New("the duration is empty")
	}
	units := map[byte]time.Duration{'y': year, 'd': day, 'h': time.Hour, 'm': time.Minute}
	if strings.Contains(s, "m") && strings.ContainsAny(s, "yd") {
		return 0, fmt.Errorf("the duration %q combines minutes (m) with years or days; months are not supported", s)
	}
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
			return 0, fmt.Errorf("the duration %q has no unit", s)
		}
		unit, ok := units[rest[digits]]
		if !ok {
			return 0, fmt.Errorf("the duration %q has the unknown unit %q", s, []rune(rest[digits:])[0])
		}
		if n > int64((math.MaxInt64-sum)/unit) {
			return 0, fmt.Errorf("the duration %q is too long", s)
		}
		sum += time.Duration(n) * unit
		rest = rest[digits+1:]
	}
	return sum, nil
}
