// Package templates holds what slipway writes on machines and into the cluster as files a person can read:
// configurations, unit files and manifests, embedded, each with a typed renderer.
//
// It decides nothing: which file goes where, with which values, is decided in provision.
package templates

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed files manifests
var files embed.FS

var parsed = template.Must(template.New("").
	Funcs(template.FuncMap{"join": strings.Join, "indent": indent}).
	Option("missingkey=error").
	ParseFS(files, "files/*", "manifests/*"))

// render executes one embedded template. Its errors are programming errors, which the golden tests catch.
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
