package diagnose

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/spec"
)

// etcdMetrics is where a member tells its metrics, without TLS, on its own machine.
const etcdMetrics = "http://127.0.0.1:2381/metrics"

// etcd asks the members of the reachable control planes, and reads their metrics.
func (g *gathering) etcd(ctx context.Context) Etcd {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	e := Etcd{Asked: true}
	var members []etcd.Member
	client, err := live.Etcd(g.Input, g.Hosts)
	if err == nil {
		members, err = client.Status(ctx)
	}
	if err != nil {
		e.Error = shortened(err.Error(), maxLine)
	}
	e.Members = g.members(members)
	var wait sync.WaitGroup
	for i := range e.Members {
		m := &e.Members[i]
		if d := g.dialer(m.Name); d != nil {
			wait.Go(func() { m.measure(ctx, d) })
		}
	}
	wait.Wait()
	return e
}

// members joins what etcd lists with what the spec has.
func (g *gathering) members(listed []etcd.Member) []Member {
	var all []Member
	for _, l := range listed {
		m := Member{
			Name: l.Name, ID: fmt.Sprintf("%x", l.ID), Known: true, Answers: l.Answers, Out: l.Out, Leader: l.Leader, Learner: l.Learner,
			Version: l.Version, DBSize: l.DBSize, Quota: l.Quota, Alarms: l.Alarms, Cluster: live.ClusterOf([]etcd.Member{l}),
		}
		if l.Err != nil {
			m.Error = shortened(l.Err.Error(), maxLine)
		}
		all = append(all, m)
	}
	for _, n := range g.Input.Cluster.Nodes() {
		if n.Role != spec.ControlPlane {
			continue
		}
		i := slices.IndexFunc(all, func(m Member) bool { return m.Name == n.Name })
		if i < 0 {
			all = append(all, Member{Name: n.Name})
			i = len(all) - 1
		}
		all[i].Expected = true
	}
	return all
}

// measure reads the metrics of a member.
func (m *Member) measure(ctx context.Context, d host.Dialer) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, etcdMetrics, nil)
	if err != nil {
		return
	}
	transport := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return
	}
	defer func() { _ = response.Body.Close() }()
	m.metrics(io.LimitReader(response.Body, 16<<20))
}

// metrics reads Prometheus' text format.
func (m *Member) metrics(text io.Reader) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(text)
	if err != nil && len(found) == 0 {
		return
	}
	m.Fsync = mean(found["etcd_disk_wal_fsync_duration_seconds"])
	m.Commit = mean(found["etcd_disk_backend_commit_duration_seconds"])
	if f := found["etcd_server_leader_changes_seen_total"]; f != nil && len(f.GetMetric()) > 0 {
		m.LeaderChanges = int(f.GetMetric()[0].GetCounter().GetValue())
	}
}

// mean of a histogram of seconds.
func mean(f *dto.MetricFamily) time.Duration {
	if f == nil || len(f.GetMetric()) == 0 {
		return 0
	}
	h := f.GetMetric()[0].GetHistogram()
	if h.GetSampleCount() == 0 {
		return 0
	}
	return time.Duration(h.GetSampleSum() / float64(h.GetSampleCount()) * float64(time.Second)).Truncate(time.Microsecond)
}
