package hosttest

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
)

func TestMemory(t *testing.T) {
	m := NewMemory("cp-1")
	m.On("systemctl", Answer{Stdout: "active\n"})
	m.On("systemctl start broken", Answer{Stderr: "no such unit\n", Code: 5})
	r, err := m.Run(t.Context(), host.Cmd{Script: "systemctl start etcd", Stdin: strings.NewReader("in")})
	if err != nil || string(r.Stdout) != "active\n" {
		t.Errorf("got %q, %v", r.Stdout, err)
	}
	_, err = m.Run(t.Context(), host.Cmd{Script: "systemctl start broken\nsecond line"})
	var exit *host.ExitError
	if !errors.As(err, &exit) || exit.Code != 5 || exit.Script != "systemctl start broken" || exit.Stderr != "no such unit\n" {
		t.Errorf("got %v", err)
	}
	if ran := m.Ran(); len(ran) != 2 || ran[0].Script != "systemctl start etcd" || string(ran[0].Stdin) != "in" {
		t.Errorf("recorded %v", ran)
	}

	content := []byte("a")
	err = m.Write(t.Context(), []host.File{
		{Path: "/d/a", Mode: 0o640, Owner: "root:etcd", Content: content},
		{Path: "/d/l", Mode: fs.ModeSymlink | 0o777, Content: []byte("a")},
	})
	if err != nil {
		t.Fatal(err)
	}
	content[0] = 'x'
	if b, err := m.Read(t.Context(), "/d/l"); err != nil || string(b) != "a" {
		t.Errorf("through the link: %q, %v", b, err)
	}
	if f, ok := m.File("/d/a"); !ok || f.Mode != 0o640 || f.Owner != "root:etcd" {
		t.Errorf("got %v", f)
	}
	if _, err := m.Read(t.Context(), "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	full := errors.New("full")
	m.OnWrite(func([]host.File) error { return full })
	if err := m.Write(t.Context(), []host.File{{Path: "/b"}}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if got := m.Paths(); !slices.Equal(got, []string{"/d/a", "/d/l"}) {
		t.Errorf("got %v", got)
	}
	m.Remove("/d")
	if got := m.Paths(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	_ = m.Close()
	var lost *host.LostError
	if _, err := m.Run(t.Context(), host.Cmd{Script: ":"}); !errors.As(err, &lost) {
		t.Errorf("closed: got %v", err)
	}
}
