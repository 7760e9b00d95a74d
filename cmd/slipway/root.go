package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/spec"
)

// app is what every command shares: streams and global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer // which escape terminal control sequences, see unescaped

	file    string                // -f: the cluster spec
	given   *spec.Cluster         // the spec, if it does not come from file
	own     map[string]certs.Item // the CAs that the spec names, once authorities has read them
	remarks []string              // findings of the spec's checks that are not errors
	output  string                // --output: text or json; some commands have more
	yes     bool                  // --yes: do not ask
	verbose bool                  // -v

	trust live.Trust  // the host keys that were accepted on first use
	entry host.Shared // what entering machines has asked for
	shown *progress   // what is on the terminal; may be nil

	connectTimeout time.Duration // how long a machine may take to answer SSH; 0 is the default
}

// defaultFile is the spec unless --file names another.
const defaultFile = "cluster.yaml"

// newRoot builds the command tree, with one function per command, in a file named after it.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "slipway",
		Short:         "Turn one YAML file into a running, highly available Kubernetes cluster",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.checkOutput(cmd)
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see `%s --help`", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVarP(&a.file, "file", "f", defaultFile, "the cluster spec")
	flags.StringVar(&a.output, "output", "text", "output format: text or json; plan also has markdown, and certs status prometheus")
	_ = root.RegisterFlagCompletionFunc("output", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return outputsOf(cmd), cobra.ShellCompDirectiveNoFileComp
	})
	_ = root.MarkPersistentFlagFilename("file", "yaml", "yml")
	flags.BoolVar(&a.yes, "yes", false, "do not ask for confirmation")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "print one line per step, even on a terminal")
	root.AddCommand(
		// kept in the order in which a user meets them
		newInitCmd(a),
		newValidateCmd(a),
		newSchemaCmd(a),
		newPreflightCmd(a),
		newPlanCmd(a),
		newApplyCmd(a),
		newStatusCmd(a),
		newDiagnoseCmd(a),
		newRunsCmd(a),
		newCertsCmd(a),
		newKubeconfigCmd(a),
		newSSHCmd(a),
		newRotateEncryptionKeyCmd(a),
		newDestroyCmd(a),
		newStateCmd(a),
		newBundleCmd(a),
		newVersionCmd(a),
		newBalancerCmd(a),
		newWaitForPodCIDRCmd(),
		newDeliveryCmd(a),
	)
	return root
}

// completionTimeout bounds how long a shell waits for completions.
const completionTimeout = 3 * time.Second

// completeWords completes the value of a flag, or each of its values, from words that are computed
// when needed.
func completeWords(cmd *cobra.Command, flag string, words func() []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words(), cobra.ShellCompDirectiveNoFileComp
	})
}
