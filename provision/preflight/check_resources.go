package preflight

import (
	"fmt"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
)

// kubeadm's minimum for a control plane (k8s.io/kubernetes, cmd/kubeadm/app/constants), and what a
// worker's components need.
const (
	minCPUs           = 2
	minControlPlaneMB = 1700
	minWorkerMB       = 700
)

func checkCPUs(n *Node, _ *Situation) []Finding {
	if c := n.Facts.CPUs; c > 0 && c < minCPUs {
		return found("", "the machine has %d CPU, and a control plane needs %d", c, minCPUs)
	}
	return nil
}

func checkMemory(n *Node, _ *Situation) []Finding {
	mb := n.Facts.MemoryKB / 1000 // as kubeadm counts
	switch {
	case mb == 0:
	case n.Role == spec.ControlPlane && mb < minControlPlaneMB:
		return found("", "the machine has %d MB of memory, and a control plane needs %d MB", mb, minControlPlaneMB)
	case mb < minWorkerMB:
		return []Finding{{Severity: Warning, Found: fmt.Sprintf("the machine has %d MB of memory, and a node's components need %d MB", mb, minWorkerMB)}}
	}
	return nil
}

const (
	// maxSync is etcd's limit for the 99th percentile of wal_fsync_duration_seconds (etcd.io, FAQ).
	maxSync = 10 * time.Millisecond
	// minSyncs are needed to say anything; a disk that does fewer in a second is slow in any case.
	minSyncs = 5
)

func checkLatency(n *Node, _ *Situation) []Finding {
	syncs := slices.Sorted(slices.Values(n.Facts.Syncs))
	if len(syncs) < minSyncs {
		return nil
	}
	p99 := syncs[(len(syncs)*99+99)/100-1]
	if len(syncs) < 200 && len(syncs) > 20 {
		p99 = syncs[len(syncs)-2] // one write that other load delayed says little
	}
	if p99 <= maxSync {
		return nil
	}
	return found("", "of %d writes to the disk of /var/lib/etcd, the slowest hundredth took %s each, and etcd needs %s: "+
		"use an SSD that nothing else writes to", len(syncs), p99.Round(100*time.Microsecond), maxSync)
}

const (
	// maxSkew is from what difference etcd warns (server/etcdserver/api/rafthttp).
	maxSkew = time.Second
	// farSkew is nearly what certificates are backdated by: beyond it hosts reject new ones.
	farSkew = certs.Backdate * 4 / 5
)

// offset returns the bounds of the difference of a host's clock from this computer's; ok is false if it
// is not known.
func (f Facts) offset() (low, high time.Duration, ok bool) {
	if f.Clock.IsZero() || f.Sent.IsZero() || f.Heard.Before(f.Sent) {
		return 0, 0, false
	}
	return f.Clock.Sub(f.Heard), f.Clock.Sub(f.Sent), true
}

// checkClock compares a clock with that of the host in the middle, so that the one that is wrong is
// named. What the measurement leaves open counts as agreement.
func checkClock(n *Node, s *Situation) []Finding {
	low, high, ok := n.Facts.offset()
	if !ok {
		return nil
	}
	middle := s.middleClock()
	if middle == nil || middle.Name == n.Name {
		return nil
	}
	otherLow, otherHigh, _ := middle.Facts.offset()
	ahead, behind := low-otherHigh, otherLow-high
	skew, way := ahead, "ahead of"
	if behind > ahead {
		skew, way = behind, "behind"
	}
	if skew <= maxSkew {
		return nil
	}
	f := found("timedatectl set-ntp true", "its clock is %s %s that of %s", skew.Round(time.Second/10), way, middle.Name)
	if skew >= farSkew {
		f[0].Severity = Error
	}
	return f
}

// middleClock is the host whose clock is in the middle; nil if fewer than two are known.
func (s *Situation) middleClock() *Node {
	var known []*Node
	for i := range s.Nodes {
		if _, _, ok := s.Nodes[i].Facts.offset(); ok {
			known = append(known, &s.Nodes[i])
		}
	}
	if len(known) < 2 {
		return nil
	}
	slices.SortStableFunc(known, func(a, b *Node) int {
		aLow, aHigh, _ := a.Facts.offset()
		bLow, bHigh, _ := b.Facts.offset()
		return int((aLow + aHigh - bLow - bHigh).Microseconds())
	})
	return known[(len(known)-1)/2]
}
