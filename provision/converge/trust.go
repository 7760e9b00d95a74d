package converge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// proveTrust waits until every endpoint of a host takes clients of the authorities that are to come.
func (r *Runner) proveTrust(ctx context.Context, s plan.Step) error {
	return r.probe(ctx, s, "does not trust the new authority yet", (*prober).trusts)
}

// proveRefusal waits until no endpoint of a host takes clients of the authorities that are dropped, although it takes
// clients.
func (r *Runner) proveRefusal(ctx context.Context, s plan.Step) error {
	return r.probe(ctx, s, "is not proven to refuse the authority that was dropped", (*prober).refuses)
}

// probe asks every endpoint of a host as a client of the authority that is not in use, and of the one that is. Where the
// key of the first is elsewhere that cannot be, and is said.
func (r *Runner) probe(ctx context.Context, s plan.Step, problem string, proven func(*prober, context.Context) error) error {
	pki := r.Input.PKI
	return r.eachEndpoint(ctx, s.Host, func(ctx context.Context, h host.Dialer, e stack.Endpoint, address string) error {
		other, ok := pki.Other[e.Client]
		if !ok {
			return nil
		}
		if len(other.Key) == 0 {
			r.report(s.Host, fmt.Sprintf("%s: not proven, since the key of the authority is elsewhere", e.Unit))
			return nil
		}
		now := time.Now().Add(r.Observed.Hosts[s.Host].Facts.Clock.Offset()) // whose clock is wrong must not look like who is not trusted
		if other.Expired(now) {
			return nil // it can issue nothing any more that anybody would take
		}
		client, err := probeClient(e, other, now)
		if err != nil {
			return err
		}
		control, err := controlClient(pki, e, now)
		if err != nil {
			return err
		}
		p := &prober{reach: r.reach(), host: h, row: e, address: address, roots: pki.Bundle(e.Server), client: client, control: control}
		return live.WaitFor(ctx, fmt.Sprintf("%s on %s (%s) %s", e.Unit, s.Host, address, problem), func(ctx context.Context) error {
			return proven(p, ctx)
		})
	})
}

// prober asks an endpoint as clients of two authorities: of the one that is not in use, and of the one that is.
type prober struct {
	reach           live.Reach
	host            host.Dialer
	row             stack.Endpoint
	address         string
	roots           []byte
	client, control certs.Item
}

// trusts wants the client to be taken. Where the other is refused as well, it is not for their authorities.
func (p *prober) trusts(ctx context.Context) error {
	taken, how, err := p.ask(ctx, p.client)
	if err != nil || taken {
		return err
	}
	err = fmt.Errorf("it refused the client: %s", how)
	if other := p.controlled(ctx); other != nil {
		err = fmt.Errorf("%w; and %w", err, other)
	}
	return err
}

// refuses wants the client to be refused, by an endpoint that takes the other in the same round: one that takes nobody,
// for its clock or for any other reason, has refused no authority.
func (p *prober) refuses(ctx context.Context) error {
	if err := p.controlled(ctx); err != nil {
		return err
	}
	taken, how, err := p.ask(ctx, p.client)
	if err == nil && taken {
		err = fmt.Errorf("it took the client: %s", how)
	}
	return err
}

// controlled is nil where the client of the authority in use is taken.
func (p *prober) controlled(ctx context.Context) error {
	taken, how, err := p.ask(ctx, p.control)
	if err == nil && !taken {
		err = fmt.Errorf("it refused a client of the authority in use, too: %s; see that it works, and that the clocks of the host and of this computer are right", how)
	}
	return err
}

func (p *prober) ask(ctx context.Context, client certs.Item) (taken bool, how string, err error) {
	return p.reach.Admits(ctx, p.host, p.row, p.address, p.roots, client)
}

// probeClient issues a client of an authority for an endpoint.
func probeClient(e stack.Endpoint, ca certs.Item, now time.Time) (certs.Item, error) {
	name := stack.ProbeName
	if e.Client == certs.FrontProxyCA {
		name = "front-proxy-client" // --requestheader-allowed-names, if anybody sets it
	}
	return certs.NewProbe(ca, name, now)
}

// controlClient is a client of the authority in use that an endpoint is to take: a probe like the other, or, where the
// authority's key is elsewhere, one that the cluster has.
func controlClient(pki *certs.PKI, e stack.Endpoint, now time.Time) (certs.Item, error) {
	if used := pki.Material[e.Client]; len(used.Key) > 0 {
		return probeClient(e, used, now)
	}
	i := slices.IndexFunc(pki.Requests, func(q certs.Request) bool {
		return q.CA == e.Client && q.Usages&certs.ClientAuth != 0 && len(pki.Material[q.Name].Key) > 0
	})
	if i < 0 {
		return certs.Item{}, errors.New("there is no client certificate of " + e.Client + " to ask with")
	}
	return pki.Material[pki.Requests[i].Name], nil
}
