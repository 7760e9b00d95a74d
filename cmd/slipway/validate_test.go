package main

import (
	"path/filepath"
	"testing"

	"slipway.dev/slipway/provision/spec"
)

// TestExamplesCanBeInstalled: what users begin with asks for a version that there is a bundle for.
func TestExamplesCanBeInstalled(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		if _, err := (&app{file: file}).loadSpec(); err != nil {
			t.Error(err)
		}
	}
	for _, provider := range spec.Starters() {
		if _, err := spec.Parse("starter", spec.Starter("demo", provider), haveBundle()); err != nil {
			t.Errorf("the starter of %s: %v", provider, err)
		}
	}
}
