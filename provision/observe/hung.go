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
	// ObserveTimeout is how long one host may take to be read. It takes a second; a disk that is near its end, much longer.
	ObserveTimeout = 2 * time.Minute
	// turnTimeout is for what has to end on a host before: host.Config.Patience, and what ending it takes.
	turnTimeout = 2 * time.Minute
	// maxReport is how many bytes a host may report.
	maxReport = 64 << 20
)

// UnreadError is hosts that could not be observed.
type UnreadError struct {
	// Hosts by name, with why.
	Hosts map[string]error
}

func (e *UnreadError) Error() string { return errors.Join(e.Unwrap()...).Error() }

// Unwrap gives the errors in the order of the hosts' names.
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
	// Section is the part of the host's report that had begun last, such as "[files]"; empty where none had.
	Section string
}

func (e *HungError) Error() string {
	at := ""
	if e.Section != "" {
		at = ", and was at " + e.Section
	}
	return fmt.Sprintf("%s did not answer within %s%s: a disk or a service of it may hang; `dmesg` there may tell", e.Host, e.Limit, at)
}

// Within bounds what is asked of a host.
func Within(ctx context.Context, h host.Host, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, &HungError{Host: h.Name(), Limit: limit})
}

// hostReport collects what a host says, so that it can be told how far it came.
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

func (r *hostReport) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// section is the last one that has begun.
func (r *hostReport) section() string {
	last := ""
	for line := range strings.Lines(r.text()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			last = line
		}
	}
	return last
}
