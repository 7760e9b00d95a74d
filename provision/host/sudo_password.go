package host

import (
	"context"
	"errors"

	"slipway.dev/slipway/provision/secret"
)

// sudoVerdict is the password of a user for sudo, and what hosts have said to it.
type sudoVerdict struct {
	turn     chan struct{}
	password secret.Bytes
	right    bool       // a host has accepted it
	refused  *SudoError // by the first host that was shown it, or of who could not be asked
}

// sudoPassword asks for the password of a user, once, and has a host try it. The first host does so
// alone, and others wait: were it wrong, all would count the attempt, and some lock the account.
func (s *Shared) sudoPassword(ctx context.Context, c Config, try func(secret.Bytes) error) (secret.Bytes, error) {
	if c.Secret == nil {
		return nil, &SudoError{Host: c.Name, User: c.User, Reason: SudoNoAnswer}
	}
	v := s.verdict(c.User)
	select {
	case v.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if v.right {
		<-v.turn
		return v.password, try(v.password)
	}
	defer func() { <-v.turn }()
	if v.refused != nil {
		e := *v.refused
		if e.Reason == SudoWrong {
			e.Reason, e.Refused, e.Said = SudoUntried, e.Host, ""
		}
		e.Host = c.Name
		return nil, &e
	}
	if v.password == nil {
		password, err := c.Secret(ctx, SudoQuestion+c.User)
		if err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			v.refused = &SudoError{Host: c.Name, User: c.User, Reason: SudoNoAnswer, Err: err}
			return nil, v.refused
		}
		v.password = password
	}
	err := try(v.password)
	var refused *SudoError
	switch {
	case err == nil, errors.As(err, &refused) && refused.Reason == SudoForbidden: // which sudo says only to who is known
		v.right = true
	case errors.As(err, &refused) && refused.Reason == SudoWrong:
		v.refused, v.password = refused, nil
	}
	return v.password, err
}

func (s *Shared) verdict(user string) *sudoVerdict {
	if s == nil {
		return &sudoVerdict{turn: make(chan struct{}, 1)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.sudo[user]
	if v == nil {
		if s.sudo == nil {
			s.sudo = map[string]*sudoVerdict{}
		}
		v = &sudoVerdict{turn: make(chan struct{}, 1)}
		s.sudo[user] = v
	}
	return v
}
