package spec

import (
	_ "embed"
	"strings"
)

//go:generate go test . -run TestSchemaIsCurrent|TestDocumentationIsCurrent -update

// schema is generated from the types, their comments and the table of constraints; a test keeps it current.
//
//go:embed schema.json
var schema []byte

// Schema is the JSON Schema (draft 2020-12) of a spec. What it refuses, Load refuses; Load refuses more, since a schema
// cannot compare fields with each other.
func Schema() []byte { return append([]byte(nil), schema...) }

//go:embed starter.yaml
var starter string

// Starter is the commented file that a new user begins with: a valid spec of the cluster with the given name.
func Starter(name string) []byte {
	return []byte(strings.ReplaceAll(starter, "NAME", name))
}
