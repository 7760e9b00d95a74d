package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/spec"
)

// haveBundle is a check of the spec for commands that install it. A cluster whose version this
// slipway no longer installs can still be shown and destroyed.
func haveBundle() spec.Check { return spec.Releases(bundle.Versions()) }

// loadSpec reads the spec that --file names; "-" is the standard input.
func (a *app) loadSpec(checks ...spec.Check) (*spec.Cluster, error) {
	if a.file != "-" {
		return spec.Load(a.file, checks...)
	}
	data, err := io.ReadAll(a.stdin)
	if err != nil {
		return nil, fmt.Errorf("read the spec from the standard input: %w", err)
	}
	return spec.Parse("<stdin>", data, checks...)
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
