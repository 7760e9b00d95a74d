package plan

import (
	"fmt"

	"slipway.dev/slipway/provision/stack"
)

// whyProgram says what is wrong with what a program's link leads to; empty for nothing, or where it is not known.
func whyProgram(w, h stack.File) string {
	switch {
	case !w.Program || h.Sum == "" || h.Sum == w.Sum:
		return ""
	case h.Sum == stack.NoFile:
		return "leads to nothing"
	}
	return fmt.Sprintf("has other content than the bundle's: its SHA-256 begins with %.12s, should with %.12s", h.Sum, w.Sum)
}

// foreignProgram gives a program that a unit runs, and whose content is not the bundle's.
func foreignProgram(w stack.Unit, want, have map[string]stack.File) string {
	for _, p := range w.Reads {
		if whyProgram(want[p], have[p]) != "" {
			return p
		}
	}
	return ""
}
