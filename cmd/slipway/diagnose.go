package main

import (
	"bytes"
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

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/diagnose"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

func newDiagnoseCmd(a *app) *cobra.Command {
	run := &diagnoseRun{work: work{app: a}}
	cmd := &cobra.Command{
		Use:   "diagnose",
		Short: "Find out why a cluster misbehaves, and how to mend it",
		Long: `Find out why a cluster misbehaves: from machines to units, certificates, etcd, the API, nodes, the network between them,
DNS and pods. For each cause it says in a line each what is wrong, the evidence, a command that shows more, and the remedy.
What follows from a cause is folded below it; -v lists that, the remarks, and every check that passed. docs/diagnose.md
lists what is found.

Diagnose changes nothing and takes no lock. It needs only SSH, works while the API is down, and ends within a minute;
whatever does not answer is a finding too.

--bundle FILE also writes an archive (tar.gz) for whoever is to help: the evidence, the findings, the logs of units, and
configuration. It has no secrets: keys, tokens and the contents of Secrets are removed.

Exit codes:
  0  no problems were found
  1  there are problems, or diagnose failed
  3  the spec is invalid`,
		Example: `  slipway diagnose
  slipway diagnose -v                          # with symptoms, remarks and passed checks
  slipway diagnose --only demo-worker-1
  slipway diagnose --bundle demo.tar.gz        # for a bug report
  slipway diagnose --output json | jq -r '.findings[] | "\(.host): \(.what)"'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("only") && len(run.Only) == 0 {
				return errors.New("--only names no node: name one, or omit the flag")
			}
			return run.diagnose(cmd.Context())
		},
	}
	cmd.Flags().StringSliceVar(&run.Only, "only", nil, "look only at these nodes; API and etcd are looked at in any case")
	completeWords(cmd, "only", run.nodeNames)
	cmd.Flags().StringVar(&run.bundle, "bundle", "", "write a support archive without secrets to `FILE` (tar.gz)")
	_ = cmd.MarkFlagFilename("bundle", "gz", "tgz")
	return cmd
}

// diagnoseRun is one run of diagnose.
type diagnoseRun struct {
	work
	bundle string
	stored certs.Material
}

// diagnose changes nothing and takes no lock: it can run during an apply.
func (r *diagnoseRun) diagnose(ctx context.Context) error {
	var err error
	if r.cluster, err = r.open(ctx); err != nil {
		return err
	}
	var archive *privateFile
	if r.bundle != "" {
		if archive, err = newPrivateFile("the archive", r.bundle); err != nil {
			return err
		}
		defer archive.Discard()
	}
	source, closeAll, err := r.source(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	gathered := diagnose.Gather(ctx, source)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	report := diagnose.Diagnose(&gathered.Evidence)
	if archive != nil {
		if err := r.writeArchive(ctx, archive, source, gathered, report); err != nil {
			return err
		}
	}
	if r.output == "json" {
		err = r.printJSON(report)
	} else {
		v := diagnoseView{out: r.stdout, all: r.verbose, file: r.fileArg()}
		v.print(report)
		err = v.err
	}
	if err == nil && archive != nil {
		_, err = fmt.Fprintf(r.stderr, "The archive is %s. Secrets were removed; look at it before you pass it on.\n", r.bundle)
	}
	if err == nil && !report.Healthy {
		return &exitError{code: exitFailed}
	}
	return err
}

// source connects to the machines, and reads the state. Without a state, only machines are looked
// at.
func (r *diagnoseRun) source(ctx context.Context) (diagnose.Source, func(), error) {
	nothing := func() {}
	kept, err := r.readStored(ctx)
	if err != nil && !errors.As(err, new(*notAppliedError)) {
		return diagnose.Source{}, nothing, err
	}
	store, err := r.recall(ctx)
	if err != nil {
		return diagnose.Source{}, nothing, err
	}
	if store == nil {
		r.record = &provision.Record{}
	}
	var infra *spec.Infrastructure
	if err = plan.CheckOnly(r.Only, r.names()); err == nil {
		infra, err = r.provider.Find(ctx)
	}
	if err != nil {
		return diagnose.Source{}, nothing, errors.Join(err, closeStore(store))
	}
	in := stack.Input{Cluster: r.spec, Machines: infra.Machines, Endpoint: stack.ExternalEndpoint(r.spec, infra), BeenUp: r.record.Up != nil}
	in.UID, in.Generation = r.record.UID, r.record.Generation
	if kept != nil {
		in.PKI, r.stored = kept.PKI(), kept.Material
		in.PKI.Requests = certs.Table(stack.CertInputs(r.spec, infra.Machines, infra.ExtraSANs))
	}
	hosts, closeHosts, unreachable := r.dialRunning(ctx, infra)
	source := diagnose.Source{Input: in, Infra: infra, Hosts: hosts, Unreachable: unreachable, Only: r.Only, FileArg: r.fileArg()}
	if r.bundle != "" {
		source.Lines = diagnose.ArchiveLines
	}
	if kept != nil && r.haveBundle() {
		source.Drift = func(ctx context.Context) (map[string][]string, error) { return r.drift(ctx, store, hosts, unreachable) }
	}
	return source, func() {
		closeHosts()
		_ = closeStore(store) // only read
	}, nil
}

// haveBundle reports whether the cache has the bundle: a diagnosis does not make one, which takes
// long.
func (r *diagnoseRun) haveBundle() bool {
	cache, err := cacheDir()
	if err != nil {
		return false
	}
	have, err := bundle.List(cache)
	return err == nil && slices.ContainsFunc(have, func(b *bundle.Bundle) bool { return b.KubernetesVersion == r.spec.Spec.Kubernetes.Version })
}

// drift plans, over the same connections. A plan that is refused is not an error of a diagnosis.
func (r *diagnoseRun) drift(ctx context.Context, store *state.Store, hosts map[string]host.Host, failed map[string]error) (map[string][]string, error) {
	r.session(store)
	r.progress = newProgress(io.Discard, false, io.Discard, r.names())
	defer r.progress.Done(nil)
	r.Only, r.Bundle, r.Inspect = nil, r.cachedBundle, nil
	r.Dial = func(context.Context, []spec.Machine) (map[string]host.Host, func(), map[string]error) {
		return hosts, func() {}, failed
	}
	if err := r.Preflight(ctx); err != nil {
		return nil, err
	}
	if len(r.MachineChanges()) > 0 {
		return nil, errors.New("some machines do not run")
	}
	p, _, err := r.Plan(ctx)
	if err != nil {
		return nil, err
	}
	drift := map[string][]string{}
	for _, c := range p.Changes {
		if !c.Bookkeeping() {
			drift[c.Host] = append(drift[c.Host], c.Name)
		}
	}
	return drift, nil
}

// cachedBundle is ensureBundle without making one: what the cache has may be of other recipes.
func (r *diagnoseRun) cachedBundle(ctx context.Context, arch string) (stack.Set, []string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	other := errors.New("the bundle in the cache is not the one that apply would install")
	cache, err := cacheDir()
	if err != nil {
		return nil, nil, err
	}
	b, err := bundle.Ensure(ctx, bundle.Options{
		KubernetesVersion: r.spec.Spec.Kubernetes.Version, CacheDir: cache, Arch: arch,
		Progress: func(bundle.Event) { cancel(other) },
	})
	if err != nil {
		return nil, nil, errors.Join(context.Cause(ctx), err)
	}
	set, err := r.artifacts(ctx, b, func(bundle.Event) { cancel(other) })
	return set, nil, err
}

// writeArchive packs what was gathered. If the API's Secrets cannot be read, it says so there: they
// are then recognized by their form only.
func (r *diagnoseRun) writeArchive(ctx context.Context, to *privateFile, s diagnose.Source, g *diagnose.Gathered, report *diagnose.Report) error {
	secrets := ownSecrets(r.stored, s.Infra)
	texts := map[string]string{"version.txt": fmt.Sprintf("slipway %s\nKubernetes %s\n", version, r.spec.Spec.Kubernetes.Version)}
	var public []string
	if s.Input.PKI != nil {
		found, words, err := diagnose.KnownSecrets(ctx, s.Input, s.Hosts)
		secrets, public = append(secrets, found...), words
		if err != nil {
			texts["incomplete.txt"] = err.Error() + "\n"
		}
	}
	text, err := os.ReadFile(r.file)
	if err == nil {
		texts["cluster.yaml"] = string(text)
	}
	var findings, status strings.Builder
	v := diagnoseView{out: &findings, all: true, file: r.fileArg()}
	v.print(report)
	st := observe.GetStatus(ctx, s.Input, s.Infra, s.Hosts, s.Unreachable)
	if err := errors.Join(v.err, printStatus(&status, st, time.Now(), r.fileArg())); err != nil {
		return err
	}
	texts["findings.txt"], texts["status.txt"] = findings.String(), status.String()
	var packed bytes.Buffer
	if err := diagnose.Archive(&packed, g, report, texts, diagnose.NewRedactor(secrets, public), time.Now()); err != nil {
		return err
	}
	return to.Commit(packed.Bytes())
}

// ownSecrets are the keys of the state, and those with which machines are entered.
func ownSecrets(stored certs.Material, infra *spec.Infrastructure) []secret.Bytes {
	var all []secret.Bytes
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		item := stored[name]
		all = append(all, item.Key)
		if name == certs.EncryptionKey || name == certs.NextName(certs.EncryptionKey) {
			all = append(all, item.Cert, certs.FormatEncryptionKey(item))
		}
	}
	for _, m := range infra.Machines {
		for _, ssh := range append(slices.Clone(m.SSH.Jumps), m.SSH) {
			for _, id := range ssh.Identities {
				all = append(all, id.Private)
			}
		}
	}
	return all
}
