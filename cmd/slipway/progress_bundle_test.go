package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/journal"
	"slipway.dev/slipway/provision/state"
)

// bundleStory tells a progress how a bundle is built, until the build of pause fails.
func bundleStory(p *progress, c *clock, look func(string)) {
	show := p.bundle()
	of := func(component string, e bundle.Event) {
		e.Component, e.Version = component, "v1"
		show(e)
	}
	p.Phase("machines and bundle")
	show(bundle.Event{Phase: bundle.Choosing, Detail: "building from source"})
	of("runc", bundle.Event{Phase: bundle.Cached})
	of("etcd", bundle.Event{Phase: bundle.Building})
	of("kubernetes", bundle.Event{Phase: bundle.Building})
	for i := range int64(20) {
		c.pass(time.Second)
		of("etcd", bundle.Event{Phase: bundle.Compiling, Done: 60 * i, Total: 1200})
	}
	of("kubernetes", bundle.Event{Phase: bundle.Downloading, Detail: "kubelet", Done: 12e6, Total: 50e6})
	look("running")
	of("etcd", bundle.Event{Phase: bundle.Done, Elapsed: 20 * time.Second})
	of("pause", bundle.Event{Phase: bundle.Failed, Detail: "gcc: exit status 1"})
	p.Done(errors.New("pause v1: gcc: exit status 1"))
}

// Elsewhere than on a terminal there is a line for each phase of a component, and one for each tenth of its packages.
func TestBundleWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	p, c := newTestProgress(&out, io.Discard, false, "demo-cp-1")
	bundleStory(p, c, func(string) {})
	want := `12:03:04 machines and bundle
12:03:04 bundle: choosing: building from source
12:03:04 bundle: runc v1: cached
12:03:04 etcd v1: building
12:03:04 kubernetes v1: building
12:03:05 etcd v1: compiling: 0 of 1,200 packages
12:03:07 etcd v1: compiling: 120 of 1,200 packages
12:03:09 etcd v1: compiling: 240 of 1,200 packages
12:03:11 etcd v1: compiling: 360 of 1,200 packages
12:03:13 etcd v1: compiling: 480 of 1,200 packages
12:03:15 etcd v1: compiling: 600 of 1,200 packages
12:03:17 etcd v1: compiling: 720 of 1,200 packages
12:03:19 etcd v1: compiling: 840 of 1,200 packages
12:03:21 etcd v1: compiling: 960 of 1,200 packages
12:03:23 etcd v1: compiling: 1,080 of 1,200 packages
12:03:24 kubernetes v1: downloading: 12.0 of 50.0 MB: kubelet
12:03:24 etcd v1: done (20s)
12:03:24 pause v1: failed: gcc: exit status 1
12:03:24 machines and bundle 20.0s, total 20.0s
`
	if got := out.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

// On a terminal a component has a row, which shows every measure and how long it took.
func TestBundleOnTerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	t.Setenv("TERM", "xterm")
	screen := &terminal{}
	p, c := newTestProgress(screen, io.Discard, true, "demo-cp-1")
	p.live.width = 80
	want := map[string]string{
		"running": `
· demo-cp-1
⠋ bundle       20.0s  runc v1: cached
⠋ etcd         20.0s  compiling: 1,140 of 1,200 packages
⠋ kubernetes   20.0s  downloading: 12.0 of 50.0 MB: kubelet
  machines and bundle 20.0s`,
		"end": `
✓ demo-cp-1           nothing to do
✓ bundle       20.0s  runc v1: cached
✓ etcd         20.0s  done
– kubernetes   20.0s  interrupted: downloading: 12.0 of 50.0 MB: kubelet
✗ pause         0.0s  gcc: exit status 1
machines and bundle 20.0s, total 20.0s`,
	}
	look := func(at string) {
		deadline := time.Now().Add(5 * time.Second)
		for screen.text() != strings.TrimPrefix(want[at], "\n") {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the terminal shows\n%s\nwant%s", at, screen.text(), want[at])
			}
			time.Sleep(redraw / 4)
		}
	}
	bundleStory(p, c, look)
	look("end")
}

// The journal has each component as a part of the phase, with the times of what it went through.
func TestBundleInJournal(t *testing.T) {
	store, err := state.Open(t.Context(), state.Options{Dir: filepath.Join(t.TempDir(), "demo")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // of a test
	p, c := newTestProgress(io.Discard, io.Discard, false)
	if p.recorder, err = journal.Start(t.Context(), store, journal.Run{Cluster: "demo", Command: "apply"}); err != nil {
		t.Fatal(err)
	}
	bundleStory(p, c, func(string) {})
	if err := p.recorder.End(context.Background(), errors.New("failed")); err != nil {
		t.Fatal(err)
	}
	run, err := journal.Get(t.Context(), store, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	type part struct {
		name   string
		state  journal.State
		detail string
		phases string
	}
	var got []part
	for _, p := range run.Phases[0].Parts {
		var phases []string
		for _, phase := range p.Phases {
			phases = append(phases, phase.Name)
		}
		got = append(got, part{p.Name, p.State, p.Detail, strings.Join(phases, " ")})
	}
	want := []part{
		{"etcd v1", journal.Succeeded, "", "compiling"},
		{"kubernetes v1", journal.Interrupted, "12.0 of 50.0 MB: kubelet", "downloading"},
		{"pause v1", journal.Failed, "gcc: exit status 1", ""},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("recorded %+v, want %+v", got, want)
	}
}
