package dag

import (
	"fmt"
	"strings"
)

// Failure is one step that failed.
type Failure struct {
	// Step is the step's name.
	Step string
	// Host is the step's, empty for the cluster as a whole.
	Host string
	Err  error
}

// Error is a run that did not do everything it was given.
type Error struct {
	// Failed lists the steps that failed, in the order in which they did.
	Failed []Failure
	// Skipped counts the steps that never began.
	Skipped int
	// Cause is why the run was cancelled, nil when it was not.
	Cause error
}

// Error names every failed step, one a line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Cause != nil {
		fmt.Fprintf(&b, "cancelled (%v): ", e.Cause)
	}
	var parts []string
	if len(e.Failed) > 0 {
		parts = append(parts, count(len(e.Failed), "step")+" failed")
	}
	if e.Skipped > 0 {
		parts = append(parts, count(e.Skipped, "step")+" not begun")
	}
	b.WriteString(strings.Join(parts, ", "))
	for _, f := range e.Failed {
		fmt.Fprintf(&b, "\n  %s: %v", f.Step, f.Err)
	}
	return b.String()
}

// Unwrap gives the steps' errors and the cause of a cancellation to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	errs := make([]error, 0, len(e.Failed)+1)
	for _, f := range e.Failed {
		errs = append(errs, f.Err)
	}
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	return errs
}

// PanicError is a step that panicked.
type PanicError struct {
	Value any
	// Stack is the goroutine's, as debug.Stack prints it.
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
