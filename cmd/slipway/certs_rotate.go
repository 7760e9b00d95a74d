package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

func newCertsRotateCACmd(a *app) *cobra.Command {
	run := &rotateRun{applyRun: applyRun{work: work{app: a}}, command: "certs rotate-ca"}
	var words []string
	for _, item := range rotatable {
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
			names, err := itemsOf(args)
			if err != nil {
				return err
			}
			run.noRollout, run.leaveUnmanaged = given(cmd, "no-rollout"), given(cmd, "leave-unmanaged")
			return run.rotate(cmd.Context(), names)
		},
	}
	cmd.Flags().Bool("no-rollout", false, "leave it to you to replace workloads, and wait until that has happened")
	cmd.Flags().Bool("leave-unmanaged", false,
		"do not wait for pods that nothing would replace, for jobs, and for tokens in Secrets: they may lose the API")
	run.addFlags(cmd)
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
	run := &rotateRun{applyRun: applyRun{work: work{app: a}}, command: "rotate-encryption-key"}
	cmd := &cobra.Command{
		Use:   "rotate-encryption-key",
		Short: "Replace the key of Secrets at rest, and encrypt every Secret anew",
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
			return run.rotate(cmd.Context(), []string{certs.EncryptionKey})
		},
	}
	run.addFlags(cmd)
	return cmd
}

// rotateRun takes a rotation from stage to stage. Every stage is an apply.
type rotateRun struct {
	applyRun
	command          string
	pauseAfter       string
	rollback, dryRun bool
	// noRollout and leaveUnmanaged were given; where they are nil, what was chosen before holds.
	noRollout, leaveUnmanaged *bool
	// agreed says that all stages were agreed to, and unseen that the workloads of stage rollout could not be shown.
	agreed, unseen bool
}

func (r *rotateRun) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.pauseAfter, "pause-after", "", "end after this `STAGE`; run it again to go on")
	completeWords(cmd, "pause-after", func() []string {
		return []string{string(certs.Trust), string(certs.Tokens), string(certs.Rollout), string(certs.Issue), string(certs.Return)}
	})
	cmd.Flags().BoolVar(&r.rollback, "rollback", false, "return to the old, as long as nothing was dropped")
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "show the stages and what each does, and change nothing")
	cmd.MarkFlagsMutuallyExclusive("rollback", "pause-after")
	r.addParallelism(cmd)
}

