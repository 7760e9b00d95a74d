package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

func newApplyCmd(a *app) *cobra.Command {
	run := &applyRun{app: a}
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the cluster equal to its spec",
		Long: `Make the cluster equal to its spec: create machines that are missing, install what is not there, change what
differs, restart what runs with outdated inputs. Hosts are observed first, and only differences are acted on: a second
apply changes nothing, and one that was interrupted goes on where it was.`,
		Example: `  slipway apply                      # the spec in ./cluster.yaml, after a question
  slipway apply -f prod.yaml --yes   # no question
  slipway apply --parallelism 20     # more hosts at a time`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run.apply(cmd.Context()) },
	}
	cmd.Flags().IntVar(&run.parallelism, "parallelism", 64, "how many steps may run at a time")
	cmd.Flags().DurationVar(&a.connectTimeout, "connect-timeout", time.Minute, "how long to wait for a machine to answer SSH")
	return cmd
}

// applyRun is one run of apply: what it has found out so far.
type applyRun struct {
	*app
	parallelism int

	*cluster
	store    *state.Store
	progress *progress
	infra    *spec.Infrastructure
	bundle   *bundle.Bundle
	hosts    map[string]host.Host
	runner   *provision.Runner
}

// apply reads as the design tells it: machines, PKI, observe, diff, schedule, run, observe again.
func (r *applyRun) apply(ctx context.Context) (err error) {
	if r.cluster, err = r.open(); err != nil {
		return err
	}
	if r.store, err = r.openStore(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.store.Close()) }()
	found, err := r.provider.Find(ctx)
	if err != nil {
		return err
	}
	if missing := r.missing(found); len(missing) > 0 {
		if err := r.confirm(fmt.Sprintf("Create %s and install Kubernetes %s?",
			list(missing), r.spec.Spec.Kubernetes.Version)); err != nil {
			return err
		}
		r.yes = true // what follows on new machines is what was asked for
	}
	log, err := r.store.Log(time.Now().UTC().Format("20060102T150405Z") + "-apply.log")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	r.progress = newProgress(r.stderr, isTerminal(r.stderr) && !r.verbose, log, r.names())
	err = underLock(ctx, r.store, r.converge)
	r.progress.Done(err)
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; what was done stays, and `slipway apply -f %s` goes on from there", r.file)
	}
	return err
}

func (r *applyRun) converge(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	hosts, closeAll, err := dialAll(ctx, r.infra.Machines, r.connectTimeout)
	defer closeAll()
	if err != nil {
		return err
	}
	r.hosts = hosts
	situation, err := r.observe(ctx)
	if err != nil {
		return err
	}
	schedule := provision.Schedule(situation, r.runner)
	if len(schedule.Steps) == 0 {
		r.progress.Note("No changes. The cluster is as " + r.file + " asks.")
		return nil
	}
	if err := r.ask(situation); err != nil {
		return err
	}
	r.progress.Phase("converge")
	if err := plan.Run(ctx, schedule, r.parallelism, r.progress.Event); err != nil {
		return err
	}
	return r.verify(ctx)
}

// prepare gets machines, bundle and secrets; the first two take long when nothing is cached, and go side by side.
func (r *applyRun) prepare(ctx context.Context) error {
	r.progress.Phase("machines and bundle")
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		r.infra, err = r.provider.Ensure(groupCtx, r.progress.Host)
		return err
	})
	group.Go(func() (err error) {
		cache, err := cacheDir()
		if err != nil {
			return err
		}
		r.bundle, err = bundle.Ensure(groupCtx, bundle.Options{
			KubernetesVersion: r.spec.Spec.Kubernetes.Version, CacheDir: cache,
			Progress: func(e bundle.Event) { r.progress.Host("bundle", e.String()) },
		})
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if err := r.checkSurplus(); err != nil {
		return err
	}
	secrets, err := ensureSecrets(ctx, r.store, r.spec, r.infra)
	if err != nil {
		return err
	}
	for _, d := range secrets.PKI.Drift {
		r.progress.Note("a certificate authority was kept as it is: " + d.String())
	}
	if p, ok := r.provider.(providers.Publisher); ok {
		if err := p.Publish(r.infra, secrets.PKI.Material[certs.KubernetesCA].Cert); err != nil {
			return err
		}
	}
	artifacts := provision.Artifacts(r.bundle)
	artifacts[r.slipway.Name] = r.slipway
	r.runner = &provision.Runner{Report: r.progress.Host, Input: provision.Input{
		Cluster: r.spec, Machines: r.infra.Machines, Endpoint: endpoint(r.spec, r.infra), Artifacts: artifacts,
		PKI: secrets.PKI, EncryptionKey: secrets.EncryptionKey,
	}}
	return nil
}

// checkSurplus speaks of machines that the spec no longer has. Removing them is not available yet; going on without a
// control plane would leave a dead member in etcd.
func (r *applyRun) checkSurplus() error {
	for _, m := range r.infra.Surplus {
		if m.Role == spec.ControlPlane {
			return fmt.Errorf("control plane %s is not in %s any more, and removing control planes is not available yet: put it back; nothing was changed", m.Name, r.file)
		}
		r.progress.Note("machine " + m.Name + " is not in " + r.file + " any more; removing machines is not available yet, and it was left as it is")
	}
	return nil
}

// observe reads the hosts and the API side by side and works out what differs.
func (r *applyRun) observe(ctx context.Context) (provision.Situation, error) {
	r.progress.Phase("observe")
	return r.runner.Situation(ctx, r.hosts)
}

// verify observes again: what still differs is named, and a failure.
func (r *applyRun) verify(ctx context.Context) error {
	situation, err := r.observe(ctx)
	if err != nil {
		return err
	}
	if left := situation.Describe(); len(left) > 0 {
		return fmt.Errorf("after all steps had run, this still differed:\n  %s", strings.Join(left, "\n  "))
	}
	return nil
}

// ask shows what would change on machines that exist and wants a yes.
func (r *applyRun) ask(s provision.Situation) error {
	if r.yes {
		return nil
	}
	counts := map[string]int{}
	for _, c := range s.Changes {
		counts[c.Host]++
	}
	return r.progress.Suspend(func() error {
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			_, _ = fmt.Fprintf(r.stderr, "%s: %d changes\n", name, counts[name])
		}
		return r.confirm("Apply these changes?")
	})
}

// confirm asks on a terminal. Without one nothing is asked: --yes has to say it.
func (a *app) confirm(question string) error {
	if a.yes {
		return nil
	}
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return errors.New("there is no terminal to ask on; give --yes to go on without a question")
	}
	_, _ = fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}

// missing are the nodes that have no machine yet.
func (c *cluster) missing(infra *spec.Infrastructure) []string {
	have := map[string]bool{}
	for _, m := range infra.Machines {
		have[m.Name] = true
	}
	var names []string
	for _, n := range c.spec.Nodes() {
		if !have[n.Name] {
			names = append(names, n.Name)
		}
	}
	return names
}

func (c *cluster) names() []string {
	var names []string
	for _, n := range c.spec.Nodes() {
		names = append(names, n.Name)
	}
	return names
}

// endpoint is where clients outside reach the API: the spec's, or what the provider gives.
func endpoint(c *spec.Cluster, infra *spec.Infrastructure) string {
	if e := c.Spec.ControlPlane.Endpoint; e != "" {
		return e
	}
	return infra.Endpoint
}

// list joins names for a sentence, in short when they are many.
func list(names []string) string {
	if len(names) > 6 {
		return fmt.Sprintf("%d machines (%s, ...)", len(names), strings.Join(names[:3], ", "))
	}
	return strings.Join(names, ", ")
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
