package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write golden and generated files anew")

// reflectSchema makes the schema: structure and required fields from the types, descriptions from
// the comments on their fields, values from the table of constraints.
func reflectSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	r := &jsonschema.Reflector{Anonymous: true}
	const pkg = "slipway.dev/slipway/provision/spec"
	if err := r.AddGoComments(pkg, ".", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(&Cluster{})
	s.ID = "https://slipway.dev/schemas/v1alpha1/cluster.json"
	s.Title = "A Kubernetes cluster for slipway"
	for name, def := range s.Definitions {
		if name == "Provider" || name == "Encryption" {
			one := uint64(1)
			def.MinProperties, def.MaxProperties = &one, &one
		}
		if def.Properties == nil {
			continue
		}
		goNames := goFieldNames(name)
		for p := def.Properties.Oldest(); p != nil; p = p.Next() {
			p.Value.Description = oneLine(r.CommentMap[pkg+"."+name+"."+goNames[p.Key]])
			constrain(p.Value, constraints[name+"."+p.Key])
		}
	}
	return s
}

func constrain(s *jsonschema.Schema, c constraint) {
	for _, v := range c.enum {
		s.Enum = append(s.Enum, v)
	}
	s.Pattern = c.pattern
	if c.def != "" {
		s.Default = c.def
	}
	if c.example != "" && len(c.enum) == 0 {
		var example any = c.example
		if s.Type == "integer" {
			example = json.Number(c.example)
		}
		s.Examples = []any{example}
	}
	if c.number {
		s.AnyOf = []*jsonschema.Schema{{Type: "string", Pattern: s.Pattern}, {Type: "integer", Minimum: "1"}}
		s.Type, s.Pattern = "", ""
	}
	switch s.Type {
	case "integer":
		s.Minimum, s.Maximum = json.Number(strconv.Itoa(c.min)), json.Number(strconv.Itoa(c.max))
	case "string":
		if one := uint64(1); !c.empty && len(c.enum) == 0 && c.pattern == "" {
			s.MinLength = &one
		}
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestSchemaIsCurrent(t *testing.T) {
	want, err := json.MarshalIndent(reflectSchema(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.json", append(want, '\n'))
}

func TestEveryFieldIsDescribed(t *testing.T) {
	var s struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Description string `json:"description"`
			} `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	described := 0
	for name, def := range s.Defs {
		for field, p := range def.Properties {
			described++
			if p.Description == "" {
				t.Errorf("%s.%s has no description: comment the field in types*.go", name, field)
			}
		}
	}
	if described < 50 {
		t.Errorf("the schema has %d fields, fewer than the types", described)
	}
	for key := range constraints {
		name, field, _ := strings.Cut(key, ".")
		if _, ok := s.Defs[name].Properties[field]; !ok {
			t.Errorf("constraints[%q] belongs to no field", key)
		}
	}
}

// TestSchemaAgreesWithLoad holds schema and loader against the same documents.
func TestSchemaAgreesWithLoad(t *testing.T) {
	for _, path := range exampleFiles(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := schemaError(t, data); err != nil {
			t.Errorf("the schema refuses %s: %v", path, err)
		}
	}
	for _, provider := range Starters() {
		if err := schemaError(t, Starter("demo", provider)); err != nil {
			t.Errorf("the schema refuses the starter of %s: %v", provider, err)
		}
	}
	for _, change := range []struct{ old, new string }{
		{"kind: Cluster", "kind: Clutser"},
		{"kind: Cluster\n", ""},
		{"v1.36.3", "v1.36.3-rc.1"},
		{"v1.36.3", "1.36"},
		{"v1.36.3", "1.36.3"},
		{"{name: demo}", "{name: Demo}"},
		{"{name: demo}", `{name: ""}`},
		{"{name: demo}", "{}"},
		{"provider: {local: {}}", "provider: {}"},
		{"provider: {local: {}}", "provider: {local: {}, aws: {}}"},
		{"local: {}", "local: {apiPort: 65536}"},
		{"local: {}", "local: {apiPort: -1}"},
		{"local: {}", "local: {bundle: download}"},
		{"local: {}", "local: {subnet: 10.89.0.0}"},
		{"replicas: 3", "replicas: 0"},
		{"replicas: 3", `replicas: "3"`},
		{"replicas: 3", "replicsa: 3"},
		{"role: worker", "role: node"},
		{"taints: []", "taints: [{key: a}]"},
		{"taints: []", "taints: [{key: a, effect: Never}]"},
		{"labels: {}", "labels: {a: 1}"},
		{"spec:\n", "spec:\n  network: {proxyMode: userspace}\n"},
		{"spec:\n", "spec:\n  pki: {caValidity: 30}\n"},
		{"spec:\n", "spec:\n  pki: {leafValidity: 6w}\n"},
		{"spec:\n", "spec:\n  allowCgroupV1: \"yes\"\n"},
		{"spec:\n", "spec:\n  state: {s3: {}}\n"},
		{"spec:\n", "spec:\n  state: {s3: {bucket: My_Bucket}}\n"},
		{"spec:\n", "spec:\n  state: {encryption: {}}\n"},
		{"spec:\n", "spec:\n  state: {encryption: {recipients: age1}}\n"},
		{"spec:\n", "spec:\n  state: {encryption: {passphrase: secret}}\n"},
		{"spec:\n", "spec:\n  controlPlane: {certSANs: a.example.com}\n"},
	} {
		data := []byte(strings.Replace(minimal, change.old, change.new, 1))
		if string(data) == minimal {
			t.Fatalf("%q changes nothing", change.old)
		}
		if schemaError(t, data) == nil {
			t.Errorf("the schema accepts %s", change.new)
		}
		if _, err := Parse("cluster.yaml", data); err == nil {
			t.Errorf("the loader accepts %s", change.new)
		}
	}
}

// schemaError validates a document against Schema() with an implementation of JSON Schema that is
// not ours.
func schemaError(t *testing.T, data []byte) error {
	t.Helper()
	schema, err := validator.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := validator.NewCompiler()
	if err := compiler.AddResource("cluster.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("cluster.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	value, err := validator.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return compiled.Validate(value)
}

// TestDocumentationIsCurrent keeps the reference in docs/spec.md, below its marker, equal to the
// schema.
func TestDocumentationIsCurrent(t *testing.T) {
	const path, marker = "../../docs/spec.md", "<!-- Below: generated by `go generate ./provision/spec`. -->\n"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	introduction, _, ok := strings.Cut(string(data), marker)
	if !ok {
		t.Fatalf("%s lacks the line %q", path, marker)
	}
	golden(t, path, []byte(introduction+marker+reference(t, reflectSchema(t))))
}

// reference is a table for every type that the spec reaches, in the order in which a reader meets
// them.
func reference(t *testing.T, s *jsonschema.Schema) string {
	t.Helper()
	var b strings.Builder
	queue, met := []string{"Cluster"}, map[string]bool{"Cluster": true}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		fmt.Fprintf(&b, "\n### %s\n\n| field | type | default | what it is |\n|---|---|---|---|\n", name)
		def := s.Definitions[name]
		for p := def.Properties.Oldest(); p != nil; p = p.Next() {
			typ, next := typeName(p.Value)
			if next != "" && !met[next] {
				met[next] = true
				queue = append(queue, next)
			}
			def := "" + defaultOf(p.Value)
			for _, required := range s.Definitions[name].Required {
				if required == p.Key {
					def = "required"
				}
			}
			text := p.Value.Description
			if values := valuesOf(p.Value); values != "" {
				text += " " + values
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p.Key, typ, def, cell.Replace(text))
		}
	}
	return b.String()
}

// cell keeps text within its cell of a table, and what is in angle brackets from being taken for
// HTML.
var cell = strings.NewReplacer("|", `\|`, "<", `\<`, "\n", " ")

// typeName names a field's type for the reference, and the type that it leads to, if any.
func typeName(s *jsonschema.Schema) (text, next string) {
	switch {
	case s.Ref != "":
		next = s.Ref[strings.LastIndex(s.Ref, "/")+1:]
		return fmt.Sprintf("[%s](#%s)", next, strings.ToLower(next)), next
	case s.Type == "array":
		text, next = typeName(s.Items)
		return "list of " + text, next
	case s.Type == "object":
		return "map", ""
	}
	if len(s.AnyOf) > 0 {
		return "string or integer", ""
	}
	return s.Type, ""
}

func defaultOf(s *jsonschema.Schema) string {
	if s.Default == nil {
		return ""
	}
	return fmt.Sprintf("`%v`", s.Default)
}

func valuesOf(s *jsonschema.Schema) string {
	switch {
	case len(s.Enum) > 0:
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = fmt.Sprintf("`%v`", v)
		}
		return "Values: " + strings.Join(values, ", ") + "."
	case len(s.Examples) > 0 && !strings.Contains(fmt.Sprint(s.Examples[0]), "\n"): // the description has what takes lines
		return fmt.Sprintf("Example: `%v`.", s.Examples[0])
	}
	return ""
}

// golden compares with a file, or writes it when -update is given.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it should be; run the test with -update and read the difference. Got:\n%s", path, got)
	}
}

func exampleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	return files
}

// goFieldNames are the Go names of a type's fields by their YAML names, for the types that a
// Cluster reaches.
func goFieldNames(typeName string) map[string]string {
	names := map[string]string{}
	for _, t := range reachable(reflect.TypeFor[Cluster]()) {
		if t.Name() != typeName {
			continue
		}
		for name, f := range fieldsOf(t) {
			names[name] = f.Name
		}
	}
	return names
}

// reachable lists the struct types from t on.
func reachable(t reflect.Type) []reflect.Type {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return reachable(t.Elem())
	case reflect.Struct:
		all := []reflect.Type{t}
		for i := range t.NumField() {
			all = append(all, reachable(t.Field(i).Type)...)
		}
		return all
	}
	return nil
}
