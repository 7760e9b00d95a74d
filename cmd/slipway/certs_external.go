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

// indexFile lists the signing requests in a directory, for the signer.
const indexFile = "requests.json"

func newCertsCSRCmd(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "csr --out DIR [NAME...]",
		Short: "Generate CSRs to be signed by an external CA",
		Long: `Generate a CSR (PKCS#10, PEM) for every certificate that is missing, no longer fits or expires soon, and whose CA
the spec names without a keyFile. The CSRs contain subject, names and usages; ` + indexFile + ` lists these too, with the
wanted validity. The private keys stay in the state. The same CSRs are written again until other certificates are wanted.

A NAME is one from ` + "`slipway certs status`" + `, or one that ` + "`slipway apply`, `slipway plan`" + ` or requests.json names; without
one, all pending CSRs are written. A named certificate that still fits is renewed, with a new key: the current one stays in
use until the new one is signed and imported.

The certificates contain the nodes' addresses, so that the machines have to exist; apply creates missing ones first. Keep
the CA's key out of this directory: slipway does not need it.`,
		Example: `  slipway certs csr --out requests
  for f in requests/*.csr; do
    openssl x509 -req -in $f -copy_extensions copyall -days 730 -CA ca.crt -CAkey ca.key -CAcreateserial -out ${f%.csr}.crt
  done
  slipway certs import requests && slipway apply
  slipway certs csr --out requests 'etcd/*'   # renew these, although they fit`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.writeRequests(cmd.Context(), out, args) },
	}
	cmd.Flags().StringVar(&out, "out", "", "the directory to write to; it is created")
	_ = cmd.MarkFlagRequired("out")
	_ = cmd.MarkFlagDirname("out")
	return cmd
}

func newCertsImportCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import DIR|FILE...",
		Short: "Import externally signed certificates",
		Long: `Import certificates that were signed from the CSRs of ` + "`slipway certs csr`" + `. In a directory, every .crt, .pem and .cer is
read. Each certificate is matched to its key, whatever the file's name, and checked: its CA, subject, names, usages and
validity. If one does not fit, all errors are listed, and none is imported. The next apply installs them; if a rotation
waits for them, ` + "`slipway certs rotate-ca`" + ` continues it.`,
		Example: `  slipway certs import requests && slipway apply
  slipway certs import apiserver.pem etcd-server.pem`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.importSigned(cmd.Context(), args) },
	}
}

// withPending calls a function with the secrets of a cluster, including pending certificates and
// those that patterns in renew name, and stores the result.
func (a *app) withPending(ctx context.Context, renew []string, do func(context.Context, *keys.Secrets, certs.Policy) error) error {
	c, err := a.open(ctx, a.authorities(ctx))
	if err != nil {
		return err
	}
	infra, err := c.provider.Find(ctx)
	if err != nil {
		return err
	}
	if missing := c.missing(infra); len(missing) > 0 {
		return fmt.Errorf("%s: there is no machine yet, and certificates have to contain its address: run `slipway apply` first; "+
			"it creates machines, and stops when certificates have to be signed", list(missing))
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
		_, err := fmt.Fprintln(a.stderr, "No certificate has to be signed by an external CA.")
		return err
	}
	// Only now, after their keys are stored.
	if err := writeIndex(dir, index); err != nil {
		return fmt.Errorf("write CSRs: %w", err)
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
			next = "`slipway " + rotate.CommandOf(r) + "` continues with them."
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		return errors.New("these files contain only CA certificates")
	}
	if left > 0 {
		next = plan.Count(left, "certificate") + " more to be signed."
	}
	_, err = fmt.Fprintf(a.stderr, "Imported %s. %s\n", plan.Count(len(names), "certificate"), next)
	return err
}

// readSigned reads files, and in directories everything that looks like a certificate.
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
