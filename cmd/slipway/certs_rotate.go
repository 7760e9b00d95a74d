package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/rotate"
)

func newCertsRotateCACmd(a *app) *cobra.Command {
	run := &rotateRun{applyRun: applyRun{work: work{app: a}}, wish: rotate.Wish{Command: "certs rotate-ca"}}
	var words []string
	for _, item := range rotate.Rotatable {
		words = append(words, certs.PlainName(item))
	}
	cmd := &cobra.Command{
		Use:   "rotate-ca [" + strings.Join(words, "|") + "|all]...",
		Short: "Replace certificate authorities and the key of service accounts while the cluster runs",
		Long: `Replace certificate authorities and the key of service accounts, in stages, while the cluster runs:

  trust    everything trusts the old and the new, and that is proven at every endpoint
  tokens   tokens of service accounts are signed with the new key
  rollout  workloads that may know only what was before are replaced, through their own controllers and within their
           disruption budgets
  issue    every certificate is issued by the new authorities, and shown at every endpoint
  drop     the old is trusted no more, and is proven to be refused at every endpoint

Before it begins, it shows what each stage restarts, the workloads that are replaced, Secrets whose tokens people have to
have made anew, and kubeconfigs that stop working; nodes that are not in the spec would be cut off, and are refused.

Interrupted, paused or failed, the cluster stays between two stages that get along: ` + "`slipway certs rotate-ca`" + `, without
arguments, goes on, with --no-rollout and --leave-unmanaged as they were chosen first; given again, they are changed
(--no-rollout=false). Apply goes to no other stage. Until stage drop has begun --rollback returns to the old, in stages
too; then run rotate-ca without it to go on. ` + "`slipway status`" + ` tells where a rotation is.

An authority of your own that the spec names (spec.pki.authorities) is taken as it is; others are made. Where its key is
elsewhere, stage issue waits for ` + "`slipway certs csr`, `slipway certs import`" + ` and rotate-ca again. Authorities that have
expired are replaced at once, in the stages issue, rollout and drop, and there is no way back.`,
		Example: `  slipway certs rotate-ca all --dry-run                 # only show the stages, and what each does
  slipway certs rotate-ca all
  slipway certs rotate-ca kubernetes service-account
  slipway certs rotate-ca all --pause-after trust       # to look, or to hand out kubeconfigs
  slipway certs rotate-ca                               # go on
  slipway certs rotate-ca all --no-rollout              # you restart workloads, in stage rollout
  slipway certs rotate-ca --rollback                    # return to the old`,
		ValidArgs: append(words, "all"),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := rotate.Items(args)
			if err != nil {
				return err
			}
			run.wish.NoRollout, run.wish.SkipUnmanaged = given(cmd, "no-rollout"), given(cmd, "leave-unmanaged")
			run.wish.Names = names
			return run.rotate(cmd.Context())
		},
	}
	cmd.Flags().Bool("no-rollout", false, "leave it to you to replace workloads, and wait until that has happened")
	cmd.Flags().Bool("leave-unmanaged", false,
		"do not wait for pods that nothing would replace, for jobs, and for tokens in Secrets: they may lose the API")
	run.addFlags(cmd, certs.KubernetesCA, certs.ServiceAccounts)
	return cmd
}

// given is the value of a flag, or nil where it was not given.
func given(cmd *cobra.Command, name string) *bool {
	value, err := cmd.Flags().GetBool(name)
	if err != nil || !cmd.Flags().Changed(name) {
		return nil
	}
	return &value
}