func (r *rotateRun) rotate(ctx context.Context, names []string) error {
	r.prove = plan.ProveStage
	return r.locked(ctx, func() error {
		if err := r.allRun("nothing can be rotated"); err != nil {
			return err
		}
		rotation, err := r.begin(ctx, names)
		if err != nil || r.dryRun {
			return err
		}
		for yes := r.yes; rotation != nil; {
			stage := rotation.Stage
			r.yes = yes || r.agreedTo(stage)
			if err := r.record(ctx, r.command, string(stage)); err != nil {
				return r.waiting(stage, err)
			}
			if r.pauseAfter == string(stage) { // it stays the stage, and what goes on proves it once more
				_, err = fmt.Fprintf(r.stderr, "Paused after stage %s. `slipway %s` goes on, with --rollback it returns.\n", stage, r.command)
				return err
			}
			if rotation, err = r.pass(ctx, rotation); err != nil {
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
	return fmt.Errorf("stage %s waits for signatures, and `slipway %s` goes on with it then (with --rollback, back without them): %w", stage, r.command, err)
}

// pass goes on to the next stage, or to the end. The time is the cluster's, with which pods are compared.
func (r *rotateRun) pass(ctx context.Context, passed *certs.Rotation) (*certs.Rotation, error) {
	next := passed.Next(r.proven)
	if err := r.checkStrays(next); err != nil {
		return nil, err
	}
	return next, underLock(ctx, r.store, func(ctx context.Context) error {
		if next == nil {
			return endRotation(ctx, r.store, passed, r.stored.Material)
		}
		return saveRotation(ctx, r.store, next, nil)
	})
}

// begin finds the rotation to go on with, turns it round, or starts one: after an overview and a question.
func (r *rotateRun) begin(ctx context.Context, names []string) (*certs.Rotation, error) {
	s, err := loadSecrets(ctx, r.store)
	if err != nil {
		return nil, err
	}
	rotation, items, err := r.choose(s, names)
	if err != nil {
		return nil, err
	}
	if err := r.checkPause(rotation); err != nil {
		return nil, err
	}
	rotation = r.choices(rotation)
	o, err := r.overview(ctx, s, rotation, items)
	if err == nil {
		err = errors.Join(r.show(o), o.refuse())
	}
	if err != nil || r.dryRun || reflect.DeepEqual(rotation, s.Rotation) {
		return rotation, err
	}
	if o.begins || r.rollback {
		question := "Rotate?"
		if r.rollback {
			question = "Go back?"
		}
		if err := r.confirm(ctx, question); err != nil {
			return nil, err
		}
		r.agreed, r.unseen = true, o.Unasked != ""
	}
	return rotation, underLock(ctx, r.store, func(ctx context.Context) error { return saveRotation(ctx, r.store, rotation, items) })
}

// checkPause refuses to pause after a stage that does not lie ahead: it would never be reached, and all others would.
func (r *rotateRun) checkPause(rotation *certs.Rotation) error {
	left := rotation.Remaining()
	left = left[:len(left)-1] // after the last there is nothing to go on with
	if r.pauseAfter == "" || slices.Contains(left, certs.Stage(r.pauseAfter)) {
		return nil
	}
	var words []string
	for _, stage := range left {
		words = append(words, string(stage))
	}
	return fmt.Errorf("--pause-after %s names no stage that lies ahead (%v); it can pause after: %s; nothing was changed",
		r.pauseAfter, rotation, cmp.Or(strings.Join(words, ", "), "none"))
}

// choices gives a rotation the flags that were given, and takes over those that were given before.
func (r *rotateRun) choices(rotation *certs.Rotation) *certs.Rotation {
	chosen := *rotation
	if r.noRollout != nil {
		chosen.NoRollout = *r.noRollout
	}
	if r.leaveUnmanaged != nil {
		chosen.LeaveUnmanaged = *r.leaveUnmanaged
	}
	return &chosen
}

// choose gives the rotation that is meant: the one under way, the same turned round, or a new one with what it brings.
func (r *rotateRun) choose(s *stored, names []string) (*certs.Rotation, certs.Material, error) {
	under := s.Rotation
	switch {
	case len(s.Material) == 0:
		return nil, nil, fmt.Errorf("cluster %s has nothing to rotate yet: run `slipway apply` first", r.spec.Metadata.Name)
	case under == nil && r.rollback:
		return nil, nil, errors.New("no rotation is under way that could go back")
	case under == nil && len(names) == 0:
		return nil, nil, errors.New("no rotation is under way; name what to rotate: kubernetes, etcd, front-proxy, service-account or all")
	case under != nil && !r.rollback && len(r.expired(s, under)) > 0:
		return r.withExpired(s, names)
	case under != nil && (commandOf(under) != r.command || len(names) > 0 && !slices.Equal(names, under.Names)):
		return nil, nil, fmt.Errorf("the %v: end it first with `slipway %s`, or go back with --rollback", under, commandOf(under))
	case r.rollback:
		back, err := under.Rollback()
		if err == nil {
			err = cannotReturn(r.expired(s, back))
		}
		return back, nil, err
	case under != nil:
		return under, nil, nil
	}
	if err := checkReplaced(names, s.Material, r.own); err != nil {
		return nil, nil, err
	}
	items, err := r.newItems(s, names)
	if err != nil {
		return nil, nil, err
	}
	rotation, err := startOf(names, r.expired(s, nil))
	return rotation, items, err
}

// requests are the rows of the table.
func (r *rotateRun) requests() []certs.Request {
	return certs.Table(stack.CertInputs(r.spec, r.found.Machines, r.found.ExtraSANs))
}

// commandOf is the command that goes on with a rotation.
func commandOf(r *certs.Rotation) string {
	if slices.Equal(r.Names, []string{certs.EncryptionKey}) {
		return "rotate-encryption-key"
	}
	return "certs rotate-ca"
}

// underWay says of a rotation where it is, since when, and how it goes on.
func underWay(r *certs.Rotation) string {
	return fmt.Sprintf("%v, under way since %s: `slipway %s` goes on", r, r.Began.Local().Format(time.DateTime), commandOf(r))
}

// checkReplaced refuses to put an authority in its own place: where the spec names the one that is in use.
func checkReplaced(names []string, stored certs.Material, own map[string]certs.Item) error {
	var errs []error
	for _, name := range names {
		item, given := own[name]
		if given && certs.SameAuthority(stored[name], item) {
			field := authorityFields[name]
			errs = append(errs, fmt.Errorf("the spec's own authority %s is the one in use: put the new one's files into %s first; nothing was changed",
				strings.TrimPrefix(field, authoritiesField), field))
		}
	}
	return errors.Join(errs...)
}

// newItems makes what a rotation brings.
func (r *rotateRun) newItems(s *stored, names []string) (certs.Material, error) {
	items, err := certs.NewItems(names, r.requests(), certPolicy(r.spec.Spec.PKI, r.own), time.Now())
	if err == nil && slices.Contains(names, certs.EncryptionKey) {
		items[certs.NextName(certs.EncryptionKey)] = certs.NewEncryptionKey(append(s.Retired, string(s.Material[certs.EncryptionKey].Cert))...)
	}
	return items, err
}
