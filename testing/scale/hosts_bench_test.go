package scale_test

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/testing/bench/page"
)

// The targets for 1,000 machines that exist, behind two bastions.
const targetBoth = 20 * time.Second

const hostsExplanation = "`slipway plan` and then `slipway apply --yes`" + ` on machines that exist (the hosts provider), reached through two chained
bastions, where one file was edited on every worker. Real and simulated is what the section above says; bastions are SSH servers
in the other process too, each %d ms of round trip away. Apply observes, writes the file on each worker, and observes again. It is a
file that nothing there reads (/etc/crictl.yaml): so there are neither batches nor gates, of which each batch would take seconds.

| hosts | plan | apply | both | peak memory |
|---|---|---|---|---|
`

// BenchmarkHosts measures plan and apply of one edited file, on machines behind two bastions.
func BenchmarkHosts(b *testing.B) {
	computer, err := page.Computer()
	if err != nil {
		b.Fatal(err)
	}
	var rows strings.Builder
	for size := range strings.SplitSeq(*sizes, ",") {
		hosts, err := strconv.Atoi(size)
		if err != nil || hosts <= controlPlanes {
			b.Fatalf("-hosts: %q is not a number above %d", size, controlPlanes)
		}
		b.Run(size, func(b *testing.B) {
			c := newHosts(b, hosts)
			var plans, applies []figures
			for b.Loop() {
				c.edit()
				p, f := c.run(b)
				if len(p.Changes) != hosts-controlPlanes {
					b.Fatalf("%d changes on %d hosts", len(p.Changes), hosts)
				}
				plans, applies = append(plans, f), append(applies, c.apply(b))
			}
			plan, apply := summary(plans), summary(applies)
			b.ReportMetric(plan.took.Seconds(), "s/plan")
			b.ReportMetric(apply.took.Seconds(), "s/apply")
			b.ReportMetric(plan.busy.Seconds(), "cpu-s/plan")
			b.ReportMetric(apply.busy.Seconds(), "cpu-s/apply")
			b.ReportMetric((plan.rest + apply.rest).Seconds(), "hosts-cpu-s")
			b.ReportMetric(float64(max(plan.memory, apply.memory)>>20), "MB")
			fmt.Fprintf(&rows, "| %d | %.1f s | %.1f s | %.1f s%s | %d MB%s |\n", hosts, plan.took.Seconds(), apply.took.Seconds(),
				(plan.took + apply.took).Seconds(), target(plan, fmt.Sprintf("under %.0f s", targetBoth.Seconds())),
				max(plan.memory, apply.memory)>>20, target(plan, fmt.Sprintf("under %d MB", targetMemory)))
		})
	}
	if rows.Len() == 0 {
		return // all were skipped
	}
	version, err := exec.CommandContext(b.Context(), slipway(b), "version").Output()
	if err != nil {
		b.Fatal(err)
	}
	name, _, _ := strings.Cut(string(version), " (")
	text := fmt.Sprintf("Made by `make bench-plan`. %s, %s. %s.\n\n", time.Now().Format(time.DateOnly), strings.TrimSpace(name), computer) +
		fmt.Sprintf(hostsExplanation, latency.Milliseconds()) + rows.String()
	fmt.Println(text)
	if *output != "" {
		if err := page.Write(*output, "Many hosts behind bastions", text); err != nil {
			b.Fatal(err)
		}
	}
}
