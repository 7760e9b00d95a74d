package provision

import (
	"context"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/rotate"
)

// NextStage records that a rotation has passed the stage that Apply has just reached (Wish.Prove), and returns it in its next
// stage, or nil if that was the last. It refuses a stage that would cut off one of nodes, which are those in the API. command
// continues the rotation: errors name it. The lock of Store has to be held.
func (s *Session) NextStage(ctx context.Context, passed *certs.Rotation, nodes []string, command string) (*certs.Rotation, error) {
	next := passed.Next(s.proven)
	if err := rotate.RefuseNext(next, nodes, s.found, s.File, command); err != nil {
		return nil, err
	}
	if next == nil {
		return nil, keys.EndRotation(ctx, s.Store, passed, s.stored.Material)
	}
	return next, keys.SaveRotation(ctx, s.Store, next, nil)
}
