package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/secret"
)

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	s := openStore(t, Options{Dir: dir})
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

// own gives a directory of the test the mode that a state needs.
func own(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
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
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "version"), []byte("3\n"), 0o600) },
			func(err error) bool {
				var e *VersionError
				return errors.As(err, &e) && e.Have == 3 && e.Supported == 2
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
			_, err := Open(t.Context(), Options{Dir: dir})
			_, errRO := OpenReadOnly(t.Context(), Options{Dir: dir})
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
	s := openStore(t, Options{Dir: dir})
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

// A directory with data/ and logs/ of somebody's, and no version, is not a state: nobody may find
// it empty, take it over, and remove it in the end. Who was killed while initializing left these
// two empty.
func TestSomebodysDataIsNoState(t *testing.T) {
	dir := t.TempDir()
	own(t, dir)
	thesis := filepath.Join(dir, "data", "thesis.tex")
	if err := errors.Join(os.Mkdir(filepath.Dir(thesis), 0o700), os.WriteFile(thesis, []byte("years"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		return
	}
	t.Error("opened as an empty state")
	if err := errors.Join(s.Destroy(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(thesis); err != nil {
		t.Errorf("and removed: %v", err)
	}
}
