package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// Source is the source of a bundle.
type Source string

// The sources. Auto downloads if upstream can be reached and every file is pinned, and builds
// otherwise.
const (
	FromAuto     Source = "auto"
	FromBuild    Source = "build"
	FromDownload Source = "download"
)

// Options says which bundle to get, from where and to where.
type Options struct {
	// KubernetesVersion is one of [Versions]; empty means the newest.
	KubernetesVersion string
	// CacheDir is the directory that everything is kept in, made if missing. Required.
	CacheDir string
	// Source is for [Ensure]; empty means FromAuto.
	Source Source
	// Mirror replaces upstream's download sites: the base of http(s) URLs or a directory (a path,
	// or file://), with upstream's own paths beneath it. Empty means upstream.
	Mirror string
	// InsecureHTTP allows a Mirror on another computer that is reached by plain http.
	InsecureHTTP bool
	// Pins are digests of upstream's files, in addition to slipway's.
	Pins Pins
	// TrustPublished makes Download use the digests that upstream or the mirror publish, for files
	// without a pin. When the bundle is complete, Learned is called with them, to use as Pins in
	// later runs. Learned may be nil.
	TrustPublished bool
	Learned        func(Pins) error
	// Arch of the hosts, one of [Architectures]; empty means this computer's.
	Arch string
	// Progress is told what happens, one event at a time. May be nil.
	Progress func(Event)

	pins *pinSet  // slipway's, Pins, and learned ones
	memo *digests // of the cache's files
}

// complete fills in defaults, makes the cache directory and serialises Progress.
func (o Options) complete() (Options, error) {
	if o.CacheDir == "" {
		return o, errors.New("bundle: no cache directory given")
	}
	dir, err := filepath.Abs(o.CacheDir)
	if err != nil {
		return o, fmt.Errorf("bundle: %w", err)
	}
	o.CacheDir = dir
	if o.KubernetesVersion == "" {
		o.KubernetesVersion = Versions()[0]
	}
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if err := CheckArchitecture(o.Arch); err != nil {
		return o, err
	}
	if o.Source == "" {
		o.Source = FromAuto
	}
	// Machines of any user see the bundles through a mount, so they are not private; nothing secret
	// is ever in them.
	if err := os.MkdirAll(filepath.Join(dir, "bundles"), 0o755); err != nil { //nolint:gosec // see above
		return o, fmt.Errorf("bundle: make the cache: %w", err)
	}
	if err := checkMirror(o); err != nil {
		return o, fmt.Errorf("bundle: %w", err)
	}
	o.memo = openDigests(dir)
	own, err := builtInPins()
	if err != nil {
		return o, fmt.Errorf("bundle: %w", err)
	}
	if o.pins, err = newPinSet(own, o.Pins); err != nil {
		return o, fmt.Errorf("bundle: %w", err)
	}
	progress, mu := o.Progress, new(sync.Mutex)
	o.Progress = func(e Event) {
		if progress == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		progress(e)
	}
	return o, nil
}
