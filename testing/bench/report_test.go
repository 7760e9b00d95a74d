package main

import (
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	s := func(seconds ...float64) (all []slipwayRun) {
		for _, x := range seconds {
			d := time.Duration(x * float64(time.Second))
			all = append(all, slipwayRun{ready: d, usable: d + 2*time.Second, done: d + time.Second, nothing: 2 * d, noop: d / 10, maxRSS: int64(x) << 20})
		}
		return all
	}
	text := report("-runs 3", "A computer.", results{
		slipwayOne: s(4), slipwayHA: s(12, 8, 10),
		kubeadm: []kubeadmRun{{one: 8 * time.Second, oneUsable: 12 * time.Second, all: 50 * time.Second, allUsable: 60 * time.Second}},
	})
	for _, row := range []string{
		"(`go run ./testing/bench -runs 3`). A computer.",
		"| one control plane Ready | 8.0 s | 4.0 s | 0.50 (target: at most 1) |",
		"| and CoreDNS available | 12.0 s | 6.0 s | 0.50 |",
		"| and CoreDNS available | 60.0 s | 12.0 s (10.0 s to 14.0 s) | 0.20 |",
		"| three control planes and a worker Ready | 50.0 s | 10.0 s (8.0 s to 12.0 s) | 0.20 (target: at most 0.25) |",
		"| the same, to the end of `slipway apply` with its last check | | 11.0 s (9.0 s to 13.0 s) | |",
		"| `apply` with nothing there: machines made, cluster Ready, checked | 20.0 s (16.0 s to 24.0 s) | under 40.0 s |",
		"| `apply` that finds nothing to do | 1.0 s (0.8 s to 1.2 s) | under 2.0 s |",
		"| slipway's peak memory (resident) | 12 MB | under 150 MB |",
	} {
		if !strings.Contains(text, row+"\n") {
			t.Errorf("no row\n%s\nin\n%s", row, text)
		}
	}
}

func TestReportWithoutKubeadm(t *testing.T) {
	text := report("-skip-kubeadm", "", results{slipwayOne: make([]slipwayRun, 1), slipwayHA: make([]slipwayRun, 1)})
	if !strings.Contains(text, "| one control plane Ready | not measured | 0.0 s | not measured ") {
		t.Errorf("kubeadm's column is not empty:\n%s", text)
	}
}

func TestDeliveryReport(t *testing.T) {
	text := deliveryReport("-deliver 8", "A computer.", 50, []deliveryRun{
		{machines: 8, copy: 200 << 20, sent: 220 << 20, took: 40 * time.Second, scpBytes: 2000 << 20, scpTook: 320 * time.Second},
	})
	if row := "| 8 | 40.0 s | 220 MB | 1.10 (target: at most 1.3) | 320.0 s | 2000 MB |\n"; !strings.Contains(text, row) {
		t.Errorf("no row\n%s\nin\n%s", row, text)
	}
}
