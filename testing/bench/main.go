// Command bench measures slipway beside kubeadm, on the same kind of machines, with the same binaries, in the same run.
//
//	go run ./testing/bench -slipway bin/slipway -o docs/benchmarks.md
//
// The clock runs from "machines answer SSH, binaries and images are there" until every node is Ready, for both. It is
// not a load test, and says nothing of clusters on real networks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/moby/client"

	"slipway.dev/slipway/testing/bench/page"
)

const kubernetesVersion = "v1.36.3"

// options are the command line.
type options struct {
	slipway string // the binary
	output  string // the report; empty for none
	runs    int
	skip    bool // no kubeadm
	// machines, if there are any, are the clusters to deliver to, instead of the comparison with kubeadm; uplink is in Mbit/s.
	machines counts
	uplink   int
}

// counts are numbers with commas.
type counts []int

func (c *counts) String() string { return strings.Trim(fmt.Sprint([]int(*c)), "[]") }

// Set implements flag.Value.
func (c *counts) Set(text string) error {
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a number of machines", word)
		}
		*c = append(*c, n)
	}
	return nil
}

// bench is what a run of the program shares.
type bench struct {
	options
	docker *client.Client
	dir    string // temporary
	cache  string // slipway's
}

func main() {
	var o options
	flag.StringVar(&o.slipway, "slipway", "bin/slipway", "the slipway binary")
	flag.StringVar(&o.output, "o", "", "write the report to its section of this file too")
	flag.IntVar(&o.runs, "runs", 3, "how often to measure each")
	flag.BoolVar(&o.skip, "skip-kubeadm", false, "measure slipway alone; the report then compares nothing")
	flag.Var(&o.machines, "deliver", "measure copies to so many machines (1,2,4,8) instead")
	flag.IntVar(&o.uplink, "uplink", 50, "Mbit/s of this computer, for -deliver")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

func run(ctx context.Context, o options) (err error) {
	b := &bench{options: o}
	if b.slipway, err = filepath.Abs(o.slipway); err != nil {
		return err
	}
	if b.cache, err = cacheDir(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.docker, err = client.New(client.FromEnv); err != nil {
		return err
	}
	facts, err := b.facts(ctx)
	if err != nil {
		return err
	}
	fmt.Println(facts)
	title, text, err := b.section(ctx, strings.Join(os.Args[1:], " "), facts)
	if err != nil {
		return err
	}
	fmt.Println(text)
	if o.output == "" {
		return nil
	}
	return page.Write(o.output, title, text)
}

// section measures, and returns a section of the page.
func (b *bench) section(ctx context.Context, args, facts string) (title, text string, err error) {
	if len(b.machines) > 0 {
		runs, err := b.measureDeliveries(ctx)
		return deliveryHeading, deliveryReport(args, facts, b.uplink, runs), err
	}
	results, err := b.measure(ctx)
	return heading, report(args, facts, results), err
}

// measure does all runs. What is measured second finds the same caches warm as what was first, since a first cluster,
// which is not counted, has made the machine image and read the bundle once.
func (b *bench) measure(ctx context.Context) (results, error) {
	var r results
	progress("warming up: one cluster that is not counted")
	one := topology{name: "bench-one", subnet: "10.87.1.0/24", controlPlanes: 1}
	ha := topology{name: "bench-ha", subnet: "10.87.2.0/24", controlPlanes: 3, workers: 1}
	if _, err := b.measureSlipway(ctx, one); err != nil {
		return r, err
	}
	for i := range b.runs {
		progress("run %d of %d: slipway, one control plane", i+1, b.runs)
		single, err := b.measureSlipway(ctx, one)
		if err != nil {
			return r, err
		}
		progress("run %d of %d: slipway, three control planes and a worker", i+1, b.runs)
		full, err := b.measureSlipway(ctx, ha)
		if err != nil {
			return r, err
		}
		r.slipwayOne, r.slipwayHA = append(r.slipwayOne, single), append(r.slipwayHA, full)
		if b.skip {
			continue
		}
		progress("run %d of %d: kubeadm, one control plane, then three and a worker", i+1, b.runs)
		k, err := b.measureKubeadm(ctx, full.machine)
		if err != nil {
			return r, err
		}
		r.kubeadm = append(r.kubeadm, k)
	}
	return r, nil
}

// cacheDir is where slipway keeps bundles.
func cacheDir() (string, error) {
	if dir := os.Getenv("SLIPWAY_CACHE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".cache", "slipway"), err
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