func newRotateEncryptionKeyCmd(a *app) *cobra.Command {
	run := &rotateRun{applyRun: applyRun{work: work{app: a}}, wish: rotate.Wish{Command: "rotate-encryption-key"}}
	cmd := &cobra.Command{
		Use:   "rotate-encryption-key",
		Short: "Replace the encryption key of Secrets, and re-encrypt every Secret",
		Long: `Replace the key with which API servers encrypt Secrets before they reach etcd, in stages:

  trust    every API server has loaded the new key beside the old, and can decrypt with either
  issue    the new key encrypts; every Secret is written again, and none is left in etcd under another key
  drop     no API server has the old key any more

Nothing is restarted. Interrupted, paused or failed, it is gone on with when it runs again; until stage drop has begun,
--rollback returns to the old key; then run it without to go on. Backups of etcd from before need the key from before:
the state keeps it (retired/), so keep a copy of the state with each.`,
		Example: `  slipway rotate-encryption-key --dry-run             # only show the stages
  slipway rotate-encryption-key
  slipway rotate-encryption-key --pause-after trust   # go on later: slipway rotate-encryption-key
  slipway rotate-encryption-key --rollback            # return to the old key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			run.wish.Names = []string{certs.EncryptionKey}
			return run.rotate(cmd.Context())
		},
	}
	run.addFlags(cmd, certs.EncryptionKey)
	return cmd
}

// rotateRun takes a rotation from stage to stage. Every stage is an apply.
type rotateRun struct {
	applyRun
	wish   rotate.Wish
	dryRun bool
	// agreed says that all stages were agreed to, and unseen that the workloads of stage rollout could not be shown.
	agreed, unseen bool
}

// addFlags gives a command its flags; names are of what it may replace, with the most stages.
func (r *rotateRun) addFlags(cmd *cobra.Command, names ...string) {
	cmd.Flags().StringVar(&r.wish.PauseAfter, "pause-after", "", "end after this `STAGE`; run it again to go on")
	completeWords(cmd, "pause-after", func() []string {
		stages := (&certs.Rotation{Names: names}).Stages()
		words := []string{string(certs.Return)}
		for _, stage := range stages[:len(stages)-1] { // after the last there is nothing to go on with
			words = append(words, string(stage))
		}
		return words
	})
	cmd.Flags().BoolVar(&r.wish.Rollback, "rollback", false, "return to the old, as long as nothing was dropped")
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "show the stages and what each does, and change nothing")
	cmd.MarkFlagsMutuallyExclusive("rollback", "pause-after")
	r.addParallelism(cmd)
}

func (r *rotateRun) rotate(ctx context.Context) error {
	r.Prove = plan.ProveStage
	return r.locked(ctx, func() error {
		if err := r.allRun("nothing can be rotated"); err != nil {
			return err
		}
		rotation, err := r.begin(ctx)
		if err != nil || r.dryRun {
			return err
		}
		for rotation != nil {
			stage := rotation.Stage
			r.consent = r.agreedTo(stage)
			if err := r.journaled(ctx, r.wish.Command, string(stage)); err != nil {
				return r.waiting(stage, err)
			}
			if r.wish.PauseAfter == string(stage) { // it stays the stage, and what goes on proves it once more
				_, err = fmt.Fprintf(r.stderr, "Paused after stage %s. `slipway %s` goes on, with --rollback it returns.\n", stage, r.wish.Command)
				return err
			}
			if rotation, err = r.pass(ctx, rotation, slices.Sorted(maps.Keys(r.Observed().Nodes))); err != nil {
				return err
			}
		}
		return nil
	})
}

// agreedTo says whether a stage belongs to what was agreed to in the beginning.
func (r *rotateRun) agreedTo(stage certs.Stage) bool {
	return r.agreed && (stage != certs.Rollout || !r.unseen)
}

// waiting says of signatures that have to be made elsewhere which stage needs them, and what goes on with it.
func (r *rotateRun) waiting(stage certs.Stage, err error) error {
	if !errors.As(err, new(*certs.PendingError)) {
		return err
	}
	return fmt.Errorf("stage %s waits for signatures, and `slipway %s` goes on with it then (with --rollback, back without them): %w", stage, r.wish.Command, err)
}

// pass continues with the next stage, or ends the rotation. nodes are those that the API has. The time is the cluster's, with
// which pods are compared.
func (r *rotateRun) pass(ctx context.Context, passed *certs.Rotation, nodes []string) (*certs.Rotation, error) {
	next := passed.Next(r.Proven())
	if err := rotate.RefuseNext(next, nodes, r.Found(), r.file, r.wish.Command); err != nil {
		return nil, err
	}
	return next, underLock(ctx, r.Store, func(ctx context.Context) error {
		if next == nil {
			return keys.EndRotation(ctx, r.Store, passed, r.Stored().Material)
		}
		return keys.SaveRotation(ctx, r.Store, next, nil)
	})
}

// begin finds the rotation to go on with, turns it round, or starts one: after an overview and a question.
func (r *rotateRun) begin(ctx context.Context) (*certs.Rotation, error) {
	s, err := keys.Load(ctx, r.Store)
	if err != nil {
		return nil, err
	}
	rotation, items, err := r.rotating().Choose(s, r.wish)
	if err != nil {
		return nil, err
	}
	if err := r.wish.CheckPause(rotation); err != nil {
		return nil, err
	}
	rotation = r.wish.Choices(rotation)
	o, err := r.overview(ctx, s, rotation, items)
	if err == nil {
		err = errors.Join(r.show(o), o.Refuse())
	}
	if err != nil || r.dryRun || reflect.DeepEqual(rotation, s.Rotation) {
		return rotation, err
	}
	if o.Begins || r.wish.Rollback {
		question := "Rotate?"
		if r.wish.Rollback {
			question = "Go back?"
		}
		if err := r.confirm(ctx, question); err != nil {
			return nil, err
		}
		r.agreed, r.unseen = true, o.APIError != ""
	}
	return rotation, underLock(ctx, r.Store, func(ctx context.Context) error { return keys.SaveRotation(ctx, r.Store, rotation, items) })
}

// overview finds out what a rotation is going to do. One that begins needs a cluster that answers; to continue one must be
// possible without.
func (r *rotateRun) overview(ctx context.Context, s *keys.Stored, rotation *certs.Rotation, items certs.Material) (o *rotate.Overview, err error) {
	r.progress, _ = r.patience()
	defer func() { r.progress.Done(err) }()
	r.progress.Phase("bundle")
	c := r.rotating()
	if c.Artifacts, err = r.Artifacts(ctx); err != nil {
		return nil, err
	}
	o, s, err = c.Overview(s, rotation, items)
	if err != nil {
		return nil, err
	}
	r.Leaving = rotation.Names
	reach := func(ctx context.Context) (map[string]host.Host, func(), error) { return r.reach(ctx, o) }
	if err := c.Survey(ctx, o, s, rotation, reach); err != nil {
		return nil, err
	}
	o.Stages, err = c.Stages(ctx, s, rotation)
	return o, err
}

// rotating is the cluster as a rotation sees it.
func (r *rotateRun) rotating() rotate.Cluster {
	return rotate.Cluster{Spec: r.spec, Found: r.Found(), File: r.file, Own: r.own}
}
