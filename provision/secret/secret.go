// Package secret holds bytes that cannot be printed, logged or marshalled by accident.
//
// It is not a vault: it keeps secrets out of output, not out of memory.
package secret

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Bytes is secret material, for example a PEM private key.
// Every printing verb, JSON and slog give "[redacted]"; Reveal is the one way to the content.
//
// Two ways round it remain in package fmt. It prints unexported fields by reflection, without asking them: keep
// Bytes in exported fields, or give the struct a Format method. And it prints what a misplaced %w is given; go vet
// finds those.
type Bytes []byte

// Reveal returns the secret itself. Call it only where the bytes leave for their destination.
func (b Bytes) Reveal() []byte { return []byte(b) }

// Format implements fmt.Formatter, for every verb.
func (Bytes) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// String implements fmt.Stringer.
func (Bytes) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, which encoding/json and YAML encoders use too.
func (Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }
