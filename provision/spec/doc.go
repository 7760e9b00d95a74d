// Package spec is the user's YAML: its types, strict loading with positions, defaults, validation and JSON Schema.
//
// It knows nothing of machines that run, and imports no other part of slipway but the unprintable secret type.
package spec
