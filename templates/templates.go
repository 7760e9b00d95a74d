// Package templates has the files that slipway writes to machines and into the cluster: embedded
// configurations, unit files and manifests, each with a typed renderer.
//
// It makes no decisions: provision decides which file is written where, and with which values.
package templates

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

//go:embed files manifests
var files embed.FS

var parsed = template.Must(template.New("").
	Funcs(template.FuncMap{"join": strings.Join, "indent": indent, "scalar": scalar, "json": jsonText}).
	Option("missingkey=error").
	ParseFS(files, "files/*", "manifests/*"))

// render executes one embedded template. Its errors are programming errors, which the golden tests
// catch.
func render(name string, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := parsed.ExecuteTemplate(&out, name, data); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// indent puts n spaces before every line but the first, for blocks inside YAML.
func indent(n int, text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+strings.Repeat(" ", n))
}

// plain matches YAML scalars that need no quotes anywhere, even inside brackets and braces.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./+-][A-Za-z0-9_./:+=-]*$`)

// scalar formats text as a YAML string: in quotes if it would not be that string without them
// ("on", "1e3", "2026-11-26", "a, b"). It is used for every value in YAML.
func scalar(text string) (string, error) {
	if out, err := yaml.Marshal(text); err == nil && plain.MatchString(text) && string(out) == text+"\n" {
		return text, nil
	}
	return jsonText(text)
}

// jsonText writes a value as JSON.
func jsonText(value any) (string, error) {
	out, err := json.Marshal(value)
	return string(out), err
}
