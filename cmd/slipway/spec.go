package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"slipway.dev/slipway/provision/spec"
)

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

// specFile is where the spec was read, as it has to be known from elsewhere; "-" stays what it is.
func (a *app) specFile() (string, error) {
	if a.file == "-" {
		return a.file, nil
	}
	return filepath.Abs(a.file)
}

// checkOutput refuses an --output that no command knows.
func (a *app) checkOutput() error {
	if a.output != "text" && a.output != "json" {
		return fmt.Errorf("--output %q is not known: use text or json", a.output)
	}
	return nil
}

// printJSON writes v for programs to read.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
