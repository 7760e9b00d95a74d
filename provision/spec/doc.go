// Package spec defines the user's YAML: its types, strict loading with positions, defaults,
// validation and JSON Schema.
//
// Start with Load. It reports all mistakes of a file at once, each as a Diagnostic with position
// and remedy. The Cluster that it returns is complete and valid, so its accessors cannot fail. The
// package does not deal with running machines, and imports no other part of slipway except the
// secret type.
package spec
