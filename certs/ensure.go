package certs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Ensure returns an item for every request: the existing one if it fits, otherwise a newly issued
// one. The changes say what was issued and why, in the order of the table. have is not modified. A
// second call with the resulting Material changes nothing.
//
// CAs and key pairs are issued only if they are missing and nothing depends on them. Leaves are
// renewed, with a new key, if they differ from the request or the policy, or expire soon. If
// material is damaged, or CheckOwn finds faults in a CA of policy.Own, Ensure returns an *ItemError
// for each such item, joined, and issues nothing.
//
// Leaves of an external CA are not issued but listed in PKI.Pending. If the cluster cannot work
// without one of them, the error is a *PendingError; the PKI is still returned, to request the
// signatures.
//
// The caller must store the changes before anything uses them.
func Ensure(ctx context.Context, have Material, requests []Request, policy Policy, now time.Time) (*PKI, []Change, error) {
	if err := policy.validate(); err != nil {
		return nil, nil, err
	}
	if err := faultsError(CheckOwn(policy.Own, requests, now)); err != nil {
		return nil, nil, err
	}
	e := ensurer{
		have: have, own: withKeys(normalized(policy.Own), have), requests: requests, policy: policy, now: now,
		issuers: map[string]*issuer{}, reasons: map[string]Change{},
	}
	pki := &PKI{Requests: requests, Material: make(Material, len(requests))}
	for _, phase := range []func(Kind) bool{
		func(k Kind) bool { return k != Leaf },
		func(k Kind) bool { return k == Leaf },
	} {
		if err := e.run(ctx, pki, phase); err != nil {
			return nil, nil, err
		}
	}
	var changes []Change
	for _, q := range requests {
		if c, ok := e.reasons[q.Name]; ok {
			changes = append(changes, c)
		}
	}
	for name := range have {
		if _, ok := pki.Material[name]; !ok {
			pki.Obsolete = append(pki.Obsolete, name)
		}
	}
	slices.Sort(pki.Obsolete)
	return pki, changes, pendingError(pki.Pending)
}

// ensurer is the state of one Ensure.
type ensurer struct {
	have     Material
	own      map[string]Item
	requests []Request
	policy   Policy
	now      time.Time
	issuers  map[string]*issuer
	reasons  map[string]Change
}

// run checks and then issues the requests of one phase, and keeps the resulting CAs to sign with.
func (e *ensurer) run(ctx context.Context, pki *PKI, phase func(Kind) bool) error {
	var requests, due []Request
	var errs []error
	for _, q := range e.requests {
		if phase(q.Kind) {
			requests = append(requests, q)
		}
	}
	verdicts := e.checkAll(requests)
	for i, q := range requests {
		v := verdicts[i]
		if v.drift != nil {
			pki.Drift = append(pki.Drift, *v.drift)
		}
		switch {
		case v.err != nil:
			errs = append(errs, itemError(q.Name, v.err))
		case v.change != nil && q.Kind == Leaf && e.issuers[q.CA].key == nil:
			e.await(q, *v.change, pki)
		case v.change != nil:
			e.reasons[q.Name] = *v.change
			due = append(due, q)
		default:
			pki.Material[q.Name] = e.have[q.Name]
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	items, err := e.issueAll(ctx, due)
	if err != nil {
		return err
	}
	for i, q := range due {
		pki.Material[q.Name] = items[i]
	}
	return e.keepIssuers(pki, phase)
}

// issueAll issues in parallel, because making an RSA key takes seconds.
func (e *ensurer) issueAll(ctx context.Context, due []Request) ([]Item, error) {
	items := make([]Item, len(due))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, q := range due {
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("issue certificates: %w", context.Cause(ctx))
			}
			items[i], err = e.issue(q)
			return err
		})
	}
	return items, group.Wait()
}

func (e *ensurer) issue(q Request) (Item, error) {
	if q.Kind == KeyPair {
		return newKeyPair(q, e.policy)
	}
	if own, ok := e.own[q.Name]; ok && q.Kind == Authority {
		return own, nil
	}
	item, err := issue(q, e.policy, e.issuers[q.CA], e.now)
	if err != nil || q.Kind == Authority {
		return item, err
	}
	// An issued item must pass the check, or every Ensure would issue it again.
	cert, _, err := load(item)
	if err != nil {
		return Item{}, itemError(q.Name, err)
	}
	if c := e.leafDiffers(q, cert, e.issuers[q.CA]); c != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("cannot be issued as requested: %s", c.Detail))
	}
	if _, ok := e.own[q.CA]; ok {
		return item, itemError(q.Name, e.accepted(q, cert))
	}
	return item, nil
}

func (e *ensurer) keepIssuers(pki *PKI, phase func(Kind) bool) error {
	for _, q := range e.requests {
		if q.Kind != Authority || !phase(q.Kind) {
			continue
		}
		own, given := e.own[q.Name]
		by, err := loadAuthority(pki.Material[q.Name], given || slices.Contains(e.policy.Replaced, q.Name))
		if err != nil {
			return itemError(q.Name, err)
		}
		e.issuers[q.Name] = by
		if given && sameAuthority(by.cert, own) {
			pki.Own = append(pki.Own, q.Name)
		}
		if given && by.end.Before(e.now.Add(e.policy.LeafValidity)) {
			pki.Limited = append(pki.Limited, Change{q.Name, ValidityChanged, "its certificates expire with it, on " + by.end.Format(time.DateOnly)})
		}
	}
	return nil
}
