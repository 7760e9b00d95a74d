package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"slipway.dev/slipway/testing/fixture"
)

// TestMain lets scripts run this test binary as the slipway command.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"slipway": main})
}

// TestScripts runs every script of testdata/script on the real command, in a directory of its own, with a home, a state
// and a cache directory of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       fixture.Update(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // commands are too short to need that second
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("SLIPWAY_STATE_DIR", filepath.Join(env.WorkDir, "state"))
			env.Setenv("SLIPWAY_CACHE_DIR", filepath.Join(env.WorkDir, "cache"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCodeIs},
	})
}

// exitCodeIs runs a command and checks its exit code, which exec cannot: exitcode 3 slipway validate.
func exitCodeIs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode code command [args...]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v exited with %d, want %s", args[1:], code, args[0])
	}
}
