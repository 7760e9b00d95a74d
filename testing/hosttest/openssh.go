package hosttest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/host"
)

const sshdPath = "/usr/sbin/sshd"

// NewOpenSSH serves this machine by OpenSSH's own sshd on a free port of 127.0.0.1, for the current user, and returns
// how to reach it. The test is skipped where sshd is not installed, and fails if that happens in CI.
// Each connection gets an sshd of its own (-i): nothing has to be waited for and no port can be taken by others.
func NewOpenSSH(t testing.TB) host.Config {
	t.Helper()
	if _, err := os.Stat(sshdPath); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("OpenSSH's server is missing (install openssh-server): %v", err)
		}
		t.Skipf("OpenSSH's server is missing: %v", err)
	}
	// sshd gives up its privileges into this directory, which its unit makes at boot.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil && os.Getuid() == 0 {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	hostSigner, hostKey := NewKey(t)
	client, key := NewKey(t)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write("sshd_config", strings.Join([]string{
		"HostKey " + write("host_key", string(hostKey.Reveal())),
		"AuthorizedKeysFile " + write("authorized_keys", string(ssh.MarshalAuthorizedKey(client.PublicKey()))),
		// The shell's start-up files of whoever runs the test are no part of it.
		"SetEnv HOME=" + dir,
		"StrictModes no", "UsePAM no", "PermitRootLogin prohibit-password", "PasswordAuthentication no", "LogLevel INFO",
	}, "\n")+"\n")
	address := inetd(t, config)
	return host.Config{Address: address, User: me.Username, Identities: []host.Identity{{Private: key}}, HostKeys: []string{authorized(hostSigner.PublicKey())}}
}

// inetd starts an sshd for each connection.
func inetd(t testing.TB, config string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				if err := serveOne(ctx, conn, config); err != nil && t.Failed() {
					t.Log(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		end()
		serving.Wait()
	})
	return listener.Addr().String()
}

func serveOne(ctx context.Context, conn net.Conn, config string) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("not TCP: %T", conn)
	}
	socket, err := tcp.File()
	_ = conn.Close() // the file is a duplicate
	if err != nil {
		return err
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, sshdPath, "-i", "-e", "-f", config) //nolint:gosec // a constant, and a path of ours
	cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, &log
	err = cmd.Run()
	_ = socket.Close()
	if err != nil {
		return fmt.Errorf("sshd: %w: %s", err, log.String())
	}
	return nil
}
