package spec

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// maxNodesRead limits the expansion of aliases.
const maxNodesRead = 100_000

// decoder fills a Cluster from a syntax tree. The library's decoder would stop at the first
// mistake, and would not say which field it is in. This one continues, and records the position of
// every field.
type decoder struct {
	*document
	targets map[*ast.AliasNode]ast.Node // what each alias stands for
	open    map[ast.Node]bool           // anchored nodes being read, to detect cycles
	budget  int
}

func newDecoder(doc *document, root ast.Node) *decoder {
	d := &decoder{document: doc, targets: map[*ast.AliasNode]ast.Node{}, open: map[ast.Node]bool{}, budget: maxNodesRead}
	ast.Walk(&anchorVisitor{decoder: d, anchors: map[string]ast.Node{}}, root)
	return d
}

// anchorVisitor resolves aliases to the last preceding anchor of that name.
type anchorVisitor struct {
	*decoder
	anchors map[string]ast.Node
}

func (v *anchorVisitor) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.AnchorNode:
		v.anchors[n.Name.String()] = n.Value
	case *ast.AliasNode:
		v.targets[n] = v.anchors[n.Value.String()]
	}
	return v
}

func (d *decoder) cluster(root ast.Node, c *Cluster) {
	d.value("", position{1, 1}, root, reflect.ValueOf(c).Elem(), constraint{})
}

// value decodes n into v. path is its field path, and at the position of its key.
func (d *decoder) value(path string, key position, n ast.Node, v reflect.Value, c constraint) {
	n, done := d.resolve(path, n)
	defer done()
	if n == nil {
		return
	}
	at := nodePosition(n)
	if n.Type() == ast.NullType {
		at = key
	}
	d.fields[path] = at
	if n.Type() == ast.NullType {
		d.noValue(path, at, v.Type(), c)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(path, at, n, v)
	case reflect.Slice:
		d.list(path, at, n, v)
	case reflect.Map:
		d.mapping(path, at, n, v)
	default:
		d.scalar(path, at, n, v, c)
	}
}

// noValue reports a field with nothing after its colon.
func (d *decoder) noValue(path string, at position, t reflect.Type, c constraint) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	remedy := "write a value" + exampleOf(c)
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		remedy = "write {}"
	case reflect.Slice:
		remedy = "list its items, or write [] for none"
	}
	d.reject(at, path, remedy+unless(c, ", or remove the field"), "has no value")
}

// reject reports a value that cannot be decoded, and marks the field so that validation skips it.
func (d *decoder) reject(at position, path, remedy, format string, args ...any) {
	d.bad[path] = true
	d.report(at, path, remedy, format, args...)
}

// resolve follows anchors and aliases to the node that has the value. It returns nil if it has
// reported a mistake. The caller calls done when it has read the value.
func (d *decoder) resolve(path string, n ast.Node) (ast.Node, func()) {
	var opened []ast.Node
	done := func() {
		for _, n := range opened {
			delete(d.open, n)
		}
	}
	if d.budget--; d.budget < 0 {
		if d.budget == -1 {
			d.bad[""] = true // skip all further validation
			d.reject(nodePosition(n), path, "use fewer aliases", "the spec is too large: aliases expand it to more than %d values", maxNodesRead)
		}
		return nil, done
	}
	for {
		switch t := n.(type) {
		case *ast.AnchorNode:
			n = t.Value
			d.open[n] = true
			opened = append(opened, n)
		case *ast.AliasNode:
			target := d.targets[t]
			switch {
			case target == nil:
				d.reject(nodePosition(t), path, "put the anchor before its first alias", "no anchor named %s", t.Value)
				return nil, done
			case d.open[target]:
				d.reject(nodePosition(t), path, "write the value out", "the alias %s stands for a value that contains it", t.Value)
				return nil, done
			}
			n = target
			d.open[n] = true
			opened = append(opened, n)
		case *ast.TagNode:
			d.reject(nodePosition(t), path, "remove the tag; quote a value that must be a string", "tags such as %s are not supported", t.Start.Value)
			return nil, done
		default:
			return n, done
		}
	}
}

// entry is a key of a mapping with its value.
type entry struct {
	name  string
	at    position
	value ast.Node
}

// entries lists the keys of a mapping. It resolves merge keys (<<) and reports duplicates at the
// path that child returns.
func (d *decoder) entries(path string, n ast.Node, child func(path, name string) string) []entry {
	var list, merged []entry
	seen := map[string]position{}
	for _, kv := range mappingValues(n) {
		if kv.Key.IsMergeKey() {
			merged = append(merged, d.mergeEntries(path, kv, child)...)
			continue
		}
		at := nodePosition(kv.Key)
		name, ok := keyName(kv.Key)
		if !ok {
			d.reject(at, path, "write the name in quotes", "the key %s is %s, and must be a string", kv.Key, kindOf(kv.Key))
			continue
		}
		if first, ok := seen[name]; ok {
			d.report(at, child(path, name), "remove one of the two", "duplicate field, first on line %d", first.line)
			continue
		}
		seen[name] = at
		list = append(list, entry{name, at, kv.Value})
	}
	for _, e := range merged {
		if _, ok := seen[e.name]; !ok { // a mapping's own keys override merged ones, and earlier merges override later ones
			seen[e.name] = e.at
			list = append(list, e)
		}
	}
	return list
}

