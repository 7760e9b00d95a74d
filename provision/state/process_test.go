package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/secret"
)

// childDir tells the test binary to be the process that holds the lock and writes, until it is
// killed.
const childDir = "SLIPWAY_STATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Println("failed:", beChild(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// names of one Put of the child: enough of them, in several directories, for a kill to fall between
// two.
var childNames = []string{"pki/ca", "pki/etcd/ca", "pki/etcd/server", "ssh/key", "top"}

// childOptions tell a directory from the URL of a server.
func childOptions(where string) Options {
	if strings.HasPrefix(where, "http://") {
		return Options{S3: &S3{Bucket: testBucket, Prefix: testPrefix, Endpoint: where, PathStyle: true}}
	}
	return Options{Dir: where}
}

// beChild puts generation after generation, each larger than a page, and prints each when it is
// stored.
func beChild(where string) error {
	ctx := context.Background()
	s, err := Open(ctx, childOptions(where))
	if err != nil {
		return err
	}
	start := 0
	if last, err := s.Get(ctx, childNames[0]); err == nil {
		if start, err = generation(last); err != nil {
			return err
		}
	}
	fmt.Println(start)
	for n := start + 1; ; n++ {
		items := map[string]secret.Bytes{}
		for _, name := range childNames {
			items[name] = content(n)
		}
		if err := s.Put(ctx, items); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// content repeats its generation, so that a torn file is told from a whole one.
func content(n int) secret.Bytes {
	return secret.Bytes(strings.Repeat(fmt.Sprintf("%08d\n", n), 1000))
}

func generation(b secret.Bytes) (int, error) {
	if len(b) != 9000 {
		return 0, fmt.Errorf("%d bytes", len(b))
	}
	n, err := strconv.Atoi(string(b[:8]))
	if err == nil && string(b) != string(content(n)) {
		err = errors.New("torn")
	}
	return n, err
}

// startChild runs the child and waits until it has the lock.
func startChild(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || strings.HasPrefix(lines.Text(), "failed") {
		t.Fatalf("the child did not begin: %s", lines.Text())
	}
	return cmd, lines
}

type opener func(context.Context, Options) (*Store, error)

// TestKilledWhilePutting kills a writer at random moments: all of its last Put is there, or nothing
// of it. That it is dead is seen at once, not when its lease has run out.
func TestKilledWhilePutting(t *testing.T) {
	onBoth(t, func(t *testing.T, o Options) {
		if o.S3 != nil {
			killWhilePutting(t, o.S3.Endpoint)
		} else {
			killWhilePutting(t, o.Dir)
		}
	})
}

func killWhilePutting(t *testing.T, dir string) {
	t.Helper()
	for round := range 15 {
		cmd, lines := startChild(t, dir)
		acknowledged, _ := strconv.Atoi(lines.Text())
		kill := time.AfterFunc(time.Duration(rand.IntN(30))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("the child said %q", lines.Text())
			}
			acknowledged = n
		}
		_ = cmd.Wait()
		kill.Stop()
		expectGeneration(t, dir, acknowledged, OpenReadOnly, "read-only", round)
		expectGeneration(t, dir, acknowledged, Open, "reopened", round)
	}
}

func expectGeneration(t *testing.T, dir string, acknowledged int, open opener, how string, round int) {
	t.Helper()
	s, err := open(t.Context(), childOptions(dir))
	if err != nil {
		t.Fatalf("round %d, %s: %v", round, how, err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	found := map[int]bool{}
	for _, name := range childNames {
		b, err := s.Get(t.Context(), name)
		if err != nil && acknowledged == 0 {
			found[0] = true
			continue
		}
		if err != nil {
			t.Fatalf("round %d, %s: %v", round, how, err)
		}
		n, err := generation(b)
		if err != nil {
			t.Fatalf("round %d, %s: %s: %v", round, how, name, err)
		}
		found[n] = true
	}
	if len(found) != 1 || (!found[acknowledged] && !found[acknowledged+1]) {
		t.Errorf("round %d, %s: generations %v, where %d was acknowledged", round, how, found, acknowledged)
	}
}

func TestTwoProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	cmd, _ := startChild(t, dir)
	_, err := Open(t.Context(), Options{Dir: dir})
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("opened beside another process: %v", err)
	}
	host, _ := os.Hostname()
	if h := locked.Holder; h.PID != cmd.Process.Pid || h.Host != host || time.Since(h.Since) > time.Minute || !strings.Contains(h.Command, filepath.Base(os.Args[0])) {
		t.Errorf("the holder is said to be %+v", h)
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("process %d on %s", cmd.Process.Pid, host)) {
		t.Errorf("the error does not say who: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	openStore(t, Options{Dir: dir})
}
