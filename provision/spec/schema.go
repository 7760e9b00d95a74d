package spec

import (
	"embed"
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

//go:embed starter/*.yaml
var starters embed.FS

// Starters are the providers that Starter knows, the default first.
func Starters() []string { return []string{"local", "hosts"} }

// Starter returns a commented starter spec: a valid spec of the cluster with the given name, on the
// machines of a provider, one of Starters.
func Starter(name, provider string) []byte {
	text := func(file string) string {
		data, err := starters.ReadFile("starter/" + file + ".yaml")
		if err != nil {
			panic(err) // it is compiled in
		}
		return string(data)
	}
	whole := strings.Replace(text("cluster"), "MACHINES\n", text(provider), 1)
	return []byte(strings.ReplaceAll(whole, "NAME", name))
}
