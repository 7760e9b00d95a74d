package spec

import (
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// nodePosition returns the start of a node. For a block mapping that is its first key, which the
// tree does not record.
func nodePosition(n ast.Node) position {
	switch t := n.(type) {
	case *ast.MappingNode:
		if !t.IsFlowStyle && len(t.Values) > 0 {
			return nodePosition(t.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return nodePosition(t.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{}
}

func isMapping(n ast.Node) bool {
	return n.Type() == ast.MappingType || n.Type() == ast.MappingValueType
}

func mappingValues(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode: // a mapping with one key
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func isScalar(n ast.Node) bool {
	_, ok := n.(ast.ScalarNode)
	return ok
}

func stringValue(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// keyName returns the name of a mapping's key, if it is a string.
func keyName(key ast.Node) (string, bool) {
	switch k := key.(type) {
	case *ast.MappingKeyNode: // ? key
		return keyName(k.Value)
	case *ast.AnchorNode: // &a key
		return keyName(k.Value)
	}
	return stringValue(key)
}

// kindOf returns the kind of a value, for messages.
func kindOf(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.StringType, ast.LiteralType:
		return "a string"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "a boolean"
	case ast.NullType:
		return "empty"
	}
	return strings.ToLower(n.Type().String())
}

// fieldsOf returns a struct's fields by their YAML names.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = t.Field(i)
	}
	return fields
}

// fieldNames returns the names in the order of the type.
func fieldNames(fields map[string]reflect.StructField) []string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return fields[a].Index[0] - fields[b].Index[0] })
	return names
}

func isRequired(f reflect.StructField) bool {
	return !strings.HasSuffix(f.Tag.Get("json"), ",omitempty")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// joinKey is join for a map, whose keys may contain dots: "labels[example.com/team]".
func joinKey(path, key string) string { return path + "[" + key + "]" }

// Closest returns the candidate with the fewest edits from a mistyped word, if they are at most a
// third of its letters, or "". Letter case is ignored.
func Closest(word string, candidates []string) string {
	best, bestCost := "", 0
	for _, c := range candidates {
		limit := max(1, len(c)/3)
		if len(word) < 2 || len(word) > len(c)+limit {
			continue
		}
		cost := distance(strings.ToLower(word), strings.ToLower(c))
		if cost <= limit && (best == "" || cost < bestCost) {
			best, bestCost = c, cost
		}
	}
	return best
}

// distance returns the number of letters to insert, delete, replace or swap with a neighbour
// (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
