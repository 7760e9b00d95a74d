package converge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/delivery"
)

// reportEvery is how often the progress of a delivery is reported; its rate is that of the last
// rateOver reports.
const (
	reportEvery = 2 * time.Second
	rateOver    = 5
)

// progress is how much of its programs a host has, compressed, and from whom they come.
type progress struct {
	report func(what string)

	mu      sync.Mutex
	sizes   map[string]int64 // estimated until known, by key
	has     map[string]int64
	sources map[string]int // by name; how many programs come from there now
	unpacks int            // how many are unpacked now
	samples []sample
}

type sample struct {
	at    time.Time
	bytes int64
}

func newProgress(report func(what string)) *progress {
	return &progress{report: report, sizes: map[string]int64{}, has: map[string]int64{}, sources: map[string]int{}}
}

// expect says that a program will be copied, of about so many bytes compressed.
func (p *progress) expect(k string, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sizes[k] = size
}

// at says how much of a program has arrived.
func (p *progress) at(k string, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.has[k] = bytes
}

// of is how much of a program has arrived.
func (p *progress) of(k string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has[k]
}

// from says that a program comes from a source until stop is called.
func (p *progress) from(source string) (stop func()) {
	if source == delivery.Operator {
		source = "this computer"
	}
	add := func(n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.sources[source] += n; p.sources[source] == 0 {
			delete(p.sources, source)
		}
	}
	add(1)
	return func() { add(-1) }
}

// unpacking says that a program is unpacked until stop is called.
func (p *progress) unpacking() (stop func()) {
	add := func(n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unpacks += n
	}
	add(1)
	return func() { add(-1) }
}

// every reports until stop is called.
func (p *progress) every() (stop func()) {
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(reportEvery)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if text := p.text(time.Now()); text != "" {
					p.report(text)
				}
			}
		}
	}()
	return func() { close(done) }
}

// text is the progress in one line: "copying programs: 38 of 152 MB from demo-cp-1, 11 MB/s, 10 s left".
// It is empty if there is nothing to copy.
func (p *progress) text(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var size, has int64
	for k, n := range p.sizes {
		size += n
		has += min(p.has[k], n)
	}
	if size == 0 {
		return ""
	}
	p.samples = append(p.samples, sample{now, has})
	p.samples = p.samples[max(0, len(p.samples)-rateOver-1):]
	text := fmt.Sprintf("copying programs: %d of %d MB", has>>20, (size+1<<20-1)>>20)
	switch {
	case len(p.sources) == 0 && p.unpacks > 0:
		return text + ", unpacks"
	case len(p.sources) == 0:
		return text + ", waits until another machine has the next"
	}
	text += " from " + strings.Join(slices.Sorted(maps.Keys(p.sources)), " and ")
	first := p.samples[0]
	rate := float64(has-first.bytes) / max(now.Sub(first.at).Seconds(), 1e-9)
	if rate < 1 {
		return text
	}
	left := time.Duration(float64(size-has) / rate * float64(time.Second)).Round(time.Second)
	if rate < 1<<20 {
		return text + fmt.Sprintf(", %d KB/s, %s left", int64(rate)>>10, left)
	}
	return text + fmt.Sprintf(", %d MB/s, %s left", int64(rate)>>20, left)
}
