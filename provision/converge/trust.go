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

// proveTrust waits until every endpoint of a host accepts clients of the new CAs.
func (r *Runner) proveTrust(ctx context.Context, s plan.Step) error {
	return r.probe(ctx, s, "does not trust the new CA yet", (*prober).trusts)
}

// proveRefusal waits until no endpoint of a host accepts clients of the dropped CAs, while it
// accepts others.
func (r *Runner) proveRefusal(ctx context.Context, s plan.Step) error {
	return r.probe(ctx, s, "is not proven to refuse the dropped CA", (*prober).refuses)
}

// probe queries every endpoint of a host as a client of the CA that is not in use, and of the one
// that is. If the first is an external CA, that is impossible, and reported.
func (r *Runner) probe(ctx context.Context, s plan.Step, problem string, proven func(*prober, context.Context) error) error {
	pki := r.Input.PKI
	return r.eachEndpoint(ctx, s.Host, func(ctx context.Context, h host.Dialer, e stack.Endpoint, address string) error {
		other, ok := pki.Other[e.Client]
		if !ok {
			return nil
		}
		if len(other.Key) == 0 {
			r.report(s.Host, fmt.Sprintf("%s: not proven, since the CA is external", e.Unit))
			return nil
		}
		now := time.Now().Add(r.Observed.Hosts[s.Host].Facts.Clock.Offset()) // a wrong clock must not look like missing trust
		if other.Expired(now) {
			return nil // no endpoint would accept what it issues
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

// prober queries an endpoint as clients of two CAs: of the one that is not in use, and of the one
// that is.
type prober struct {
	reach           live.Reach
	host            host.Dialer
	row             stack.Endpoint
	address         string
	roots           []byte
	client, control certs.Item
}

// trusts requires that the client is accepted. If the other client is rejected as well, the CA is
// not the reason.
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

// refuses requires that the client is rejected by an endpoint that accepts the other client in the
// same round: an endpoint that accepts no client, because of its clock or for another reason,
// proves nothing about the CA.
func (p *prober) refuses(ctx context.Context) error {
	if err := p.controlled(ctx); err != nil {
		return err
	}
	taken, how, err := p.ask(ctx, p.client)
	if err == nil && taken {
		err = fmt.Errorf("it accepted the client: %s", how)
	}
	return err
}

// controlled returns nil if the client of the CA in use is accepted.
func (p *prober) controlled(ctx context.Context) error {
	taken, how, err := p.ask(ctx, p.control)
	if err == nil && !taken {
		err = fmt.Errorf("it also refused a client of the CA in use: %s; check that it works, "+
			"and that the clocks of the host and of this computer are right", how)
	}
	return err
}

func (p *prober) ask(ctx context.Context, client certs.Item) (taken bool, how string, err error) {
	return p.reach.Admits(ctx, p.host, p.row, p.address, p.roots, client)
}

// probeClient issues a client certificate of a CA for an endpoint.
func probeClient(e stack.Endpoint, ca certs.Item, now time.Time) (certs.Item, error) {
	name := stack.ProbeName
	if e.Client == certs.FrontProxyCA {
		name = "front-proxy-client" // for --requestheader-allowed-names, if it is set
	}
	return certs.NewProbe(ca, name, now)
}

// controlClient is a client of the CA in use that an endpoint should accept: a probe like the
// other, or, if the CA is external, an existing client of the cluster.
func controlClient(pki *certs.PKI, e stack.Endpoint, now time.Time) (certs.Item, error) {
	if used := pki.Material[e.Client]; len(used.Key) > 0 {
		return probeClient(e, used, now)
	}
	i := slices.IndexFunc(pki.Requests, func(q certs.Request) bool {
		return q.CA == e.Client && q.Usages&certs.ClientAuth != 0 && len(pki.Material[q.Name].Key) > 0
	})
	if i < 0 {
		return certs.Item{}, errors.New("there is no client certificate of " + e.Client + " to test with")
	}
	return pki.Material[pki.Requests[i].Name], nil
}
