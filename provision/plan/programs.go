package plan

import (
	"fmt"

	"slipway.dev/slipway/provision/stack"
)

// whyProgram returns the defect of a program's link target; "" if there is none, or if it is
// unknown.
func whyProgram(w, h stack.File) string {
	switch {
	case !w.Program || h.Sum == "" || h.Sum == w.Sum:
		return ""
	case h.Sum == stack.NoFile:
		return "leads to nothing"
	}
	return fmt.Sprintf("its content differs from the bundle's: its SHA-256 begins with %.12s, should be %.12s", h.Sum, w.Sum)
}

// foreignProgram returns a program that a unit runs and whose content is not the bundle's.
func foreignProgram(w stack.Unit, want, have map[string]stack.File) string {
	for _, p := range w.Reads {
		if whyProgram(want[p], have[p]) != "" {
			return p
		}
	}
	return ""
}
