package main

import (
	"os"
	"runtime/debug"
)

// What a run on a cluster may use, beside the program itself, before garbage is collected more often: a
// thousand hosts need about 150 MB that is in use (BenchmarkHosts), and by default Go would let the
// garbage grow to the same amount again.
const (
	memoryBase    = 80 << 20
	memoryPerHost = 160 << 10
)

// limitMemory sets a soft limit for the garbage collector that grows with the number of hosts, so that
// memory which is really needed is never short. GOMEMLIMIT takes precedence.
func limitMemory(hosts int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(memoryBase + hosts*memoryPerHost))
	}
}
