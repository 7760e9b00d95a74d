package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// escapingWriter writes terminal control sequences as text, "\x1b": parts of the output come from
// hosts and the API, and so from anyone who has taken one over. Output of slipway itself, colours
// and the live progress, goes to unescaped(w). It is safe for concurrent use.
type escapingWriter struct {
	out io.Writer

	mu   sync.Mutex
	rest []byte // the first bytes of an incomplete rune
}

func newEscapingWriter(out io.Writer) io.Writer { return &escapingWriter{out: out} }

func (w *escapingWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := slices.Concat(w.rest, p)
	end := len(text)
	for i := 1; i <= min(utf8.UTFMax-1, len(text)); i++ {
		if tail := text[len(text)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				end -= i
			}
			break
		}
	}
	w.rest = text[end:]
	if _, err := io.WriteString(w.out, escaped(string(text[:end]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// unescaped returns the writer of an escapingWriter, or w.
func unescaped(w io.Writer) io.Writer {
	if e, ok := w.(*escapingWriter); ok {
		return e.out
	}
	return w
}

// escaped returns text with escapes for control characters except newline and tab, for characters
// that change the direction of text, and for invalid UTF-8. JSON stays valid: it has no control
// characters of one byte, and reads \u202e as the original character.
func escaped(text string) string {
	var b strings.Builder
	for i, size := 0, 0; i < len(text); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1, r < ' ' && r != '\n' && r != '\t':
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsControl(r) && r > ' ', unicode.Is(unicode.Bidi_Control, r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(text[i : i+size])
		}
	}
	return b.String()
}
