package scale_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	sizes  = flag.String("hosts", "10,100,1000", "how many hosts BenchmarkPlan simulates, separated by commas")
	output = flag.String("report", "", "the file whose section about scale BenchmarkPlan writes anew")
)

// BenchmarkPlan measures `slipway plan` where nothing differs. Each size is a cluster of its own.
func BenchmarkPlan(b *testing.B) {
	load := loadAverage(b)
	var all []figures
	for size := range strings.SplitSeq(*sizes, ",") {
		hosts, err := strconv.Atoi(size)
		if err != nil || hosts <= controlPlanes {
			b.Fatalf("-hosts: %q is not a number above %d", size, controlPlanes)
		}
		b.Run(size, func(b *testing.B) {
			c := newCluster(b, hosts)
			best := figures{took: time.Hour}
			for b.Loop() {
				plan, f := c.run(b)
				if !plan.Empty() || plan.Unasked != "" {
					b.Fatalf("the plan is not empty: %d changes, API %q", len(plan.Changes), plan.Unasked)
				}
				if f.took < best.took {
					best = f
				}
			}
			all = append(all, best)
			b.ReportMetric(best.took.Seconds(), "s/plan")
			b.ReportMetric(best.busy.Seconds(), "cpu-s/plan")
			b.ReportMetric(float64(best.memory>>20), "MB")
			b.ReportMetric(float64(best.workers), "trips/worker")
		})
	}
	_, _ = fmt.Println(load, all, runtime.NumCPU())
}

func loadAverage(b *testing.B) string {
	b.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		b.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
