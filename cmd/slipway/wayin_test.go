package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
)

// TestAnswersWithoutATerminal: a password for sudo comes from a file that is named, and nothing else does.
func TestAnswersWithoutATerminal(t *testing.T) {
	a := &app{stdin: strings.NewReader("no answer\n")}
	sudo := host.SudoQuestion + "ops"
	t.Setenv(sudoPasswordFileVar, "")
	if _, err := a.answer(t.Context(), sudo); err == nil || !strings.Contains(err.Error(), "name a file that holds it in "+sudoPasswordFileVar) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "password")
	t.Setenv(sudoPasswordFileVar, file)
	if _, err := a.answer(t.Context(), sudo); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(file, []byte(" a b \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := a.answer(t.Context(), sudo); err != nil || string(got.Reveal()) != " a b " {
		t.Errorf("got %q, %v", got.Reveal(), err)
	}
	if _, err := a.answer(t.Context(), "Passphrase of the SSH key id"); err == nil || !strings.Contains(err.Error(), "ssh-add FILE") {
		t.Errorf("got %v", err)
	}
}
