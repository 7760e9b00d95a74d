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
		Short: "Replace CAs and the service account key while the cluster runs",
		Long: `Replace certificate authorities (CAs) and the service account key, in stages, while the cluster runs:

  trust    everything trusts the old and the new CA, which is proven at every endpoint
  tokens   service account tokens are signed with the new key
  rollout  workloads that may know only the old CA or tokens are replaced, through their own controllers and within their
           disruption budgets
  issue    every certificate is issued by the new CAs, and served at every endpoint
  drop     the old CA is no longer trusted, and is proven to be refused at every endpoint

Before it begins, it shows what each stage restarts, the workloads that it replaces, Secrets whose tokens you have to
recreate, and kubeconfigs that stop working. It refuses if there are nodes that are not in the spec: they would lose
access to the API server.

If it is interrupted, paused or fails, the cluster stays between two stages that work together: ` + "`slipway certs rotate-ca`" + `,
without arguments, continues, with the first choices of --no-rollout and --leave-unmanaged; set them again to change them
(--no-rollout=false). Apply does not change the stage. Until stage drop has begun, --rollback returns to the old CA, in
stages too; then run rotate-ca without it to continue. ` + "`slipway status`" + ` shows the stage of a rotation.

A CA of your own that the spec names (spec.pki.authorities) is used as it is; others are created. If it is an external CA,
stage issue waits for ` + "`slipway certs csr`, `slipway certs import`" + ` and rotate-ca again. CAs that have expired are
replaced at once, in the stages issue, rollout and drop, and cannot be rolled back.`,
		Example: `  slipway certs rotate-ca all --dry-run                 # only show the stages, and what each does
  slipway certs rotate-ca all
  slipway certs rotate-ca kubernetes service-account
  slipway certs rotate-ca all --pause-after trust       # to check, or to hand out kubeconfigs
  slipway certs rotate-ca                               # continue
  slipway certs rotate-ca all --no-rollout              # you restart workloads, in stage rollout
  slipway certs rotate-ca --rollback                    # return to the old CA`,
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
	cmd.Flags().Bool("no-rollout", false, "do not restart workloads; wait until you have")
	cmd.Flags().Bool("leave-unmanaged", false,
		"do not wait for pods without a controller, for jobs, and for tokens in Secrets: they may lose access to the API")
	run.addFlags(cmd, certs.KubernetesCA, certs.ServiceAccounts)
	return cmd
}

// given returns the value of a flag, or nil if it was not set.
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

  trust    every API server has loaded the new key in addition to the old, and can decrypt with either
  issue    the new key encrypts; every Secret is rewritten, and none is left in etcd under another key
  drop     no API server has the old key any more

Nothing is restarted. If it is interrupted, paused or fails, run it again to continue. Until stage drop has begun,
--rollback returns to the old key; then run it without --rollback to continue. Earlier backups of etcd need the earlier
key: the state keeps it (retired/), so keep a copy of the state with each backup.`,
		Example: `  slipway rotate-encryption-key --dry-run             # only show the stages
  slipway rotate-encryption-key
  slipway rotate-encryption-key --pause-after trust   # continue later: slipway rotate-encryption-key
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
	// agreed means that all stages were agreed to, and unseen that the workloads of stage rollout
	// could not be shown.
	agreed, unseen bool
}

// addFlags adds a command's flags; names are the items that it may replace, with the most stages.
func (r *rotateRun) addFlags(cmd *cobra.Command, names ...string) {
	cmd.Flags().StringVar(&r.wish.PauseAfter, "pause-after", "", "end after this `STAGE`; run it again to continue")
	completeWords(cmd, "pause-after", func() []string {
		stages := (&certs.Rotation{Names: names}).Stages()
		words := []string{string(certs.Return)}
		for _, stage := range stages[:len(stages)-1] { // after the last there is nothing to continue
			words = append(words, string(stage))
		}
		return words
	})
	cmd.Flags().BoolVar(&r.wish.Rollback, "rollback", false, "roll back to the old CA or key (before stage drop)")
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
			if r.wish.PauseAfter == string(stage) { // the stage stays, and the next run proves it again
				_, err = fmt.Fprintf(r.stderr, "Paused after stage %s. `slipway %s` continues, with --rollback it returns.\n", stage, r.wish.Command)
				return err
			}
			if rotation, err = r.pass(ctx, rotation, slices.Sorted(maps.Keys(r.Observed().Nodes))); err != nil {
				return err
			}
		}
		return nil
	})
}

// agreedTo reports whether a stage was covered by the first agreement.
func (r *rotateRun) agreedTo(stage certs.Stage) bool {
	return r.agreed && (stage != certs.Rollout || !r.unseen)
}

// waiting adds to missing signatures which stage needs them, and how to continue it.
func (r *rotateRun) waiting(stage certs.Stage, err error) error {
	if !errors.As(err, new(*certs.PendingError)) {
		return err
	}
	return fmt.Errorf("stage %s waits for signatures; `slipway %s` continues it then (or returns without them, with --rollback): %w", stage, r.wish.Command, err)
}

// pass continues with the next stage, or ends the rotation. nodes are those in the API.
func (r *rotateRun) pass(ctx context.Context, passed *certs.Rotation, nodes []string) (next *certs.Rotation, err error) {
	err = underLock(ctx, r.Store, func(ctx context.Context) (err error) {
		next, err = r.NextStage(ctx, passed, nodes, r.wish.Command)
		return err
	})
	return next, err
}

// begin returns the rotation to continue, reverses it, or starts one: after an overview and a
// question.
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

// overview determines what a rotation will do. To begin one, the cluster has to answer; to continue
// one, it need not.
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
