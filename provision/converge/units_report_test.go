package converge

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

func TestUnitsReportSaysWhatIsWaitedFor(t *testing.T) {
	units := map[string]stack.Unit{"a.service": {}, "b.service": {}, "c.service": {}, "d.service": {}, "e.timer": {}}
	for _, test := range []struct{ line, want string }{
		{"active activating active failed active |", "waiting for b (activating), d (failed)"},
		{"inactive inactive inactive inactive inactive |", "waiting for a (inactive), b (inactive), c (inactive) and 2 more"},
		{"active active active active inactive |", "waiting for e.timer (inactive)"},
		{"active active active activating active |/opt/slipway/coredns/v1.12.1/images/coredns.tar 34012345", "importing coredns, 34 MB"},
		{"active active active activating active |/x/coredns.tar", "waiting for d (activating)"},
		{"active active active active active |", "all units are active; waiting for the container runtime, its network and the balancer"},
		{" |", ""}, // systemd does not answer
		{"", ""},
	} {
		var got []string
		r := newUnitsReport(units, func(what string) { got = append(got, what) })
		for _, part := range []string{test.line[:len(test.line)/2], test.line[len(test.line)/2:], "\n"} { // as it may come over a connection
			if n, err := r.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if strings.Join(got, "\n") != test.want {
			t.Errorf("of %q the report is %q, want %q", test.line, got, test.want)
		}
	}
}

// TestUnitsAreReportedWhileTheyStart runs the script in a shell, with a systemctl that has images imported for a while.
func TestUnitsAreReportedWhileTheyStart(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("this computer has no /proc")
	}
	t.Parallel()
	dir := t.TempDir()
	image, done := filepath.Join(dir, "coredns.tar"), filepath.Join(dir, "done")
	if err := os.WriteFile(image, make([]byte, 3_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	importer := exec.CommandContext(t.Context(), "tail", "-f", image) // any process with that last argument
	if err := importer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = importer.Process.Kill()
		_ = importer.Wait()
	})
	systemctl := fmt.Sprintf("#!/bin/sh\ncase $1 in\nshow) echo 0; echo %d ;;\nis-active) shift; for u; do [ -e %s ] && echo active || echo activating; done ;;\nesac\n",
		importer.Process.Pid, done)
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(systemctl), 0o700); err != nil { // #nosec G306 -- it is run
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var reports []string
	report := func(what string) {
		if reports = append(reports, what); len(reports) == 1 {
			if err := os.WriteFile(done, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	h := pathHost{host.Local("h"), dir}
	if err := unitsUp(ctx, h, map[string]stack.Unit{stack.ImagesService: {}, "kubelet.service": {}}, report); err != nil {
		t.Fatal(err)
	}
	if want := []string{"importing coredns, 3 MB"}; !slices.Equal(reports, want) {
		t.Errorf("the reports are %q, want %q", reports, want)
	}
}

// pathHost finds programs in a directory before all others.
type pathHost struct {
	*host.LocalHost
	dir string
}

func (h pathHost) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	cmd.Script = "PATH=" + h.dir + ":$PATH\n" + cmd.Script
	return h.LocalHost.Run(ctx, cmd)
}
