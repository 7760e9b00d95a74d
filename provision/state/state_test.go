package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/secret"
)

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func put(t *testing.T, s *Store, pairs ...string) {
	t.Helper()
	items := map[string]secret.Bytes{}
	for i := 0; i < len(pairs); i += 2 {
		items[pairs[i]] = secret.Bytes(pairs[i+1])
	}
	if err := s.Put(t.Context(), items); err != nil {
		t.Fatal(err)
	}
}

// contents is all that a store has, as "name=content" in order.
func contents(t *testing.T, s *Store) []string {
	t.Helper()
	names, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, name := range names {
		content, err := s.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, name+"="+string(content.Reveal()))
	}
	return out
}

func expect(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if got := contents(t, s); !slices.Equal(got, want) {
		t.Errorf("the store has %q, wanted %q", got, want)
	}
}

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "demo")
	s := openStore(t, dir)
	expect(t, s)
	put(t, s, "pki/ca.crt", "1", "pki/etcd/server@demo-cp-1.key", "2", "ssh", "3")
	put(t, s, "pki/ca.crt", "4", "empty", "")
	expect(t, s, "empty=", "pki/ca.crt=4", "pki/etcd/server@demo-cp-1.key=2", "ssh=3")
	all, err := s.GetAll(t.Context(), "pki/")
	if err != nil || len(all) != 2 || string(all["ca.crt"].Reveal()) != "4" || string(all["etcd/server@demo-cp-1.key"].Reveal()) != "2" {
		t.Errorf("GetAll: %d items, %v", len(all), err)
	}
	if names, err := s.List(t.Context(), "none/"); err != nil || len(names) != 0 {
		t.Errorf("List of nothing: %v, %v", names, err)
	}
	if _, err := s.Get(t.Context(), "pki/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of nothing: %v", err)
	}
	if err := s.Remove(t.Context(), "pki/etcd/server@demo-cp-1.key", "ssh", "was/never"); err != nil {
		t.Error(err)
	}
	put(t, s, "pki/etcd", "a name now, since the last below it is gone")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, openStore(t, dir), "empty=", "pki/ca.crt=4", "pki/etcd=a name now, since the last below it is gone")
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	s := openStore(t, dir)
	put(t, s, "a/b", "x")
	w, err := s.Log("runs/apply.log")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte("line\n"))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o", p, info.Mode().Perm())
		}
		if !d.IsDir() {
			files++
		}
		return nil
	})
	if err != nil || files != 4 {
		t.Errorf("%d files, %v; wanted version, lock, a/b and the log", files, err)
	}
}

func TestLogAppends(t *testing.T) {
	dir := t.TempDir()
	own(t, dir)
	s := openStore(t, dir)
	for range 2 {
		w, err := s.Log("apply.log")
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintln(w, "a line")
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "logs", "apply.log"))
	if err != nil || string(got) != "a line\na line\n" {
		t.Errorf("log holds %q, %v", got, err)
	}
}

// own gives a directory of the test the mode that a state needs.
func own(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	own(t, dir)
	s := openStore(t, dir)
	put(t, s, "taken", "x", "dir/name", "y")
	for _, name := range []string{
		"", ".", "..", "/abs", "a//b", "a/", "../up", "a/../../up", ".hidden", "a/.b", "-flag", "a b", "a\nb", "a\x00b", "ü",
		strings.Repeat("x", 201), "taken/below", "dir",
	} {
		if err := s.Put(t.Context(), map[string]secret.Bytes{name: nil, "ok": nil}); err == nil {
			t.Errorf("Put accepted %q", name)
		}
		if _, err := s.Get(t.Context(), name); err == nil {
			t.Errorf("Get accepted %q", name)
		}
		if err := s.Remove(t.Context(), name); err == nil && name != "taken/below" {
			t.Errorf("Remove accepted %q", name)
		}
	}
	if err := s.Put(t.Context(), map[string]secret.Bytes{"new": nil, "new/below": nil}); err == nil {
		t.Error("Put accepted a name that is a directory of another")
	}
	if _, err := s.List(t.Context(), "dir"); err == nil {
		t.Error("List accepted a prefix without a slash")
	}
	if _, err := s.Log("../escape"); err == nil {
		t.Error("Log accepted a way out")
	}
	expect(t, s, "dir/name=y", "taken=x")
}

