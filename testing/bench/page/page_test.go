package page

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteKeepsOtherSections(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	for _, step := range []struct{ heading, text, want string }{
		{"One", "first\n", "# Benchmarks\n\n## One\n\nfirst\n"},
		{"Two", "second", "# Benchmarks\n\n## One\n\nfirst\n\n## Two\n\nsecond\n"},
		{"One", "third\n\n### more\n", "# Benchmarks\n\n## One\n\nthird\n\n### more\n\n## Two\n\nsecond\n"},
		{"Two", "fourth", "# Benchmarks\n\n## One\n\nthird\n\n### more\n\n## Two\n\nfourth\n"},
	} {
		if err := Write(file, step.heading, step.text); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != step.want {
			t.Fatalf("after writing %s: %v\n%s\nwant\n%s", step.heading, err, got, step.want)
		}
	}
}
