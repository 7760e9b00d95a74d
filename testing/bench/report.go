package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"slipway.dev/slipway/testing/bench/page"
)

// results of all runs; kubeadm's may be empty.
type results struct {
	slipwayOne, slipwayHA []slipwayRun
	kubeadm               []kubeadmRun
}

// The targets that the project has set itself, beside which the report puts what was measured.
const (
	targetHA      = 0.25 // of kubeadm's time
	targetNothing = 40 * time.Second
	targetNoop    = 2 * time.Second
	targetMemory  = 150 // MB
)

// heading is that of the section of docs/benchmarks.md which report is.
const heading = "Beside kubeadm"

// report says what was measured.
func report(args, facts string, r results) string {
	var w strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&w, format+"\n", a...) }
	p("Made by `make bench` (`go run ./testing/bench %s`). %s\n", args, facts)
	p("Both install the same binaries of Kubernetes %s on machines of the same form (the local provider's containers), in",
		kubernetesVersion)
	p("the same run. The clock starts when the machines answer SSH and have binaries and images. It stops when every node is")
	p("Ready, and then when CoreDNS is available too: a cluster of use to pods. Both are seen by polling the API every 50 ms.")
	p("Where there are several runs, the median is given, then the extremes.\n")
	p("| from machines that answer SSH | kubeadm | slipway | ratio |")
	p("|---|---|---|---|")
	compare := func(what string, k func(kubeadmRun) time.Duration, runs []slipwayRun, s func(slipwayRun) time.Duration, target string) {
		theirs, ours := pick(r.kubeadm, k), pick(runs, s)
		p("| %s | %s | %s | %s%s |", what, spread(theirs), spread(ours), ratio(ours, theirs), target)
	}
	ready := func(s slipwayRun) time.Duration { return s.ready }
	usable := func(s slipwayRun) time.Duration { return s.usable }
	compare("one control plane Ready", func(k kubeadmRun) time.Duration { return k.one }, r.slipwayOne, ready, " (target: at most 1)")
	compare("and CoreDNS available", func(k kubeadmRun) time.Duration { return k.oneUsable }, r.slipwayOne, usable, "")
	compare("three control planes and a worker Ready", func(k kubeadmRun) time.Duration { return k.all }, r.slipwayHA, ready,
		fmt.Sprintf(" (target: at most %.2f)", targetHA))
	compare("and CoreDNS available", func(k kubeadmRun) time.Duration { return k.allUsable }, r.slipwayHA, usable, "")
	p("| the same, to the end of `slipway apply` with its last check | | %s | |\n",
		spread(pick(r.slipwayHA, func(s slipwayRun) time.Duration { return s.done })))
	p("| slipway alone, three control planes and a worker | measured | target |")
	p("|---|---|---|")
	p("| `apply` with nothing there: machines made, cluster Ready, checked | %s | under %s |",
		spread(pick(r.slipwayHA, func(s slipwayRun) time.Duration { return s.nothing })), seconds(targetNothing))
	p("| `apply` that finds nothing to do | %s | under %s |",
		spread(pick(r.slipwayHA, func(s slipwayRun) time.Duration { return s.noop })), seconds(targetNoop))
	var rss int64
	for _, s := range r.slipwayHA {
		rss = max(rss, s.maxRSS)
	}
	p("| slipway's peak memory (resident) | %d MB | under %d MB |", rss>>20, targetMemory)
	return w.String()
}

func pick[T any](runs []T, f func(T) time.Duration) []time.Duration {
	var all []time.Duration
	for _, r := range runs {
		all = append(all, f(r))
	}
	slices.Sort(all)
	return all
}

func median(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

// spread is the median, and the extremes where there is more than one.
func spread(sorted []time.Duration) string {
	switch len(sorted) {
	case 0:
		return "not measured"
	case 1:
		return seconds(sorted[0])
	}
	return fmt.Sprintf("%s (%s to %s)", seconds(median(sorted)), seconds(sorted[0]), seconds(sorted[len(sorted)-1]))
}

func ratio(a, b []time.Duration) string {
	if len(a) == 0 || len(b) == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%.2f", median(a).Seconds()/median(b).Seconds())
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// facts describe the computer, and what else it was doing.
func (b *bench) facts(ctx context.Context) (string, error) {
	version, err := exec.CommandContext(ctx, b.slipway, "version").Output()
	if err != nil {
		return "", fmt.Errorf("slipway version: %w", err)
	}
	engine, err := b.docker.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "", err
	}
	computer, err := page.Computer()
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(string(version), " (")
	return fmt.Sprintf("%s, %s, Docker %s. %s.", time.Now().Format(time.DateOnly), strings.TrimSpace(name), engine.Version, computer), nil
}
