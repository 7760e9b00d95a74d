package observe

import (
	"testing"
	"time"
)

func TestRunning(t *testing.T) {
	begin := time.Date(2026, 11, 20, 12, 3, 0, 0, time.UTC)
	for _, tt := range []struct {
		active       bool
		changed, now time.Time
		want         time.Duration
	}{
		{true, begin, begin.Add(time.Hour), time.Hour},
		{false, begin, begin.Add(time.Hour), 0},
		{true, time.Time{}, begin, 0}, // not known: it would be restarted for ever
		{true, begin, time.Time{}, 0},
		{true, begin, begin.Add(-time.Hour), 0}, // the clock was set back
	} {
		if got := running(tt.active, tt.changed, tt.now); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
