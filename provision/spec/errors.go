package spec

import (
	"fmt"
	"slices"
	"strings"
)

// Diagnostic is one mistake in a spec.
type Diagnostic struct {
	File string `json:"file"`
	// Line and Column count from 1; columns count characters. They point at the wrong value, at the
	// key of an unknown or duplicate field, or at the first key of a mapping with a missing field.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Field is the path of the field, "spec.nodePools[0].labels[example.com/team]"; empty for the
	// whole file.
	Field string `json:"field,omitempty"`
	// Message says what is wrong, Remedy what to do about it. Neither ends with a full stop.
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
	// Source is the line, without its line break.
	Source string `json:"source,omitempty"`
}

// String renders a diagnostic as "file:line:column: field: message", the source line with a caret,
// and the remedy.
func (d Diagnostic) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", d.File, d.Line, d.Column)
	if d.Field != "" {
		fmt.Fprintf(&b, "%s: ", d.Field)
	}
	b.WriteString(d.Message)
	if d.Source != "" {
		fmt.Fprintf(&b, "\n    %s\n    %s^", d.Source, indent(d.Source, d.Column))
	}
	if d.Remedy != "" {
		fmt.Fprintf(&b, "\n    %s", d.Remedy)
	}
	return b.String()
}

// indent returns white space as wide as the text before the column. Tabs stay tabs, so that the
// caret lines up.
func indent(source string, column int) string {
	runes := []rune(source)
	pad := runes[:min(max(column-1, 0), len(runes))]
	for i, r := range pad {
		if r != '\t' {
			pad[i] = ' '
		}
	}
	return string(pad)
}

// Errors are all mistakes in a spec, in the order of the file.
type Errors []Diagnostic

// Error returns a line with the number of mistakes, then every mistake with position, source line
// and remedy.
func (e Errors) Error() string {
	var b strings.Builder
	if len(e) == 1 {
		b.WriteString("the spec has a mistake")
	} else {
		fmt.Fprintf(&b, "the spec has %d mistakes", len(e))
	}
	for _, d := range e {
		b.WriteString("\n" + d.String())
	}
	return b.String()
}

func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b Diagnostic) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}