// mergeEntries returns the keys that `<<: *alias` or `<<: [*a, *b]` adds.
func (d *decoder) mergeEntries(path string, kv *ast.MappingValueNode, child func(path, name string) string) []entry {
	n, done := d.resolve(path, kv.Value)
	defer done()
	if n == nil {
		return nil
	}
	if seq, ok := n.(*ast.SequenceNode); ok {
		var all []entry
		for _, item := range seq.Values {
			all = append(all, d.mergeItem(path, item, child)...)
		}
		return all
	}
	return d.mergeItem(path, n, child)
}

func (d *decoder) mergeItem(path string, n ast.Node, child func(path, name string) string) []entry {
	n, done := d.resolve(path, n)
	defer done()
	if n == nil {
		return nil
	}
	if !isMapping(n) {
		d.reject(nodePosition(n), path, "merge a mapping", "only a mapping can be merged with <<, not %s", kindOf(n))
		return nil
	}
	return d.entries(path, n, child)
}

func (d *decoder) structure(path string, at position, n ast.Node, v reflect.Value) {
	fields := fieldsOf(v.Type())
	if !isMapping(n) {
		d.wrongType(at, path, n, "a mapping", "write the fields below it: "+strings.Join(fieldNames(fields), ", "))
		return
	}
	present, meant := map[string]bool{}, map[string]bool{}
	for _, e := range d.entries(path, n, join) {
		f, ok := fields[e.name]
		if !ok {
			meant[d.unknownField(path, e, fieldNames(fields))] = true
			continue
		}
		present[e.name] = true
		c := constraints[v.Type().Name()+"."+e.name]
		c.must = isRequired(f)
		d.value(join(path, e.name), e.at, e.value, v.FieldByIndex(f.Index), c)
	}
	for _, name := range fieldNames(fields) {
		switch {
		case present[name]:
		case meant[name]: // its value is under a mistyped name: it is not missing, and its default must not be validated
			d.bad[join(path, name)] = true
		case isRequired(fields[name]):
			d.missing(join(path, name), at, name, constraints[v.Type().Name()+"."+name])
		}
	}
}

func (d *decoder) missing(path string, at position, name string, c constraint) {
	remedy := fmt.Sprintf("add `%s:`", name)
	if c.example != "" {
		remedy = fmt.Sprintf("add it, for example `%s: %s`", name, c.example)
	}
	d.reject(at, path, remedy, "is missing")
}

// unknownField reports a field that the type does not have. It returns the field that was probably
// meant, or "".
func (d *decoder) unknownField(path string, e entry, known []string) string {
	meant := Closest(e.name, known)
	remedy := "remove it; known fields are " + strings.Join(known, ", ")
	if meant != "" {
		remedy = fmt.Sprintf("did you mean `%s`?", meant)
	}
	d.report(e.at, join(path, e.name), remedy, "unknown field")
	return meant
}

func (d *decoder) list(path string, at position, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrongType(at, path, n, "a list", "start each item with a dash")
		return
	}
	if len(seq.Values) == 0 {
		return // an empty list means the same as none
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		d.value(fmt.Sprintf("%s[%d]", path, i), nodePosition(item), item, v.Index(i), constraint{})
	}
}

func (d *decoder) mapping(path string, at position, n ast.Node, v reflect.Value) {
	if !isMapping(n) {
		d.wrongType(at, path, n, "a mapping", "write `key: value` pairs below it")
		return
	}
	entries := d.entries(path, n, joinKey)
	if len(entries) == 0 {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(entries)))
	for _, e := range entries {
		at := joinKey(path, e.name)
		d.keys[at] = e.at
		item := reflect.New(v.Type().Elem()).Elem()
		if item.Kind() == reflect.Interface {
			d.free(at, e.value, item)
		} else {
			d.value(at, e.at, e.value, item, constraint{empty: true})
		}
		v.SetMapIndex(reflect.ValueOf(e.name), item)
	}
}

// free decodes a value of any type like encoding/json, but whole numbers become int64.
func (d *decoder) free(path string, n ast.Node, v reflect.Value) {
	n, done := d.resolve(path, n)
	defer done()
	if n == nil {
		return
	}
	at := nodePosition(n)
	d.fields[path] = at
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.SequenceNode:
		items := make([]any, len(n.Values))
		for i, item := range n.Values {
			d.free(fmt.Sprintf("%s[%d]", path, i), item, reflect.ValueOf(&items[i]).Elem())
		}
		v.Set(reflect.ValueOf(items))
	case *ast.MappingNode, *ast.MappingValueNode:
		object := map[string]any{}
		for _, e := range d.entries(path, n, join) {
			var item any
			d.keys[join(path, e.name)] = e.at
			d.free(join(path, e.name), e.value, reflect.ValueOf(&item).Elem())
			object[e.name] = item
		}
		v.Set(reflect.ValueOf(object))
	case *ast.BoolNode:
		v.Set(reflect.ValueOf(n.Value))
	case *ast.IntegerNode:
		var i int64
		d.integer(path, at, n, reflect.ValueOf(&i).Elem(), constraint{})
		v.Set(reflect.ValueOf(i))
	case *ast.FloatNode:
		v.Set(reflect.ValueOf(n.Value))
	default:
		s, ok := stringValue(n)
		if !ok {
			d.reject(at, path, "write a number, a string, true or false", "%s cannot be represented in JSON", n)
			return
		}
		v.Set(reflect.ValueOf(s))
	}
}
