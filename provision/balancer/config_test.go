package balancer

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConfigValidation(t *testing.T) {
	for name, tt := range map[string]struct {
		config Config
		want   []string
	}{
		"empty": {Config{}, []string{"caFile is missing", "listen is empty", "backends is empty"}},
		"addresses": {
			Config{Listen: []string{"127.0.0.1", ":6444"}, Backends: []string{"a:x", "a:0", "b:1", "b:1", "a:70000"}, CAFile: "x"},
			[]string{`listen[0]: "127.0.0.1"`, `listen[1]: ":6444"`, `backends[0]`, `backends[1]: "a:0"`, `backends[3]: "b:1" is there twice`, `backends[4]`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.config.validate()
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not say %q", err, want)
				}
			}
		})
	}
	good := Config{Listen: []string{"127.0.0.1:6444", "[::1]:6444"}, Backends: []string{"10.0.0.1:6443", "[fd00::1]:6443"}, CAFile: "ca"}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
}

func TestReload(t *testing.T) {
	ca := newTestCA(t)
	a, b := startBackend(t, ca, "a"), startBackend(t, ca, "b")
	r := start(t, ca, a)
	watch := mustDial(t, r.listen)

	// Another backend and another address, in place of the first ones.
	old := r.listen
	r.listen = freeAddress(t)
	r.config.Listen, r.config.Backends = []string{r.listen}, []string{b.address}
	r.save(t)
	if got := mustDial(t, r.listen).server; got != "b" {
		t.Errorf("reached %q after the change", got)
	}
	if conn, err := net.Dial("tcp", old); err == nil {
		_ = conn.Close()
		t.Error("the old address still listens")
	}
	if err := watch.echo("still there?"); err == nil {
		t.Error("the connection to the removed backend goes on")
	}

	// What is not usable changes nothing; each reason is logged once.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	good, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	inUse := bytes.Replace(good, []byte(r.listen), []byte(taken.Addr().String()), 1)
	for i, bad := range [][]byte{nil, []byte(`{"listen":`), []byte(`{"backend":["x"]}`), inUse} {
		write(t, r.path, bad)
		eventually(t, "the complaint", r.logged("not usable", i+1))
		if got := mustDial(t, r.listen).server; got != "b" {
			t.Errorf("with %q on disk reached %q", bad, got)
		}
	}

	// The same files replaced by rename, as a configuration tool does; the CA with it.
	newCA := newTestCA(t)
	c := startBackend(t, newCA, "c")
	write(t, r.config.CAFile+".new", newCA.pem)
	if err := os.Rename(r.config.CAFile+".new", r.config.CAFile); err != nil {
		t.Fatal(err)
	}
	r.config.Backends = []string{c.address}
	r.save(t)
	eventually(t, "the new CA", r.logged(`"API server is ready" backend=`+c.address, 1))
	if got := mustDial(t, r.listen).server; got != "c" {
		t.Errorf("reached %q", got)
	}
}

func TestWaitsForConfiguration(t *testing.T) {
	ca := newTestCA(t)
	b := startBackend(t, ca, "b")
	dir := t.TempDir()
	r := &running{listen: freeAddress(t), path: filepath.Join(dir, "later", "config.json"), logs: &logBuffer{}}
	r.config = Config{Listen: []string{r.listen}, Backends: []string{b.address}, CAFile: filepath.Join(dir, "later", "ca.crt")}

	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	t.Setenv("NOTIFY_SOCKET", socket.LocalAddr().String())

	r.run(t)
	eventually(t, "it waits", r.logged("waiting for the configuration", 1))
	if err := os.Mkdir(filepath.Dir(r.path), 0o750); err != nil {
		t.Fatal(err)
	}
	r.save(t)
	eventually(t, "it waits for the CA", r.logged("ca.crt", 1))
	write(t, r.config.CAFile, ca.pem)
	text, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	up := "READY=1\nSTATUS=" + Status(text, ca.pem)
	other := slices.Concat(text, []byte("\n"))
	message := make([]byte, 256)
	for _, want := range []string{up, "STATUS=" + Status(other, ca.pem), "STOPPING=1"} {
		_ = socket.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := socket.Read(message)
		if err != nil || string(message[:n]) != want {
			t.Fatalf("systemd was told %q, %v; want %q", message[:n], err, want)
		}
		switch want {
		case "STATUS=" + Status(other, ca.pem):
			r.stop()
		case up:
			c, err := dial(r.listen)
			if err != nil {
				t.Fatalf("told to be ready, but %v", err)
			}
			_ = c.Close()
			write(t, r.path, []byte("{")) // which is not in force, and not told
			eventually(t, "it complains", r.logged("going on with the last one", 1))
			write(t, r.path, other)
		}
	}
}
