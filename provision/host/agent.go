package host

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentLimit bounds how long an agent may take to list its keys. To sign it has until the end of
// the handshake: it may ask a person.
const agentLimit = 10 * time.Second

// AgentError means that no SSH agent gave a key to log in with.
type AgentError struct {
	Host string
	// Socket is the path of the agent's socket; empty if there is no agent.
	Socket string
	// Err is why the agent could not be asked; nil if it has no keys.
	Err error
}

func (e *AgentError) Error() string {
	switch {
	case e.Socket == "":
		return e.Host + ": there is no key to log in with: neither a private key nor an SSH agent is given"
	case e.Err == nil:
		return fmt.Sprintf("%s: the SSH agent at %s has no keys", e.Host, e.Socket)
	}
	return fmt.Sprintf("%s: the SSH agent at %s does not list its keys: %v", e.Host, e.Socket, e.Err)
}

func (e *AgentError) Unwrap() error { return e.Err }

// signers returns the keys to log in with: c.Key, or those of the agent, in its order. The agent is
// needed until done is called, and has to have signed by limit.
func signers(ctx context.Context, c Config, limit time.Time) (keys []ssh.Signer, done func(), err error) {
	done = func() {}
	if len(c.Key) > 0 {
		signer, err := ssh.ParsePrivateKey(c.Key.Reveal())
		if err != nil {
			return nil, done, fmt.Errorf("%s: the SSH key of user %q: %w", c.Name, c.User, err)
		}
		return []ssh.Signer{signer}, done, nil
	}
	if c.Agent == "" {
		return nil, done, &AgentError{Host: c.Name}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.Agent)
	if err != nil {
		return nil, done, agentFailed(ctx, c, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	done = func() { stop(); _ = conn.Close() }
	_ = conn.SetDeadline(earlier(time.Now().Add(agentLimit), limit))
	keys, err = agent.NewClient(conn).Signers()
	if err == nil && len(keys) > 0 {
		_ = conn.SetDeadline(limit)
		return keys, done, nil
	}
	done()
	return nil, func() {}, agentFailed(ctx, c, err)
}

// agentFailed is the error of an agent that gave no key; err is nil if it has none.
func agentFailed(ctx context.Context, c Config, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: ask the SSH agent at %s: %w", c.Name, c.Agent, context.Cause(ctx))
	}
	return &AgentError{Host: c.Name, Socket: c.Agent, Err: err}
}

// fingerprints of the keys, as they are offered.
func fingerprints(keys []ssh.Signer) []string {
	var all []string
	for _, k := range keys {
		all = append(all, fingerprint(k.PublicKey()))
	}
	return all
}
