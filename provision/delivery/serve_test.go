package delivery

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// running is a Serve that runs.
type running struct {
	dir     string
	in      *io.PipeWriter
	out     *bufio.Reader
	address string
	host    Key
	client  Key
	ended   chan error
}

func serve(t *testing.T) *running {
	t.Helper()
	s := &running{dir: t.TempDir(), ended: make(chan error, 1)}
	s.host, s.client = key(t), key(t)
	stdin, in := io.Pipe()
	stdout, out := io.Pipe()
	s.in, s.out = in, bufio.NewReader(stdout)
	go func() {
		err := Serve(t.Context(), s.dir, stdin, out)
		_ = out.CloseWithError(io.EOF)
		s.ended <- err
	}()
	t.Cleanup(func() { _ = in.Close() })
	config, err := json.Marshal(ServeConfig{Address: "127.0.0.1", HostKey: string(s.host.Private.Reveal()), Client: s.client.Public})
	if err != nil {
		t.Fatal(err)
	}
	s.address = "127.0.0.1:" + strings.TrimPrefix(s.say(t, string(config)), "listening ")
	return s
}

func key(t *testing.T) Key {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// say writes a line and returns the answer.
func (s *running) say(t *testing.T, line string) string {
	t.Helper()
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(answer, "\n")
}

func (s *running) dial(t *testing.T, with Key) (*ssh.Client, error) {
	t.Helper()
	signer, err := ssh.ParsePrivateKey(with.Private.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	pinned, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s.host.Public))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.Dial("tcp", s.address, &ssh.ClientConfig{
		User: "get", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(pinned),
	})
}

func (s *running) get(t *testing.T, line string) (string, error) {
	t.Helper()
	c, err := s.dial(t, s.client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // of a test
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.Output(line)
	return string(out), err
}

// TestServe gives what it is told to, from an offset, to whoever has the key; also when the file has
// been removed meanwhile; and nothing else.
func TestServe(t *testing.T) {
	s := serve(t)
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte("content of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.say(t, "a"); got != "serving a" {
		t.Errorf("got %q", got)
	}
	if err := os.Remove(filepath.Join(s.dir, "a")); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{"get a 0": "content of a", "get a 8": "of a", "get a 12": ""} {
		if got, err := s.get(t, line); err != nil || got != want {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	for _, line := range []string{"get b 0", "get ../a 0", "get a 13", "get a -1", "get a x", "get a", "sh", ""} {
		if got, err := s.get(t, line); err == nil || got != "" {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	if _, err := s.dial(t, key(t)); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("with another key: %v", err)
	}
	c, err := s.dial(t, s.client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Dial("tcp", s.address); err == nil {
		t.Error("it forwards connections")
	}
	_ = c.Close()

	_ = s.in.Close() // the operator's session ends
	if err := <-s.ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if conn, err := net.Dial("tcp", s.address); err == nil {
		_ = conn.Close()
		t.Error("it listens still")
	}
}

// TestServeTakesAnotherPort if its own is taken.
func TestServeTakesAnotherPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // of a test
	port := taken.Addr().(*net.TCPAddr).Port
	config, err := json.Marshal(ServeConfig{Address: "127.0.0.1", Port: port, HostKey: string(key(t).Private.Reveal()), Client: key(t).Public})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := Serve(t.Context(), t.TempDir(), strings.NewReader(string(config)+"\n"), &out); err != nil {
		t.Fatal(err)
	}
	var got int
	if _, err := fmt.Sscanf(out.String(), "listening %d", &got); err != nil || got == port || got == 0 {
		t.Errorf("it said %q: %v", out.String(), err)
	}
}

// TestServeEnds when the operator, who says something now and then, says nothing more; and says no
// key in an error.
func TestServeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stdin, in := io.Pipe()
		defer stdin.Close() //nolint:errcheck // of a test
		go func() {
			for range 30 {
				_, _ = fmt.Fprintln(in)
				time.Sleep(Heartbeat)
			}
		}()
		began, lines := time.Now(), read(t.Context(), stdin)
		var err error
		for err == nil {
			_, err = next(t.Context(), lines)
		}
		if took := time.Since(began); !strings.Contains(err.Error(), "has said nothing for 1m0s") || took != 29*Heartbeat+silence {
			t.Errorf("after %s: %v", took, err)
		}
		_ = stdin.Close()
	})
	err := Serve(t.Context(), t.TempDir(), strings.NewReader(`{"hostKey": "SECRET"`+"\n"), io.Discard)
	if err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("got %v", err)
	}
}
