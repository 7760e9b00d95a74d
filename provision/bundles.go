package provision

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Artifacts gets the bundles for the architectures that the machines are known to have, or for Arch,
// which Plan then uses.
func (s *Session) Artifacts(ctx context.Context) (stack.Sets, error) {
	archs := s.architectures()
	if len(archs) == 0 {
		archs = []string{s.Arch}
	}
	err := s.getSets(ctx, archs)
	return s.artifacts, err
}

// getBundles is Artifacts for a run that observes machines before it needs them. Of machines that
// exist without slipway, and of which nothing is known, the architecture is seen then, and no bundle
// is made before that.
func (s *Session) getBundles(ctx context.Context) error {
	_, exist := s.Machines.(Recorder)
	if exist && len(s.architectures()) == 0 && (s.HasBundle == nil || !s.HasBundle(ctx, s.Arch)) {
		return s.getSets(ctx, nil)
	}
	_, err := s.Artifacts(ctx)
	return err
}

// architectures returns those of the machines that are known, sorted.
func (s *Session) architectures() []string {
	if s.found == nil {
		return nil
	}
	var archs []string
	for _, m := range s.found.Machines {
		if m.Arch != "" {
			archs = append(archs, m.Arch)
		}
	}
	slices.Sort(archs)
	return slices.Compact(archs)
}

// getSets gets the artifacts for architectures. If there are none for some of them, the machines
// with these are held, and the others go on.
func (s *Session) getSets(ctx context.Context, archs []string) error {
	s.artifacts, s.lacking = stack.Sets{}, map[string]error{}
	for _, arch := range archs {
		if _, err := s.set(ctx, arch); ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
	if len(s.artifacts) == 0 && len(s.lacking) > 0 {
		return errors.Join(slices.Collect(maps.Values(s.lacking))...)
	}
	return nil
}

// set gets the artifacts for an architecture, once in a run.
func (s *Session) set(ctx context.Context, arch string) (stack.Set, error) {
	if set, ok := s.artifacts[arch]; ok || s.lacking[arch] != nil {
		return set, s.lacking[arch]
	}
	set, notes, err := s.Bundle(ctx, arch)
	s.bundleNotes = append(s.bundleNotes, notes...)
	if err != nil {
		s.lacking[arch] = err
		return nil, err
	}
	s.artifacts[arch] = set
	return set, nil
}

// setSeen gets the artifacts for an architecture that a machine was seen to have.
func (s *Session) setSeen(ctx context.Context, arch string) (stack.Set, error) {
	s.UI.Phase("bundle")
	defer s.UI.Phase("observe")
	told := len(s.bundleNotes)
	set, err := s.set(ctx, arch)
	for _, note := range s.bundleNotes[told:] {
		s.UI.Note(note)
	}
	return set, err
}

// recallArchitectures reads which architectures the machines had at the last apply.
func (s *Session) recallArchitectures(ctx context.Context) error {
	applied, err := s.applied(ctx)
	s.archs = applied.Architectures()
	return err
}

// withArch is a machine with its architecture, as far as that is known.
func (s *Session) withArch(m spec.Machine) spec.Machine {
	m.Arch = cmp.Or(m.Arch, s.archs[m.Name])
	return m
}
