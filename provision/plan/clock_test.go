package plan

import (
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// read is a clock that showed a time so long after the host was asked, by our clock, which it was off by.
func read(off, after, took time.Duration) stack.Clock {
	sent := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	return stack.Clock{Read: sent.Add(after + off).Truncate(time.Second), Sent: sent, Returned: sent.Add(took)}
}

func TestOffsetIsNotOverstated(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    stack.Clock
		want time.Duration
	}{
		{"not known", stack.Clock{}, 0},
		{"the same", read(0, 0, time.Second), 0},
		{"the same, and seconds are whole", read(0, 900*time.Millisecond, time.Second), 0},
		{"behind", read(-10*time.Minute, 0, time.Second), -10*time.Minute + time.Second},
		{"ahead", read(10*time.Minute, 0, time.Second), 10*time.Minute - time.Second},
		{"the same, and it waited before it looked", read(0, 20*time.Minute, 20*time.Minute), 0},
		{"the same, and took long afterwards", read(0, 0, 20*time.Minute), 0},
		{"behind, and took long afterwards", read(-10*time.Minute, 0, 20*time.Minute), -10*time.Minute + time.Second},
		{"behind by less than it may have waited", read(-10*time.Minute, 20*time.Minute, 20*time.Minute), 0},
	} {
		if got := tt.c.Offset(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// off are hosts whose clocks are off by as much, observed now.
func off(clocks map[string]time.Duration) stack.State {
	s := stack.State{Hosts: map[string]stack.HostState{}}
	for name, by := range clocks {
		now := time.Now()
		s.Hosts[name] = stack.HostState{Facts: stack.Facts{Clock: stack.Clock{Read: now.Add(by).Truncate(time.Second), Sent: now, Returned: now.Add(time.Second)}}}
	}
	return s
}

// leafFor is a certificate of some lifetime that was issued at a time.
func leafFor(t *testing.T, lifetime time.Duration, at time.Time) []byte {
	t.Helper()
	return fixture.PKIFor(t, fixture.Input(t), lifetime, at).Material[certs.Admin].Cert
}

func TestClocksThatAreBehindAreRefused(t *testing.T) {
	day := 24 * time.Hour
	fresh, short := leafFor(t, 365*day, time.Now()), leafFor(t, 10*time.Minute, time.Now())
	old := leafFor(t, 365*day, time.Now().Add(-day))
	signed := leafFor(t, 365*day, time.Now().Add(4*time.Minute)) // as who dates back by a minute
	for _, tt := range []struct {
		name    string
		behind  time.Duration
		brought [][]byte
		refused bool
	}{
		{"not at all", 0, [][]byte{fresh}, false},
		{"by what certificates are dated back for", 3*time.Minute + 30*time.Second, [][]byte{fresh}, false},
		{"by nearly too much", 4*time.Minute + 30*time.Second, [][]byte{fresh}, true},
		{"by much", 30 * time.Minute, [][]byte{fresh}, true},
		{"by much, beside an old certificate", 30 * time.Minute, [][]byte{fresh, old}, true},
		{"by much, and only an old certificate is put back", 30 * time.Minute, [][]byte{old}, false},
		{"by more than the old certificate's age", 2 * day, [][]byte{old}, true},
		{"by much, and nothing is brought", 30 * time.Minute, nil, false},
		{"by much, and no certificate is brought", 30 * time.Minute, [][]byte{[]byte("text"), nil}, false},
		{"ahead", -30 * time.Minute, [][]byte{fresh}, false},
		{"a short life, by little", 30 * time.Second, [][]byte{short}, false},
		{"a short life, by nearly too much", 55 * time.Second, [][]byte{short}, true},
		{"not at all, and another has signed it just now", 0, [][]byte{signed}, false},
		{"by more than another has dated it back", 2 * time.Minute, [][]byte{signed}, true},
	} {
		err := RefuseClocks(off(map[string]time.Duration{"a": 0, "b": -tt.behind}), tt.brought)
		if (err != nil) != tt.refused || err != nil && (!strings.Contains(err.Error(), "b: its clock is") || strings.Contains(err.Error(), "a: ")) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	err := RefuseClocks(off(map[string]time.Duration{"a": -time.Hour, "b": -30 * time.Minute}), [][]byte{fresh})
	for _, want := range []string{"a: its clock is ", "b: its clock is ", "begin at " + time.Now().UTC().Format("2006-"), "NTP"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
