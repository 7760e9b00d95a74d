package plan

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// field is a path to a value in the JSON tree of a spec: keys of maps, and the names of a list's
// elements.
type field []string

// String formats it for people: "spec.nodePools[worker].labels[tier]".
func (f field) String() string {
	var b strings.Builder
	for i, key := range f {
		switch {
		case i == 0:
			b.WriteString(key)
		case f[i-1] == "nodePools" || f[i-1] == "extraArgs" || f[i-1] == "labels":
			b.WriteString("[" + key + "]")
		default:
			b.WriteString("." + key)
		}
	}
	return b.String()
}

// changedFields lists the fields in which two trees differ, sorted, as deep as both have them.
func changedFields(was, is any, at field) []field {
	if reflect.DeepEqual(was, is) {
		return nil
	}
	a, aOK := children(was)
	b, bOK := children(is)
	if !aOK || !bOK {
		return []field{at}
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	var changed []field
	for _, key := range slices.Sorted(maps.Keys(all)) {
		changed = append(changed, changedFields(a[key], b[key], append(slices.Clone(at), key))...)
	}
	return changed
}

// children are the values of a map, or the elements of a list by their names.
func children(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, true
	case []any:
		named := map[string]any{}
		for _, element := range v {
			m, ok := element.(map[string]any)
			if !ok {
				return nil, false
			}
			name, ok := m["name"].(string)
			if !ok {
				return nil, false
			}
			named[name] = element
		}
		return named, len(v) > 0
	}
	return nil, false
}

// graft returns a copy of the tree was with the field's value from is, or without the field if is
// does not have it.
func (f field) graft(was, is any) any {
	if len(f) == 0 {
		return is
	}
	from, _ := children(is)
	value, there := from[f[0]]
	switch was := was.(type) {
	case map[string]any:
		was = maps.Clone(was)
		if there {
			was[f[0]] = f[1:].graft(was[f[0]], value)
		} else {
			delete(was, f[0])
		}
		return was
	case []any:
		was = slices.Clone(was)
		i := slices.IndexFunc(was, func(element any) bool { return element.(map[string]any)["name"] == f[0] })
		switch {
		case i < 0:
			return append(was, value)
		case !there:
			return slices.Delete(was, i, i+1)
		}
		was[i] = f[1:].graft(was[i], value)
		return was
	}
	return is
}
