package sshconfig

import (
	"errors"
	"strings"
)

// split returns the keyword of a line in lower case, and its arguments: separated by blanks or one
// "=" after the keyword, in double or single quotes if they contain blanks, up to a "#".
func split(line string) (keyword string, args []string, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", nil, nil
	}
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		return strings.ToLower(line), nil, nil
	}
	keyword = strings.ToLower(line[:end])
	rest := strings.TrimLeft(line[end:], " \t")
	rest = strings.TrimLeft(strings.TrimPrefix(rest, "="), " \t")
	if keyword == "proxycommand" {
		return keyword, []string{rest}, nil
	}
	args, err = words(rest)
	return keyword, args, err
}

// words splits arguments, up to a "#" at the beginning of one.
func words(text string) (args []string, err error) {
	for {
		text = strings.TrimLeft(text, " \t")
		if text == "" || text[0] == '#' {
			return args, nil
		}
		word, rest, err := cutWord(text)
		if err != nil {
			return nil, err
		}
		args, text = append(args, word), rest
	}
}

// cutWord returns the first word without its quotes, and what follows. A backslash takes the next
// quote or backslash as it is.
func cutWord(text string) (word, rest string, err error) {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && strings.IndexByte(`"'\`, text[i+1]) >= 0:
			i++
			b.WriteByte(text[i])
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && (c == ' ' || c == '\t'):
			return b.String(), text[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", "", errors.New("a quote has no end")
	}
	return b.String(), "", nil
}

// matchList reports whether a name matches one of the patterns, and none of those with "!".
func matchList(patterns []string, name string) bool {
	found := false
	for _, p := range patterns {
		negative, negated := strings.CutPrefix(p, "!")
		if !matchPattern(strings.ToLower(negative), strings.ToLower(name)) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// matchPattern matches "*" and "?" (ssh_config(5), PATTERNS).
func matchPattern(pattern, name string) bool {
	star, from := -1, 0
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]) && pattern[p] != '*':
			p, n = p+1, n+1
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
