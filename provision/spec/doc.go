// Package spec is the user's YAML: its types, strict loading with positions, defaults, validation and JSON Schema.
//
// Load is the way in. It reports every mistake of a file at once, each a Diagnostic with its place and a remedy; a
// Cluster that it returns is complete and valid, and the accessors on it cannot fail. The package knows nothing of
// machines that run, and imports no other part of slipway but the unprintable secret type.
package spec
