package provision

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// read is a clock that showed a time so long after the host was asked, by our clock, which it was off by.
func read(off, after, took time.Duration) Clock {
	sent := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	return Clock{Read: sent.Add(after + off).Truncate(time.Second), Sent: sent, Returned: sent.Add(took)}
}

func TestOffsetIsNotOverstated(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Clock
		want time.Duration
	}{
		{"not known", Clock{}, 0},
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
func off(clocks map[string]time.Duration) State {
	s := State{Hosts: map[string]HostState{}}
	for name, by := range clocks {
		now := time.Now()
		s.Hosts[name] = HostState{Facts: Facts{Clock: Clock{Read: now.Add(by).Truncate(time.Second), Sent: now, Returned: now.Add(time.Second)}}}
	}
	return s
}

// leafFor is a certificate of some lifetime that was issued at a time.
func leafFor(t *testing.T, lifetime time.Duration, at time.Time) []byte {
	t.Helper()
	return pkiFor(t, input(t), lifetime, at).Material[certs.Admin].Cert
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

// told is a host that says of itself what it is told to.
type told struct {
	*hosttest.Memory
	report string
}

func (h told) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	if cmd.Stdout == nil {
		return host.Result{Stdout: []byte(h.report)}, nil
	}
	_, err := io.WriteString(cmd.Stdout, h.report)
	return host.Result{}, err
}

// The whole way: what hosts print, what is issued, what an earlier run has issued and not brought to them.
func TestSituationRefusesClocks(t *testing.T) {
	in := input(t)
	situation := func(behind time.Duration, before Before) error {
		hosts := map[string]host.Host{}
		for _, m := range in.Machines {
			now := time.Now()
			if m.Name == "demo-worker-1" {
				now = now.Add(-behind)
			}
			report := fmt.Sprintf("[facts]\nmachine=x86_64\ncgroup=cgroup2fs\nsystemd=1\nnow=%d\n[end]\n", now.Unix())
			hosts[m.Name] = told{hosttest.NewMemory(m.Name), report}
		}
		var said []string
		r := &Runner{Input: in, Before: before, Report: func(host, what string) { said = append(said, host+": "+what) }}
		_, err := r.Situation(t.Context(), hosts)
		if warned := strings.Contains(strings.Join(said, "\n"), "demo-worker-1: warning: its clock is"); warned != (err == nil && behind > farBehind) {
			t.Errorf("behind by %v: it said %q, error %v", behind, said, err)
		}
		return err
	}
	if err := situation(0, Before{}); err != nil {
		t.Errorf("clocks agree: %v", err)
	}
	if err := situation(30*time.Minute, Before{}); err == nil || !strings.Contains(err.Error(), "demo-worker-1: its clock is ") {
		t.Errorf("certificates are brought: %v", err)
	}
	long := pkiFor(t, in, testPolicy.LeafValidity, time.Now().Add(-24*time.Hour))
	in.PKI = long
	if err := situation(30*time.Minute, Before{}); err != nil {
		t.Errorf("the certificates are old: %v", err)
	}
	for name, item := range input(t).PKI.Material {
		if name == certs.SuperAdmin { // it is on no host
			material := maps.Clone(long.Material)
			material[name] = item
			pki := *long
			pki.Material, in.PKI = material, &pki
		}
	}
	if err := situation(30*time.Minute, Before{Issued: []certs.Change{{Name: certs.SuperAdmin}}}); err == nil || !strings.Contains(err.Error(), "its clock is") {
		t.Errorf("one is issued that is on no host: %v", err)
	}
}
