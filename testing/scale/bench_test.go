package scale_test

import (
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/testing/bench/page"
)

var (
	sizes  = flag.String("hosts", "10,100,1000", "how many hosts BenchmarkPlan simulates, separated by commas")
	output = flag.String("report", "", "the file whose section about scale BenchmarkPlan writes anew")
)

// BenchmarkPlan measures `slipway plan` where nothing differs. Each size is a cluster of its own; of several plans the
// median is taken, and the most memory.
func BenchmarkPlan(b *testing.B) {
	computer, err := page.Computer()
	if err != nil {
		b.Fatal(err)
	}
	var all []figures
	for size := range strings.SplitSeq(*sizes, ",") {
		hosts, err := strconv.Atoi(size)
		if err != nil || hosts <= controlPlanes {
			b.Fatalf("-hosts: %q is not a number above %d", size, controlPlanes)
		}
		b.Run(size, func(b *testing.B) {
			c := newCluster(b, hosts)
			var runs []figures
			for b.Loop() {
				plan, f := c.run(b)
				if len(plan.Changes)+len(plan.Steps)+len(plan.Machines) > 0 || plan.APIError != "" { // the engine has no balancer
					b.Fatalf("the plan has %d changes and %d steps, and makes %d machines; API %q", len(plan.Changes), len(plan.Steps), len(plan.Machines), plan.APIError)
				}
				runs = append(runs, f)
			}
			f := summary(runs)
			all = append(all, f)
			b.ReportMetric(f.took.Seconds(), "s/plan")
			b.ReportMetric(f.busy.Seconds(), "cpu-s/plan")
			b.ReportMetric(float64(f.memory>>20), "MB")
			b.ReportMetric(float64(f.workers), "trips/worker")
			b.ReportMetric(float64(f.control), "trips/control-plane")
		})
	}
	if len(all) == 0 {
		return // all were skipped
	}
	version, err := exec.CommandContext(b.Context(), slipway(b), "version").Output()
	if err != nil {
		b.Fatal(err)
	}
	name, _, _ := strings.Cut(string(version), " (")
	text := table(fmt.Sprintf("%s, %s. %s.", time.Now().Format(time.DateOnly), strings.TrimSpace(name), computer), all)
	fmt.Println(text)
	if *output != "" {
		if err := page.Write(*output, "Plan on many hosts", text); err != nil {
			b.Fatal(err)
		}
	}
}

// summary is of several runs of one size.
func summary(runs []figures) figures {
	slices.SortFunc(runs, func(a, b figures) int { return int(a.took - b.took) })
	f := runs[len(runs)/2]
	for _, r := range runs {
		f.memory, f.workers, f.control = max(f.memory, r.memory), max(f.workers, r.workers), max(f.control, r.control)
	}
	return f
}

// The targets that the project has set itself, for 1,000 hosts.
const (
	targetHosts  = 1000
	targetTime   = 10 * time.Second
	targetMemory = 300 // MB
)

const explanation = "`slipway plan`" + ` where nothing differs, from the start of the process to its end, with all that belongs to it: spec,
state, checking every certificate, connecting, observing, asking the API and etcd. Real are the slipway binary, its SSH
connections and their handshakes, with a pinned ed25519 key of each host's, etcd (a member for each of three control
planes) and an API server, with the cluster's certificates, objects and nodes. Simulated are the hosts: SSH servers in
another process on the same computer, %d ms of round trip away, which answer the script that observes a host with
the report of one that is as it should be, and the Docker engine, which only lists the machines. So hosts take no time of
their own to answer, and the other process takes a share of the processors, above all for its half of the handshakes.

Round trips are counted at the servers, after the handshake, where one had to wait for another: opening a session is the
first, the script with its report the second. Control planes lead to the API and etcd as well. Of several plans the
median time is given, with the processor time of that plan, and the most memory (resident).
`

func table(facts string, all []figures) string {
	var w strings.Builder
	p := func(format string, a ...any) { _, _ = fmt.Fprintf(&w, format+"\n", a...) }
	p("Made by `make bench-plan`. %s\n", facts)
	p(explanation, latency.Milliseconds())
	p("| hosts | time | processor time | peak memory | round trips: worker | control plane |")
	p("|---|---|---|---|---|---|")
	for _, f := range all {
		p("| %d | %.1f s%s | %.1f s | %d MB%s | %d%s | %d |", f.hosts, f.took.Seconds(), target(f, fmt.Sprintf("under %.0f s", targetTime.Seconds())), f.busy.Seconds(),
			f.memory>>20, target(f, fmt.Sprintf("under %d MB", targetMemory)), f.workers, target(f, fmt.Sprintf("at most %d", mostTrips)), f.control)
	}
	if n := len(all); n > 1 {
		a, b := all[n-2], all[n-1]
		more := float64(b.hosts - a.hosts)
		p("\nFrom %d hosts to %d, each takes %.1f ms more, %.1f ms of processor time and %.0f kB.", a.hosts, b.hosts,
			(b.took-a.took).Seconds()*1000/more, (b.busy-a.busy).Seconds()*1000/more, float64(b.memory-a.memory)/1024/more)
	}
	return w.String()
}

// target is what is aimed at, beside the size for which it is.
func target(f figures, text string) string {
	if f.hosts != targetHosts {
		return ""
	}
	return " (target: " + text + ")"
}
