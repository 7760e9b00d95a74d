package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/host"
)

const (
	// ObserveTimeout is how long reading one host may take. It usually takes a second; with a
	// failing disk, much longer.
	ObserveTimeout = 2 * time.Minute
	// turnTimeout allows for earlier work on a host to end: host.Config.Patience, and the time to
	// terminate it.
	turnTimeout = 2 * time.Minute
	// mostTurns is how often a host may say that it waits, or no longer does: once each, and again over
	// another connection. It must not put off its end for ever.
	mostTurns = 4
	// maxReport is how many bytes a host may report.
	maxReport = 64 << 20
)

// UnreadError reports hosts that could not be observed.
type UnreadError struct {
	// Hosts are the errors by name.
	Hosts map[string]error
}

func (e *UnreadError) Error() string { return errors.Join(e.Unwrap()...).Error() }

// Unwrap returns the errors in the order of the hosts' names.
func (e *UnreadError) Unwrap() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(e.Hosts)) {
		errs = append(errs, e.Hosts[name])
	}
	return errs
}

// HungError is a host that did not answer in time.
type HungError struct {
	Host  string
	Limit time.Duration
	// Section is the section of the host's report that began last, such as "[files]"; empty if none
	// had.
	Section string
}

func (e *HungError) Error() string {
	at := ""
	if e.Section != "" {
		at = ", and was at " + e.Section
	}
	return fmt.Sprintf("%s did not answer within %s%s: one of its disks or services may hang; check `dmesg` there", e.Host, e.Limit, at)
}

// Within bounds a query of a host.
func Within(ctx context.Context, h host.Host, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, &HungError{Host: h.Name(), Limit: limit})
}

// hostReport collects a host's report, to know how far it came.
type hostReport struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (r *hostReport) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said.Len()+len(p) > maxReport {
		return 0, errors.New("the host reports more than 64 MiB")
	}
	return r.said.Write(p)
}

// forget begins anew.
func (r *hostReport) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said.Reset()
}

func (r *hostReport) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// section returns the last section that has begun.
func (r *hostReport) section() string {
	last := ""
	for line := range strings.Lines(r.text()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			last = line
		}
	}
	return last
}
