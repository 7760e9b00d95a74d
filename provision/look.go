package provision

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/stack"
)

// appliedName is the state's name for what was last applied.
const appliedName = "applied.json"

// look observes everything and plans. It changes nothing: missing secrets are created, and kept in
// memory. The returned function closes the connections.
func (s *Session) look(ctx context.Context) (*plan.Plan, func(), error) {
	nothing := func() {}
	s.surplus()
	var err error
	if s.stored, err = keys.Load(ctx, s.Store); err != nil {
		return nil, nothing, err
	}
	s.stored.Leaving = s.Leaving
	if s.secrets, err = keys.Ensure(ctx, s.stored, s.Renew, s.Cluster, s.infra, s.Own); err != nil {
		return nil, nothing, s.ofRotation(err)
	}
	for _, note := range s.Notes() {
		s.UI.Note(note)
	}
	applied, err := s.applied(ctx)
	if err != nil {
		return nil, nothing, err
	}
	s.observer = converge.Observer{
		Changing: s.changing, Report: s.UI.Host, Prove: s.Prove, Reach: s.Reach, Wishes: s.Wishes, Inspect: s.inspect, Artifacts: s.setSeen,
		Input: stack.Input{
			Cluster: s.Cluster, Machines: s.infra.Machines, Endpoint: stack.ExternalEndpoint(s.Cluster, s.infra), Artifacts: s.artifacts,
			PKI: s.secrets.PKI, EncryptionKeys: s.secrets.EncryptionKeys,
			UID: s.Record.UID, Gone: s.preflights.GoneNames(),
		},
		Before: plan.Before{Slipway: s.Version, Applied: applied, PKI: s.secrets.Before, Issued: s.secrets.Issued, EncryptionKeys: s.secrets.BeforeKeys},
	}
	hosts, closeAll, failed := s.Dial(ctx, s.infra.Running())
	s.hosts = hosts
	if err := s.without(ctx, failed); err != nil {
		closeAll()
		return nil, nothing, err
	}
	p, err := s.observe(ctx)
	if err != nil {
		closeAll()
		return nil, nothing, err
	}
	return p, closeAll, nil
}

// ofRotation adds to missing signatures that the rotation needs them, and that nothing can be
// applied before.
func (s *Session) ofRotation(err error) error {
	r := s.stored.Rotation
	if r == nil || r.Stage != certs.Issue || s.Prove == plan.ProveStage || !errors.As(err, new(*certs.PendingError)) {
		return err
	}
	return fmt.Errorf("the %v; until its new certificates are signed nothing can be applied, except `slipway %s --rollback`: %w", r, rotate.CommandOf(r), err)
}

// Notes returns those of the spec, of the secrets and of the provider, warnings about new machines,
// and a running rotation that this run does not expect.
func (s *Session) Notes() []string {
	if s.secrets == nil {
		return nil // nothing was planned
	}
	notes := slices.Concat(s.Remarks, s.bundleNotes, s.secrets.Notes(), s.warnings)
	if n, ok := s.Machines.(Noter); ok {
		notes = append(notes, n.Notes()...)
	}
	if r := s.secrets.PKI.Rotation; r != nil && s.Prove != plan.ProveStage {
		notes = append(notes, rotate.Progress(r))
	}
	return notes
}

// observe reads hosts and API and determines the differences.
func (s *Session) observe(ctx context.Context) (*plan.Plan, error) {
	s.UI.Phase("observe")
	in := &s.observer.Input
	in.Generation, in.Rebuilding = cmp.Or(s.beginning, s.Record.Generation), s.Record.Rebuilding
	in.RebuildEmpty, in.BeenUp, s.observer.Before.Up = s.RebuildEmpty != "", s.Record.Up != nil, s.Record.Up
	in.AllowPluginChange = s.AllowPluginChange
	view, err := s.observer.Look(ctx, s.hosts)
	if err != nil {
		return nil, err
	}
	s.view = view
	in.Machines, in.Artifacts = view.Input.Machines, view.Input.Artifacts // with what was learnt of architectures
	situation := view.Situation
	var leftOut []plan.Change
	if len(s.Only) > 0 {
		if situation, leftOut, err = situation.Only(s.Only); err != nil {
			return nil, err
		}
	}
	if err := situation.Enough(); err != nil {
		return nil, err
	}
	if err := s.allTakePart(situation); err != nil {
		return nil, err
	}
	p := s.newPlan(situation)
	p.LeftOut = leftOut
	return p, nil
}

// applied reads what was last applied; nil if unknown.
func (s *Session) applied(ctx context.Context) (*plan.Applied, error) {
	if s.Store == nil {
		return nil, nil
	}
	return ReadApplied(ctx, s.Store)
}

// saveApplied records what all hosts have now: the network plugin, and the input for the reasons of
// later changes.
func (s *Session) saveApplied(ctx context.Context) error {
	if err := s.view.RecordPlugin(ctx, s.recordUp); err != nil {
		return err
	}
	applied, err := plan.NewApplied(s.view.Input, s.Version)
	if err != nil {
		return err
	}
	text, err := json.Marshal(applied)
	if err != nil {
		return fmt.Errorf("record what was applied: %w", err)
	}
	if have, err := s.Store.Get(ctx, appliedName); err == nil && string(have.Reveal()) == string(text) {
		return nil
	}
	return s.Store.Put(ctx, map[string]secret.Bytes{appliedName: text})
}

// settle stores the new secrets, updates what the provider has besides machines (a balancer), and
// gives the provider's balancer what it needs, before anything uses it. If the cluster is up, the
// state records that.
func (s *Session) settle(ctx context.Context, alive bool) error {
	if err := s.recordHosts(ctx); err != nil {
		return err
	}
	if err := s.secrets.Save(ctx, s.Store); err != nil {
		return err
	}
	if alive && s.RebuildEmpty == "" { // a new generation is recorded once it has been up
		if err := s.view.RecordLiving(ctx, s.recordUp); err != nil {
			return err
		}
	}
	s.observer.Before.PKI, s.observer.Before.Issued = nil, nil // from here on the cluster has them
	if !s.ensured {
		if _, err := s.Machines.Ensure(ctx, slices.Sorted(maps.Keys(s.hosts)), s.UI.Host); err != nil {
			return err
		}
		s.resources = nil
	}
	if p, ok := s.Machines.(Publisher); ok {
		return p.Publish(s.infra, s.secrets.PKI.Bundle(certs.KubernetesCA))
	}
	return nil
}
