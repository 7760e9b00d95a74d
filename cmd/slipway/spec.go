package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/providers/hosts"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/spec"
)

// haveBundle is a check of the spec for commands that install it. A cluster whose version this
// slipway no longer installs can still be shown and destroyed.
func haveBundle() spec.Check { return spec.Releases(bundle.Versions()) }

// loadSpec reads the spec that --file names; "-" is the standard input. It runs no program: pools
// whose hosts are listed elsewhere have none.
func (a *app) loadSpec(checks ...spec.Check) (*spec.Cluster, error) { return a.load(nil, checks...) }

// loadListed is loadSpec with the hosts that are listed elsewhere.
func (a *app) loadListed(ctx context.Context, checks ...spec.Check) (*spec.Cluster, error) {
	dir, err := a.besideSpec(".")
	if err != nil {
		return nil, fmt.Errorf("find the directory of the spec: %w", err)
	}
	return a.load(func(from spec.HostsFrom) ([]spec.PoolHost, error) { return hosts.List(ctx, from, dir, a.besideSpec) }, checks...)
}

func (a *app) load(list spec.Lister, checks ...spec.Check) (*spec.Cluster, error) {
	if a.file != "-" {
		return spec.LoadListed(a.file, list, checks...)
	}
	data, err := io.ReadAll(a.stdin)
	if err != nil {
		return nil, fmt.Errorf("read the spec from the standard input: %w", err)
	}
	return spec.ParseListed("<stdin>", data, list, checks...)
}

// specFile is the absolute path of the spec; "-" stays as it is.
func (a *app) specFile() (string, error) {
	if a.file == "-" {
		return a.file, nil
	}
	return filepath.Abs(a.file)
}

// moreOutputs is the annotation of a command with further values of --output.
const moreOutputs = "outputs"

// outputsOf returns the values of --output for a command.
func outputsOf(cmd *cobra.Command) []string {
	return append([]string{"text", "json"}, strings.Fields(cmd.Annotations[moreOutputs])...)
}

// checkOutput refuses an --output that the command does not have.
func (a *app) checkOutput(cmd *cobra.Command) error {
	known := outputsOf(cmd)
	if slices.Contains(known, a.output) {
		return nil
	}
	last := len(known) - 1
	return fmt.Errorf("unknown --output %q: use %s or %s", a.output, strings.Join(known[:last], ", "), known[last])
}

// printJSON writes v for programs to read.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
