package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"text/tabwriter"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision"
)

// stageWords say what a stage does, to people.
var stageWords = map[certs.Stage]string{
	certs.Trust:   "old and new are trusted",
	certs.Tokens:  "tokens are signed with the new key",
	certs.Rollout: "workloads are replaced",
	certs.Issue:   "the new one is used",
	certs.Drop:    "the other one is trusted no more",
	certs.Return:  "the old one is used again",
}

// overview says what a rotation is going to do, stage by stage. What a stage restarts is predicted as a plan predicts
// it: by the desired states before and after.
func (r *rotateRun) overview(ctx context.Context, s *stored, rotation *certs.Rotation, items certs.Material) error {
	r.progress = newProgress(io.Discard, false, io.Discard, nil)
	artifacts, err := r.ensureBundle(ctx)
	if err != nil {
		return err
	}
	s = &stored{Material: maps.Clone(s.Material), Rotation: s.Rotation}
	maps.Copy(s.Material, items)
	desired := func(at *certs.Rotation) (provision.State, error) {
		s.Rotation = at
		secrets, err := secretsOf(ctx, s, nil, r.spec, r.found, r.own)
		if err != nil && !errors.As(err, new(*certs.PendingError)) {
			return provision.State{}, err
		}
		maps.Copy(s.Material, secrets.made) // what a stage issues the next one keeps
		return provision.Desired(provision.Input{
			Cluster: r.spec, Machines: r.found.Machines, Endpoint: endpoint(r.spec, r.found), Artifacts: artifacts,
			PKI: secrets.PKI, EncryptionKeys: secrets.EncryptionKeys,
		})
	}
	before, err := desired(s.Rotation)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(r.stderr, "Cluster %s: rotation of %s\n\n", r.spec.Metadata.Name, strings.Join(rotation.PlainNames(), ", "))
	table := tabwriter.NewWriter(r.stderr, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "STAGE\tWHAT\tRESTARTS")
	for at := rotation; at != nil; at = at.Next(time.Now()) {
		after, err := desired(at)
		if err != nil {
			return err
		}
		restarts := "nothing"
		if units := provision.Restarts(before, after); len(units) > 0 {
			restarts = strings.Join(units, ", ")
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", at.Stage, stageWords[at.Stage], restarts)
		before = after
	}
	_, _ = fmt.Fprintln(table)
	return table.Flush()
}
