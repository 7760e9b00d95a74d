package spec

import (
	_ "embed"
	"strings"
)

//go:generate go test . -run TestSchemaIsCurrent|TestDocumentationIsCurrent -update

// schema is generated from the types, their comments and the table of constraints; a test keeps it
// current.
//
//go:embed schema.json
var schema []byte

// Schema is the JSON Schema (draft 2020-12) of a spec. Load refuses everything that it refuses, and
// more, because a schema cannot compare fields.
func Schema() []byte { return append([]byte(nil), schema...) }

//go:embed starter.yaml
var starter string

// Starter returns a commented starter spec: a valid spec of the cluster with the given name.
func Starter(name string) []byte {
	return []byte(strings.ReplaceAll(starter, "NAME", name))
}
