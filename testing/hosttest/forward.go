package hosttest

import (
	"errors"
	"io"
	"net"
	"strconv"

	"golang.org/x/crypto/ssh"
)

// forward serves direct-tcpip (RFC 4254, section 7.2).
func (s *SSHD) forward(c ssh.NewChannel, count *trips) {
	var to struct {
		Host       string
		Port       uint32
		Originator string
		From       uint32
	}
	if err := ssh.Unmarshal(c.ExtraData(), &to); err != nil {
		_ = c.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	dial := s.options.Dial
	if dial == nil {
		dial = func(address string) (net.Conn, error) { return net.Dial("tcp", address) }
	}
	conn, err := dial(net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if open := new(ssh.OpenChannelError); errors.As(err, &open) {
		_ = c.Reject(open.Reason, open.Message)
		return
	} else if err != nil {
		_ = c.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	channel, requests, err := c.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	s.serving.Go(func() { ssh.DiscardRequests(requests) })
	s.serving.Go(func() {
		_, _ = io.Copy(conn, waiting{channel, count})
		_ = conn.Close()
	})
	_, _ = io.Copy(channel, conn)
	_ = channel.Close()
	_ = conn.Close()
}
