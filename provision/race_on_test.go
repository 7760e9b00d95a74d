//go:build race

package provision

import (
	"os"
	"strings"
	"testing"
)

// alone is called by what computes for long in one goroutine: it takes many times as long with the race detector, which
// finds nothing there. `make unit` runs it without.
func alone(t *testing.T) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	makefile, err := os.ReadFile("../Makefile")
	if err != nil || !strings.Contains(string(makefile), name) {
		t.Fatalf("`make unit` does not run %s without the race detector: %v", name, err)
	}
	t.Skip("nothing runs side by side here: `make unit` runs this without the race detector")
}
