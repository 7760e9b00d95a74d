package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"slipway.dev/slipway/provision/spec"
)

func newInitCmd(a *app) *cobra.Command {
	var force bool
	var provider string
	cmd := &cobra.Command{
		Use:   "init [NAME]",
		Short: "Write a commented starter spec",
		Long: `Write a commented starter spec: three control-plane nodes and a worker, on this computer or, with --provider hosts, on
machines that exist.

NAME is the cluster's name, "demo" by default. An existing file is kept, unless --force is given.`,
		Example: `  # Write cluster.yaml for a cluster named demo
  slipway init

  # Write staging.yaml for a cluster named staging
  slipway init staging -f staging.yaml

  # Write cluster.yaml for machines that SSH reaches
  slipway init --provider hosts

  # Print it
  slipway init -f -`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			name := "demo"
			if len(args) > 0 {
				name = args[0]
			}
			return a.initSpec(name, provider, force)
		},
	}
	cmd.Flags().StringVar(&provider, "provider", spec.Starters()[0], "where machines come from: "+strings.Join(spec.Starters(), " or "))
	completeWords(cmd, "provider", spec.Starters)
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file if it exists")
	return cmd
}

func (a *app) initSpec(name, provider string, force bool) error {
	if !slices.Contains(spec.Starters(), provider) {
		return fmt.Errorf("--provider: there is no starter for %q, only for %s", provider, strings.Join(spec.Starters(), " and "))
	}
	if len(validation.IsDNS1123Label(name)) > 0 {
		return fmt.Errorf("%q cannot be a cluster's name: use lower-case letters, digits and dashes, such as demo", name)
	}
	starter := spec.Starter(name, provider)
	cluster, err := spec.Parse("starter", starter)
	if err != nil { // the rest is valid for any name
		return fmt.Errorf("%q cannot be a cluster's name: the names of its nodes would have more than 63 characters", name)
	}
	if a.file == "-" {
		_, err := a.stdout.Write(starter)
		return err
	}
	if err := writeNew(a.file, starter, force); err != nil {
		return err
	}
	file := ""
	if a.file != defaultFile {
		file = " -f " + a.file
	}
	preflight := ""
	if provider == "hosts" {
		preflight = fmt.Sprintf("  slipway preflight%s   checks the machines\n", file)
	}
	_, err = fmt.Fprintf(a.stdout, `Wrote %s: %s. Edit it as needed, then:

  slipway validate%s    checks it
%s  slipway plan%s        shows what would change
  slipway apply%s       makes the cluster
`, a.file, summary(cluster), file, preflight, file, file)
	return err
}

// writeNew writes a file that does not exist yet, or any file with force. It is world-readable,
// since a spec holds no secrets.
func writeNew(path string, data []byte, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s exists already: choose another file with --file, or overwrite it with --force", path)
	case err != nil:
		return fmt.Errorf("write the spec: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the spec: %w", err)
	}
	return nil
}
