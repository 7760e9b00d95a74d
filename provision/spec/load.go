package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxSize limits the size of a spec in bytes; one with 5000 hosts needs a third of it.
const maxSize = 512 << 10

// Mistake is a problem that a Check found in a field.
type Mistake struct {
	// Field is its path, "spec.pki.authorities.etcd.keyFile".
	Field string
	// Message says what is wrong, Remedy what to do about it. Neither ends with a full stop.
	Message, Remedy string
}

// Check finds mistakes that this package cannot find, for example in files that the spec names. It
// is called with what could be read of the spec, valid or not.
type Check func(*Cluster) []Mistake

// Lister lists the hosts of a pool that names where they are listed.
type Lister func(HostsFrom) ([]PoolHost, error)

// Load reads, decodes, completes and validates the spec at path. It returns all mistakes at once as
// Errors, including those that checks find. If the file does not exist, the error is
// fs.ErrNotExist.
func Load(path string, checks ...Check) (*Cluster, error) { return LoadListed(path, nil, checks...) }

// LoadListed is Load for commands that need the machines: list completes the hosts of pools with
// HostsFrom, which is then nil. Without it, those pools have no hosts.
func LoadListed(path string, list Lister, checks ...Check) (*Cluster, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the spec: %w: write one with `slipway init`, or name another with --file", err)
	case err != nil:
		return nil, fmt.Errorf("read the spec: %w", err)
	}
	return ParseListed(path, data, list, checks...)
}

// Parse is Load for a spec in memory; name is the file name in diagnostics.
func Parse(name string, data []byte, checks ...Check) (*Cluster, error) {
	return ParseListed(name, data, nil, checks...)
}

// ParseListed is LoadListed for a spec in memory.
func ParseListed(name string, data []byte, list Lister, checks ...Check) (*Cluster, error) {
	doc := newDocument(name, data)
	var c Cluster
	if root := doc.parse(data); root != nil {
		newDecoder(doc, root).cluster(root, &c)
		setDefaults(&c)
		doc.listHosts(&c, list)
		validate(doc, &c)
		for _, check := range checks {
			for _, m := range check(&c) {
				doc.judge(m.Field, m.Remedy, "%s", m.Message)
			}
		}
	}
	if len(doc.errs) > 0 {
		doc.errs.sort()
		return nil, doc.errs
	}
	return &c, nil
}

// position is a line and a column in the file, both from 1.
type position struct{ line, column int }

// document is the file while it is being read: its lines, the positions of fields, and the mistakes
// found.
type document struct {
	file   string
	lines  []string
	fields map[string]position // positions of the values of present fields, by path
	keys   map[string]position // positions of the keys of maps and free objects, by path
	bad    map[string]bool     // fields whose value could not be decoded; validation skips them
	errs   Errors
}

func newDocument(name string, data []byte) *document {
	return &document{
		file:   name,
		lines:  strings.Split(string(data), "\n"),
		fields: map[string]position{},
		keys:   map[string]position{},
		bad:    map[string]bool{},
	}
}

// report adds a diagnostic.
func (d *document) report(at position, field, remedy, format string, args ...any) {
	diag := Diagnostic{
		File: d.file, Line: max(at.line, 1), Column: max(at.column, 1),
		Field: field, Message: fmt.Sprintf(format, args...), Remedy: remedy,
	}
	if diag.Line <= len(d.lines) {
		diag.Source = strings.ToValidUTF8(strings.TrimRight(d.lines[diag.Line-1], "\r"), "\uFFFD")
		diag.Column = min(diag.Column, utf8.RuneCountInString(diag.Source)+1) // for missing text, the parser's column is one too large
	}
	d.errs = append(d.errs, diag)
}

// parse returns the root of the file's only YAML document, or nil if it has reported a mistake.
func (d *document) parse(data []byte) ast.Node {
	if !d.checkText(data) {
		return nil
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntaxError(err)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType && doc.Body.Type() != ast.DirectiveType {
			bodies = append(bodies, doc.Body)
		}
	}
	const starter = "write a starter file with `slipway init`"
	switch len(bodies) {
	case 0:
		d.report(position{1, 1}, "", starter, "the file is empty")
		return nil
	case 1:
		return bodies[0]
	default:
		d.report(nodePosition(bodies[1]), "", "put each cluster into a separate file",
			"the file holds %d YAML documents; a spec is one document", len(bodies))
		return nil
	}
}

// checkText refuses text that is not UTF-8, before it is parsed.
func (d *document) checkText(data []byte) bool {
	const remedy = "save the file as UTF-8 without a byte order mark"
	switch {
	case len(data) > maxSize:
		d.lines = nil
		d.report(position{1, 1}, "", "check that this is the right file", "the file has %d bytes; a spec has at most %d", len(data), maxSize)
		return false
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		d.lines = nil
		d.report(position{1, 1}, "", remedy, "the file is in UTF-16, not in UTF-8")
		return false
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		d.report(position{1, 1}, "", remedy, "the file begins with a byte order mark")
		return false
	}
	for i, line := range d.lines {
		column := 1
		for rest := line; rest != ""; column++ {
			r, size := utf8.DecodeRuneInString(rest)
			if r == utf8.RuneError && size == 1 {
				d.report(position{i + 1, column}, "", remedy, "the file is not in UTF-8: byte 0x%02x", rest[0])
				return false
			}
			if r < ' ' && r != '\t' && (r != '\r' || size != len(rest)) || r == 0x7f {
				d.report(position{i + 1, column}, "", "remove the character", "the file holds the control character %U", r)
				return false
			}
			rest = rest[size:]
		}
	}
	return true
}

// syntaxError reports the parser's error. The parser stops at the first one.
func (d *document) syntaxError(err error) {
	at, message := position{1, 1}, err.Error()
	var syntax yaml.Error
	if errors.As(err, &syntax) {
		message = syntax.GetMessage()
		if t := syntax.GetToken(); t != nil && t.Position != nil {
			at = position{t.Position.Line, t.Position.Column}
		}
	}
	message, _, _ = strings.Cut(message, "\n")
	remedy := "check the indentation, the colons and the quotes on this line and the previous one"
	if at.line >= 1 && at.line <= len(d.lines) && strings.Contains(leadingSpace(d.lines[at.line-1]), "\t") {
		message, remedy = "a tab in the indentation", "YAML is indented with spaces only: replace the tab with spaces"
	}
	d.report(at, "", remedy, "this is not YAML: %s", message)
}

func leadingSpace(line string) string {
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}
