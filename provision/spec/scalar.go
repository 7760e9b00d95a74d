package spec

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// scalar decodes a string, a whole number or a boolean. Nothing is converted: a number is not a
// string, unless the field allows both.
func (d *decoder) scalar(path string, at position, n ast.Node, v reflect.Value, c constraint) {
	switch v.Kind() {
	case reflect.String:
		s, ok := stringValue(n)
		if _, integer := n.(*ast.IntegerNode); integer && c.number {
			s, ok = n.GetToken().Value, true
		}
		switch {
		case !ok && isScalar(n):
			d.wrongType(at, path, n, "a string", stringRemedy(n.GetToken().Value, c))
		case !ok:
			d.wrongType(at, path, n, "a string", "write a string"+exampleOf(c)+quoted(n))
		default:
			d.text(path, at, n, s, v, c)
		}
	case reflect.Int, reflect.Int64:
		d.integer(path, at, n, v, c)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.wrongType(at, path, n, "true or false", "write true or false, without quotes")
			return
		}
		v.SetBool(b.Value)
	default:
		panic("spec: no decoder for " + v.Kind().String())
	}
}

func (d *decoder) text(path string, at position, n ast.Node, s string, v reflect.Value, c constraint) {
	switch {
	case n.GetToken().Type == token.StringType && strings.Contains(strings.TrimSpace(n.GetToken().Origin), "\t"):
		d.reject(at, path, "replace the tab, or write the value in quotes", "a tab in a plain value")
	case s == "" && !c.empty:
		d.reject(at, path, "write a value"+exampleOf(c)+unless(c, ", or leave the field out"), "is empty")
	case len(c.enum) == 1 && s != c.enum[0]:
		d.reject(at, path, fmt.Sprintf("write %q", c.enum[0]), "%q is not supported", s)
	case len(c.enum) > 0 && !slices.Contains(c.enum, s):
		remedy := "write one of " + strings.Join(c.enum, ", ")
		if meant := Closest(s, c.enum); meant != "" {
			remedy = fmt.Sprintf("did you mean %q? %s", meant, remedy)
		}
		d.reject(at, path, remedy, "%q is not an allowed value", s)
	default:
		v.SetString(s)
	}
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// integer only accepts decimal whole numbers, because some YAML parsers read 010 as 8 and others as
// 10. Without a limit, any number that fits is accepted.
func (d *decoder) integer(path string, at position, n ast.Node, v reflect.Value, c constraint) {
	digits := n.GetToken().Value
	if _, ok := n.(*ast.IntegerNode); !ok {
		remedy := "write a whole number"
		s, ok := stringValue(n)
		switch plain := n.GetToken().Type == token.StringType; {
		case ok && plain && decimal.MatchString(s): // the parser returns numbers that fit no integer as strings
			d.reject(at, path, "write a smaller number", "%s is too large", s)
			return
		case ok && decimal.MatchString(s):
			remedy = "write it without quotes: " + s
		}
		d.wrongType(at, path, n, "a whole number", remedy)
		return
	}
	i, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case !decimal.MatchString(digits):
		d.reject(at, path, "write it in decimal, without leading zeros", "%s is not a plain decimal number", digits)
	case err != nil:
		d.reject(at, path, "write a smaller number", "%s is too large", digits)
	case c.max > 0 && (i < int64(c.min) || i > int64(c.max)):
		d.reject(at, path, fmt.Sprintf("write a number from %d to %d", c.min, c.max), "%d is out of range", i)
	default:
		v.SetInt(i)
	}
}

// quoted is the end of a remedy for what YAML reads as a mapping, such as [bastion.example.com:22].
func quoted(n ast.Node) string {
	if !isMapping(n) {
		return ""
	}
	return "; if the value has a colon, write it in quotes"
}

func (d *decoder) wrongType(at position, path string, n ast.Node, want, remedy string) {
	d.reject(at, path, remedy, "must be %s, not %s", want, kindOf(n))
}

// unless is the end of a remedy for fields that can be left out.
func unless(c constraint, remedy string) string {
	if c.must {
		return ""
	}
	return remedy
}

func exampleOf(c constraint) string {
	switch {
	case c.example != "":
		return ", for example " + c.example
	case c.def != "":
		return ", for example " + c.def
	}
	return ""
}

// stringRemedy returns how to write a value that is not a string: in quotes, if that makes it
// valid.
func stringRemedy(value string, c constraint) string {
	if c.pattern != "" && c.example != "" && !regexp.MustCompile(c.pattern).MatchString(value) {
		return "write it in full, such as " + c.example
	}
	return fmt.Sprintf("write it in quotes: %q", value)
}
