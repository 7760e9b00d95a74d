package delivery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// ServeConfig is the first line of Serve's input.
type ServeConfig struct {
	// Address and Port to listen on. If the port is taken, it is any.
	Address string `json:"address"`
	Port    int    `json:"port"`
	// HostKey is the private key (PEM) by which clients know the server, Client the public key
	// (authorized_keys format) that it lets in. Both are made for one run.
	HostKey string `json:"hostKey"`
	Client  string `json:"client"`
}

const (
	// silence is how long the operator may say nothing: a line every Heartbeat.
	silence = 60 * time.Second
	// Heartbeat is how often the operator writes a line, empty if there is nothing to say.
	Heartbeat = 10 * time.Second
	// lifetime bounds a server, whoever keeps it alive.
	lifetime = 6 * time.Hour
	// idle is how long a client may take nothing.
	idle = 60 * time.Second
	// clients at a time; the board lets fewer come.
	clients = 16
)

// Serve gives files of a directory to other hosts of the same run, over SSH: they say
// "get NAME OFFSET", and get the rest of the file from there. It can do nothing else, for nobody but
// the owner of one key.
//
// in has the configuration on the first line, and then the name of each file to serve; out gets
// "listening PORT" and "serving NAME" for each. A file is opened at once, so that it may be removed
// from the directory. Serve ends with in, when it has been silent for a minute, and after six hours.
func Serve(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lifetime, errors.New("six hours have passed"))
	defer cancel()
	lines := read(ctx, in)
	first, err := next(ctx, lines)
	if err != nil {
		return err
	}
	s, err := newServer(first)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := fmt.Fprintf(out, "listening %d\n", s.port()); err != nil {
		return err
	}
	go s.accept()
	for {
		name, err := next(ctx, lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := s.open(filepath.Join(dir, filepath.Base(name))); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "serving %s\n", name); err != nil {
			return err
		}
	}
}

// read returns the lines of an input; the channel is closed at its end.
func read(ctx context.Context, in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(in); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

// next returns a line, or io.EOF when there are no more.
func next(ctx context.Context, lines <-chan string) (string, error) {
	patience := time.NewTimer(silence)
	defer patience.Stop()
	select {
	case line, ok := <-lines:
		if !ok {
			return "", io.EOF
		}
		return line, nil
	case <-patience.C:
		return "", fmt.Errorf("the operator has said nothing for %s", silence)
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// server is a listener and the files that it serves.
type server struct {
	listener net.Listener
	config   *ssh.ServerConfig
	serving  sync.WaitGroup

	mu    sync.Mutex
	files map[string]*os.File
	conns map[net.Conn]bool
	over  bool
}

func newServer(line string) (*server, error) {
	var c ServeConfig
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		return nil, errors.New("the configuration is not JSON") // whose error could quote the key
	}
	signer, err := ssh.ParsePrivateKey([]byte(c.HostKey))
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	client, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.Client))
	if err != nil {
		return nil, fmt.Errorf("client key: %w", err)
	}
	allowed := string(client.Marshal())
	s := &server{files: map[string]*os.File{}, conns: map[net.Conn]bool{}}
	s.config = &ssh.ServerConfig{
		MaxAuthTries: 2,
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if string(key.Marshal()) != allowed {
				return nil, errors.New("not a key of this run")
			}
			return nil, nil
		},
	}
	s.config.AddHostKey(signer)
	var lc net.ListenConfig
	s.listener, err = lc.Listen(context.Background(), "tcp", net.JoinHostPort(c.Address, strconv.Itoa(c.Port)))
	if err != nil && c.Port != 0 {
		s.listener, err = lc.Listen(context.Background(), "tcp", net.JoinHostPort(c.Address, "0"))
	}
	return s, err
}

func (s *server) port() int {
	address, _ := s.listener.Addr().(*net.TCPAddr)
	return address.Port
}

// open begins to serve a file.
func (s *server) open(path string) error {
	f, err := os.Open(path) //nolint:gosec // in the directory that is served
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.files[filepath.Base(path)]; old != nil {
		_ = old.Close()
	}
	s.files[filepath.Base(path)] = f
	return nil
}

func (s *server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.admit(conn) {
			_ = conn.Close()
			continue
		}
		s.serving.Go(func() {
			s.connection(impatient{conn})
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			_ = conn.Close()
		})
	}
}

// admit notes a connection, if there is room for it.
func (s *server) admit(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || len(s.conns) >= clients {
		return false
	}
	s.conns[conn] = true
	return true
}

// close ends all that is served.
func (s *server) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.over = true
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
	for _, f := range s.files {
		_ = f.Close()
	}
}

func (s *server) connection(wire net.Conn) {
	conn, channels, requests, err := ssh.NewServerConn(wire, s.config)
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // it is over
	go ssh.DiscardRequests(requests)
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "files are served here, and nothing else")
			continue
		}
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		s.session(channel, requests)
	}
}

// session answers the first request to execute something, and ends.
func (s *server) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close() //nolint:errcheck // it is over
	for r := range requests {
		var command struct{ Line string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		go ssh.DiscardRequests(requests)
		status := uint32(0)
		if err := s.give(channel, command.Line); err != nil {
			_, _ = fmt.Fprintln(channel.Stderr(), err)
			status = 1
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		return
	}
}

// give answers "get NAME OFFSET".
func (s *server) give(to io.Writer, line string) error {
	words := strings.Fields(line)
	if len(words) != 3 || words[0] != "get" {
		return errors.New("want: get NAME OFFSET")
	}
	offset, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil || offset < 0 {
		return errors.New("the offset is not a number of bytes")
	}
	s.mu.Lock()
	f := s.files[words[1]]
	s.mu.Unlock()
	if f == nil {
		return fmt.Errorf("%q is not served here", words[1])
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if offset > info.Size() {
		return errors.New("the offset is behind the end")
	}
	_, err = io.Copy(to, io.NewSectionReader(f, offset, info.Size()-offset))
	return err
}

// impatient is a connection that ends when it takes or gives nothing for long.
type impatient struct{ net.Conn }

func (c impatient) Read(p []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(idle))
	return c.Conn.Read(p)
}

func (c impatient) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(idle))
	return c.Conn.Write(p)
}
