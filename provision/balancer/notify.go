package balancer

import (
	"log/slog"
	"net"
	"os"
)

// notify sends a state to systemd, like sd_notify(3); without NOTIFY_SOCKET it does nothing.
func notify(state string, logger *slog.Logger) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	// A leading "@" is the abstract namespace, for Go as for systemd.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		logger.Warn("notify systemd", "state", state, "error", err)
	}
}
