package converge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// endedMembers returns the hosts whose etcd member serves an expired certificate, by the host's own
// clock. They are queried only if the cluster has been up, no member answers, and the rest is not
// conclusive: etcd logs each such handshake.
func (v *View) endedMembers(ctx context.Context, observed stack.State) map[string]bool {
	if !plan.Alive(v.Input.Machines, observed, plan.Signs{API: true, BeenUp: v.Input.BeenUp, Gone: v.Input.Gone}) || plan.Answered(observed) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, live.CompareTimeout)
	defer cancel()
	var mu sync.Mutex
	var questions sync.WaitGroup
	ended := map[string]bool{}
	for _, m := range v.Input.ControlPlanes() {
		questions.Go(func() {
			offset := v.Observed.Hosts[m.Name].Facts.Clock.Offset()
			_ = v.eachEndpoint(ctx, m.Name, func(ctx context.Context, h host.Dialer, e stack.Endpoint, address string) error {
				if e.Unit != stack.EtcdService {
					return nil
				}
				shown, err := v.reach().PeerCertificate(ctx, h, address, "")
				if err != nil || !time.Now().Add(offset).After(shown.NotAfter) {
					return nil //nolint:nilerr // an unreachable member shows nothing, and does not stop the others
				}
				mu.Lock()
				defer mu.Unlock()
				ended[m.Name] = true
				v.report(m.Name, fmt.Sprintf("its etcd member serves a certificate that expired at %s", shown.NotAfter.UTC().Format(time.RFC3339)))
				return nil
			}) // a host that cannot be reached shows nothing
		})
	}
	questions.Wait()
	return ended
}
