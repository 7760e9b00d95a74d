package host

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentLimit bounds how long an agent may take to list its keys. To sign it has until the end of
// the handshake: it may ask a person.
const agentLimit = 10 * time.Second

// agentSlots bounds the connections to agents: the socket of one refuses more than its backlog.
var agentSlots = make(chan struct{}, 16)

// AgentError means that no SSH agent gave a key to log in with.
type AgentError struct {
	Host string
	// Socket is the path of the agent's socket; empty if there is no agent.
	Socket string
	// Lacks are the identities that only the agent can have, and has not.
	Lacks []string
	// Err is why the agent could not be asked; nil if it has no keys.
	Err error
}

func (e *AgentError) Error() string {
	text := ""
	switch {
	case e.Socket == "":
		text = e.Host + ": there is no key to log in with: neither a private key nor an SSH agent is given"
	case e.Err == nil && len(e.Lacks) > 0:
		text = fmt.Sprintf("%s: the SSH agent at %s does not have the key", e.Host, e.Socket)
	case e.Err == nil:
		text = fmt.Sprintf("%s: the SSH agent at %s has no keys", e.Host, e.Socket)
	default:
		text = fmt.Sprintf("%s: the SSH agent at %s does not list its keys: %v", e.Host, e.Socket, e.Err)
	}
	return text + lacking(e.Lacks)
}

func (e *AgentError) Unwrap() error { return e.Err }

// askAgent has ask talk to the agent. It ends with ctx, and at limit.
func (d *dialing) askAgent(limit time.Time, ask func(agent.ExtendedAgent) error) error {
	select {
	case agentSlots <- struct{}{}:
		defer func() { <-agentSlots }()
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	}
	conn, err := new(net.Dialer).DialContext(d.ctx, "unix", d.Agent)
	if err == nil {
		stop := context.AfterFunc(d.ctx, func() { _ = conn.Close() })
		defer func() { stop(); _ = conn.Close() }()
		_ = conn.SetDeadline(limit)
		err = ask(agent.NewClient(conn))
	}
	if err != nil && d.ctx.Err() != nil {
		return fmt.Errorf("%s: ask the SSH agent at %s: %w", d.Name, d.Agent, context.Cause(d.ctx))
	}
	return err
}

// agentKeys lists the keys of the agent, in its order.
func (d *dialing) agentKeys() (keys []offer, err error) {
	err = d.askAgent(earlier(time.Now().Add(agentLimit), d.limit), func(a agent.ExtendedAgent) error {
		list, err := a.List()
		for _, k := range list {
			public, err := ssh.ParsePublicKey(k.Marshal())
			if err != nil {
				continue // of a type that this program does not know
			}
			keys = append(keys, offer{&agentSigner{d, public}, k.Comment})
		}
		return err
	})
	return keys, err
}

// agentSigner signs with a key of the agent, over a connection of its own: a thousand hosts must not
// keep one each.
type agentSigner struct {
	dialing *dialing
	public  ssh.PublicKey
}

var _ ssh.AlgorithmSigner = (*agentSigner)(nil)

func (s *agentSigner) PublicKey() ssh.PublicKey { return s.public }

func (s *agentSigner) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(random, data, "")
}

// SignWithAlgorithm implements ssh.AlgorithmSigner; the flags are those of the agent's protocol.
func (s *agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (signature *ssh.Signature, err error) {
	var flags agent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	err = s.dialing.askAgent(s.dialing.limit, func(a agent.ExtendedAgent) error {
		signature, err = a.SignWithFlags(s.public, data, flags)
		return err
	})
	return signature, err
}

// fingerprints of the keys, as they are offered.
func fingerprints(keys []offer) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.String())
	}
	return all
}
