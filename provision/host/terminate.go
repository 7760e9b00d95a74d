package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// terminationLimit bounds the end of a session whose context has ended.
const terminationLimit = 15 * time.Second

// terminator ends every process that has the tag in its environment: SIGTERM, a second later again,
// since a shell may have been about to start another, and after two seconds SIGKILL.
// SSH's own "signal" request will not do: OpenSSH refuses it for root (session_signal_req in
// session.c asks for privilege separation, which a root login has none of), and a user may not
// signal what sudo started.
const terminator = `tagged() { grep -lzxF SLIPWAY_RUN=%s /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n'; }
signal=TERM n=0
while pids=$(tagged); [ -n "$pids" ]; do
	case $n in
	10) signal=TERM ;;
	20) signal=KILL ;;
	40) echo "processes" $pids "do not end" >&2; exit 1 ;;
	esac
	kill -s $signal $pids 2>/dev/null
	[ $signal = KILL ] || signal=0
	n=$((n + 1))
	sleep 0.1
done
`

// terminate ends a job on the host from a second session, then the session.
func (s *connection) terminate(session *ssh.Session, ended <-chan error, j job) error {
	ctx, cancel := context.WithTimeout(context.Background(), terminationLimit)
	defer cancel()
	defer func() { _ = session.Close() }()
	for {
		if err := s.kill(ctx, j); err != nil {
			var lost *LostError
			if errors.As(err, &lost) || ctx.Err() == nil {
				return err
			}
			return fmt.Errorf("not ended after %s: %w", terminationLimit, err)
		}
		// The command may have been on its way when we looked, so look again.
		select {
		case <-ended: //nolint:errcheck // it was ended by us: how says nothing
			return nil
		case <-time.After(200 * time.Millisecond):
		case <-s.life.Done():
			return s.lost()
		case <-ctx.Done():
			return fmt.Errorf("its session did not end within %s", terminationLimit)
		}
	}
}

func (s *connection) kill(ctx context.Context, of job) error {
	killer, release, err := s.open(ctx, s.killers)
	if err != nil {
		return err
	}
	stderr := &sink{keep: true, fail: func(error) {}}
	j, greeting := prepare(fmt.Sprintf(terminator, of.tag), of.how, nil, nil, stderr, stderr.fail)
	if greeting != nil {
		defer greeting.end()
	}
	killer.Stdout, killer.Stderr, killer.Stdin = io.Discard, j.stderr, j.stdin.from
	result := make(chan error, 1)
	go func() {
		defer release()
		result <- killer.Run(j.line)
	}()
	select {
	case err := <-result:
		_ = killer.Close()
		if ended, err := s.exit(err); err != nil {
			return err
		} else if ended.code != 0 {
			return errors.New(strings.TrimSpace(string(stderr.end())))
		}
		return nil
	case <-ctx.Done():
		_ = killer.Close()
		return context.Cause(ctx)
	}
}