func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	if _, err := OpenReadOnly(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	s := openStore(t, dir)
	put(t, s, "a", "1")
	r, err := OpenReadOnly(t.Context(), dir)
	if err != nil {
		t.Fatalf("beside a writer: %v", err)
	}
	expect(t, r, "a=1")
	put(t, s, "a", "2")
	expect(t, r, "a=2")
	_, logErr := r.Log("x")
	for _, err := range []error{logErr, r.Put(t.Context(), map[string]secret.Bytes{"a": nil}), r.Remove(t.Context(), "a")} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("writing gave %v", err)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), dir); !isLocked(err) {
		t.Errorf("the reader's Close took the writer's lock: %v", err)
	}
}

func isLocked(err error) bool {
	var locked *LockedError
	return errors.As(err, &locked)
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(dir string) error
		check   func(error) bool
		says    string
	}{
		"readable by the group": {
			func(dir string) error { return os.Chmod(dir, 0o750) },
			func(err error) bool { var e *PermissionError; return errors.As(err, &e) && e.Mode == 0o750 },
			"chmod 700",
		},
		"a newer format": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "version"), []byte("2\n"), 0o600) },
			func(err error) bool {
				var e *VersionError
				return errors.As(err, &e) && e.Have == 2 && e.Supported == 1
			},
			"newer slipway",
		},
		"a damaged version": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "version"), []byte("x"), 0o600) },
			func(error) bool { return true }, "damaged",
		},
		"somebody's home": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600) },
			func(error) bool { return true }, "not a state directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			own(t, dir)
			if err := test.prepare(dir); err != nil {
				t.Fatal(err)
			}
			before := entries(t, dir)
			_, err := Open(t.Context(), dir)
			_, errRO := OpenReadOnly(t.Context(), dir)
			for _, err := range []error{err, errRO} {
				if err == nil || !test.check(err) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v", err)
				}
			}
			if after := entries(t, dir); !slices.Equal(before, after) {
				t.Errorf("left behind: %v, before %v", after, before)
			}
		})
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestSymlinksDoNotLeadOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	own(t, dir)
	s := openStore(t, dir)
	if err := os.Symlink(outside, filepath.Join(dir, "data", "link")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), map[string]secret.Bytes{"link/file": secret.Bytes("x")}); err == nil {
		t.Error("Put followed a link")
	}
	if got := entries(t, outside); len(got) != 0 {
		t.Errorf("written outside: %v", got)
	}
}

func TestDefaultDir(t *testing.T) {
	for _, test := range []struct{ state, xdg, home, cluster, want string }{
		{"/s", "/x", "/h", "demo", "/s/demo"},
		{"", "/x", "/h", "demo", "/x/slipway/demo"},
		{"", "relative", "/h", "demo", "/h/.local/state/slipway/demo"},
		{"", "", "/h", "demo", "/h/.local/state/slipway/demo"},
		{"", "", "", "demo", ""},
		{"/s", "", "/h", "../demo", ""},
		{"/s", "", "/h", "a/b", ""},
		{"/s", "", "/h", "", ""},
	} {
		t.Setenv("SLIPWAY_STATE_DIR", test.state)
		t.Setenv("XDG_STATE_HOME", test.xdg)
		t.Setenv("HOME", test.home)
		got, err := DefaultDir(test.cluster)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "../a", "a@b+c-d_e.f", ".", "a/./b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkName(name) != nil {
			return
		}
		if !fs.ValidPath(name) || filepath.Clean(name) != name || strings.ContainsAny(name, "\\\x00 \n") || strings.HasPrefix(name, ".") {
			t.Errorf("%q was accepted", name)
		}
	})
}
