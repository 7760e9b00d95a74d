package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/secret"
)

// Identity is a key to log in with.
type Identity struct {
	// Name is the file of the private key, for messages and to ask for its passphrase.
	Name string
	// Private is the key in PEM, perhaps encrypted; if empty, only an agent has it.
	Private secret.Bytes
	// Public is the public key, or a certificate for it, in authorized_keys format; if empty, it is
	// part of Private.
	Public string
}

// offer is a key to log in with, and where it comes from.
type offer struct {
	ssh.Signer
	from string
}

func (o offer) String() string {
	text := fingerprint(o.PublicKey())
	if o.from != "" {
		text += " (" + o.from + ")"
	}
	return text
}

// candidate is an identity with what is known of its key.
type candidate struct {
	Identity
	public ssh.PublicKey
	// certificate for the key, if there is one.
	certificate *ssh.Certificate
	// signer is nil if only an agent has the private key.
	signer ssh.Signer
}

// offering are the keys to log in with.
type offering struct {
	keys []offer
	// lacking are identities that cannot be used, and agentErr is why the agent was not asked.
	lacking  []string
	agentErr error
}

func (o *offering) add(signer ssh.Signer, from string) {
	if !slices.ContainsFunc(o.keys, func(k offer) bool { return same(k.PublicKey(), signer.PublicKey()) }) {
		o.keys = append(o.keys, offer{signer, from})
	}
}

// offers orders the keys as ssh(1) does: the agent's that are in Identities, in their order; the
// agent's others, unless IdentitiesOnly; then those that only files have.
func (d *dialing) offers() (o offering, err error) {
	candidates, err := d.candidates()
	if err != nil {
		return o, err
	}
	var held []offer
	if d.Agent != "" && (!d.IdentitiesOnly || len(candidates) > 0) {
		held, o.agentErr = d.agentKeys()
	}
	if d.ctx.Err() != nil {
		return o, cmp.Or(o.agentErr, context.Cause(d.ctx))
	}
	const inAgent = ", in the agent"
	for i, c := range candidates {
		if j := slices.IndexFunc(held, func(k offer) bool { return same(k.PublicKey(), c.public) }); j >= 0 {
			candidates[i].signer = held[j].Signer
			for _, s := range candidates[i].signers() {
				o.add(s, strings.TrimPrefix(cmp.Or(c.Name, held[j].from)+inAgent, ", "))
			}
		}
	}
	if !d.IdentitiesOnly {
		for _, k := range held {
			o.add(k.Signer, strings.TrimPrefix(k.from+inAgent, ", "))
		}
	}
	o.addFiles(candidates)
	return o, nil
}

// addFiles adds the keys that only files have, and notes which nobody has.
func (o *offering) addFiles(candidates []candidate) {
	for _, c := range candidates {
		if c.signer == nil {
			o.lacking = append(o.lacking, cmp.Or(c.Name, fingerprint(c.public)))
		}
		for _, s := range c.signers() {
			o.add(s, c.Name)
		}
	}
}

// signers of a candidate: with its certificate first, as ssh(1) does.
func (c candidate) signers() (all []ssh.Signer) {
	if c.signer == nil {
		return nil
	}
	if c.certificate != nil {
		if s, err := ssh.NewCertSigner(c.certificate, c.signer); err == nil {
			all = append(all, s)
		}
	}
	return append(all, c.signer)
}

func (d *dialing) candidates() (all []candidate, err error) {
	for _, id := range d.Identities {
		c := candidate{Identity: id}
		if id.Public != "" {
			if c.public, _, _, _, err = ssh.ParseAuthorizedKey([]byte(id.Public)); err != nil {
				return nil, fmt.Errorf("%s: the public key of %s: %w", d.Name, cmp.Or(id.Name, "an identity"), err)
			}
			if cert, ok := c.public.(*ssh.Certificate); ok {
				c.certificate, c.public = cert, cert.Key
			}
		}
		switch {
		case len(id.Private) > 0:
			if err := d.parse(&c); err != nil {
				return nil, err
			}
		case c.public == nil:
			return nil, fmt.Errorf("%s: identity %q has neither a private nor a public key", d.Name, id.Name)
		}
		all = append(all, c)
	}
	return all, nil
}

// parse reads a private key. One with a passphrase is offered by its public key, and decrypted when
// the host has accepted that.
func (d *dialing) parse(c *candidate) error {
	signer, err := ssh.ParsePrivateKey(c.Private.Reveal())
	var locked *ssh.PassphraseMissingError
	switch {
	case err == nil:
		c.signer, c.public = signer, signer.PublicKey()
		return nil
	case !errors.As(err, &locked):
		return fmt.Errorf("%s: the SSH key %sof user %q: %w", d.Name, strings.TrimPrefix(c.Name+" ", " "), d.User, err)
	case locked.PublicKey != nil:
		c.public = locked.PublicKey
	}
	if c.public == nil { // an old format: it does not have the public key
		signer, err := d.unlock(c.Identity, "")
		if err != nil {
			return err
		}
		c.signer, c.public = signer, signer.PublicKey()
		return nil
	}
	c.signer = &lockedSigner{d, c.Identity, c.public}
	return nil
}
