package state

import (
	"path/filepath"
	"testing"
)

func TestLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	cmd, _ := startChild(t, dir)
	reader, err := OpenReadOnly(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	expectLocked := func(when string, want bool) {
		t.Helper()
		if got, err := reader.Locked(t.Context()); got != want || err != nil {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
	expectLocked("while a process writes", true)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	expectLocked("after it was killed", false)
	writer := openStore(t, Options{Dir: dir}) // looking has not taken the lock
	expectLocked("while another one has it", true)
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	expectLocked("after it was closed", false)
}
