package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
)

// indexFile lists the signing requests of a directory, for whoever signs.
const indexFile = "requests.json"

func newCertsCSRCmd(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "csr --out DIR [NAME...]",
		Short: "Write signing requests for an authority whose key is elsewhere",
		Long: `Write a signing request (PKCS#10, PEM) for every certificate that is missing, no longer fits or ends soon, and whose
authority the spec names without a keyFile. Subject, names and usages are in the requests; ` + indexFile + ` lists them again,
with the validity that is wanted. The private keys stay in the state. Until something else is wanted, the same requests
are written again.

A NAME is one of ` + "`slipway certs status`" + `, or one that ` + "`slipway apply`, `slipway plan`" + ` or requests.json names; without one
all that wait are written. One that fits is renewed by that, with a new key: the one in use stays until the other is signed
and taken in.

Nodes' addresses are in the certificates: machines have to exist. Where they do not, apply makes them first. Keep the key of
the authority away from this directory: nothing here needs it.`,
		Example: `  slipway certs csr --out requests
  for f in requests/*.csr; do
    openssl x509 -req -in $f -copy_extensions copyall -days 730 -CA ca.crt -CAkey ca.key -CAcreateserial -out ${f%.csr}.crt
  done
  slipway certs import requests && slipway apply
  slipway certs csr --out requests 'etcd/*'   # renew these, though they fit`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.writeRequests(cmd.Context(), out, args) },
	}
	cmd.Flags().StringVar(&out, "out", "", "the directory to write to, which is made")
	_ = cmd.MarkFlagRequired("out")
	_ = cmd.MarkFlagDirname("out")
	return cmd
}

func newCertsImportCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import DIR|FILE...",
		Short: "Take in certificates that were signed elsewhere",
		Long: `Take in certificates that were made from the requests of ` + "`slipway certs csr`" + `. Of a directory, every .crt, .pem and .cer
is read. Each certificate finds its key by itself, whatever the file's name, and is checked: its authority, subject, names,
usages and validity. If one does not fit, all that is wrong is said, and none is taken in. The next apply installs
them; where a rotation waits for them, ` + "`slipway certs rotate-ca`" + ` goes on with it.`,
		Example: `  slipway certs import requests && slipway apply
  slipway certs import apiserver.pem etcd-server.pem`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.importSigned(cmd.Context(), args) },
	}
}

// withPending does something with the secrets of a cluster, those that wait for a signature among them and those that
// patterns in renew name, and stores what comes of it.
func (a *app) withPending(ctx context.Context, renew []string, do func(context.Context, *keys.Secrets, certs.Policy) error) error {
	c, err := a.open(a.authorities(ctx))
	if err != nil {
		return err
	}
	infra, err := c.provider.Find(ctx)
	if err != nil {
		return err
	}
	if missing := c.missing(infra); len(missing) > 0 {
		return fmt.Errorf("%s: there is no machine yet, and its address has to be in certificates: run `slipway apply` first; "+
			"it makes machines, and stops where certificates have to be signed", list(missing))
	}
	return c.withSecrets(ctx, infra, a.own, renew, do)
}

// withSecrets is withPending for machines that were found.
func (c *cluster) withSecrets(
	ctx context.Context, infra *spec.Infrastructure, own map[string]certs.Item, renew []string, do func(context.Context, *keys.Secrets, certs.Policy) error,
) (err error) {
	store, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return underLock(ctx, store, func(ctx context.Context) error {
		kept, err := keys.Load(ctx, store)
		if err != nil {
			return err
		}
		s, err := keys.Ensure(ctx, kept, renew, c.spec, infra, own)
		if err != nil && !errors.As(err, new(*certs.PendingError)) {
			return err
		}
		if err := do(ctx, s, keys.CertPolicy(c.spec.Spec.PKI, own)); err != nil {
			return err
		}
		return s.Save(ctx, store)
	})
}

func (a *app) writeRequests(ctx context.Context, dir string, names []string) error {
	var index []keys.IndexEntry
	err := a.withPending(ctx, names, func(ctx context.Context, s *keys.Secrets, policy certs.Policy) (err error) {
		index, err = s.Request(ctx, policy, names)
		return err
	})
	switch {
	case err != nil:
		return err
	case len(index) == 0:
		_, err := fmt.Fprintln(a.stderr, "No certificate has to be signed elsewhere.")
		return err
	}
	// Only now that their keys are stored.
	if err := writeIndex(dir, index); err != nil {
		return fmt.Errorf("write signing requests: %w", err)
	}
	if a.output == "json" {
		return a.printJSON(index)
	}
	_, err = fmt.Fprintf(a.stderr, "Wrote %s to %s. Have them signed, then: slipway certs import %s\n", plan.Count(len(index), "signing request"), dir, dir)
	return err
}

func writeIndex(dir string, index []keys.IndexEntry) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	for _, e := range index {
		if err := os.WriteFile(filepath.Join(dir, e.File), e.CSR, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, indexFile), append(text, '\n'), 0o600)
}

func (a *app) importSigned(ctx context.Context, paths []string) error {
	signed, err := readSigned(paths)
	if err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	var names []string
	var left int
	next := "`slipway apply` installs them."
	err = a.withPending(ctx, nil, func(_ context.Context, s *keys.Secrets, policy certs.Policy) (err error) {
		names, err = s.Import(signed, policy)
		left = len(s.PKI.Pending)
		if r := s.PKI.Rotation; r != nil {
			next = "`slipway " + rotate.CommandOf(r) + "` goes on with them."
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		return errors.New("there are only certificates of authorities in these files")
	}
	if left > 0 {
		next = plan.Count(left, "certificate") + " more to be signed."
	}
	_, err = fmt.Fprintf(a.stderr, "Took in %s. %s\n", plan.Count(len(names), "certificate"), next)
	return err
}

// readSigned reads files, and of directories what looks like a certificate.
func readSigned(paths []string) ([]certs.Signed, error) {
	var signed []certs.Signed
	for _, path := range paths {
		files := []string{path}
		if entries, err := os.ReadDir(path); err == nil {
			files = nil
			for _, e := range entries {
				if slices.Contains([]string{".crt", ".pem", ".cer"}, filepath.Ext(e.Name())) {
					files = append(files, filepath.Join(path, e.Name()))
				}
			}
			if len(files) == 0 {
				return nil, fmt.Errorf("no .crt, .pem or .cer in %s", path)
			}
		}
		for _, file := range files {
			text, err := readPEM(file)
			if err != nil {
				return nil, err
			}
			signed = append(signed, certs.Signed{Source: file, Certs: text})
		}
	}
	return signed, nil
}
