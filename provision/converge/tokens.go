package converge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
)

// tokensTimeout is how long old tokens of pods may live: a kubelet renews them after 48 min of
// their hour.
const tokensTimeout = time.Hour

// awaitTokens waits until no pod has a token that was signed with another key than the one in use,
// and no Secret either, unless these are skipped: their tokens do not expire, and the API server
// accepts only the token in the Secret, so that only their users can switch. People get longer for
// that than kubelets do.
func (r *Runner) awaitTokens(ctx context.Context, _ plan.Step) error {
	want, err := keyID(r.Input.PKI.Material[certs.ServiceAccounts].Cert)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if !plan.RollingOf(r.Input.PKI.Rotation).SkipUnmanaged {
		group.Go(func() error { return r.awaitTokenSecrets(ctx, want) })
	}
	for name, h := range r.Hosts {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, tokensTimeout)
			defer cancel()
			return live.WaitEvery(ctx, rollInterval, "pods on "+name+" have tokens of the key to be replaced", func(ctx context.Context) error {
				result, err := h.Run(ctx, host.Cmd{Script: jwtHeaders})
				if err != nil {
					return err
				}
				return signedBy(string(result.Stdout), want)
			})
		})
	}
	return group.Wait()
}

// awaitTokenSecrets waits until no Secret has a token of another key.
func (r *Runner) awaitTokenSecrets(ctx context.Context, want string) error {
	said := ""
	err := live.WaitEvery(ctx, rollInterval, "Secrets have tokens of the key to be replaced", func(ctx context.Context) error {
		secrets, err := r.API.TokenSecrets(ctx)
		if err != nil {
			return err
		}
		others := otherTokens(secrets, want)
		if len(others) == 0 {
			return nil
		}
		text := strings.Join(others, ", ")
		if text != said {
			r.report("cluster", "waiting for you to renew tokens: `"+RenewToken+"` for "+text)
			said = text
		}
		return errors.New(text)
	})
	if errors.Is(err, context.DeadlineExceeded) && said != "" {
		return fmt.Errorf("the tokens of these Secrets were not renewed (`%s`): %s; continue when they are, or with --leave-unmanaged, "+
			"then they become invalid at stage drop: %w", RenewToken, said, context.DeadlineExceeded)
	}
	return err
}

// RenewToken is the command that renews the token of a Secret.
const RenewToken = `kubectl patch secret NAME --type=json -p '[{"op":"remove","path":"/data/token"}]'` // #nosec G101 -- it has none

// otherTokens returns, sorted, the Secrets whose token is of another key than the wanted one.
func otherTokens(secrets []kube.TokenSecret, want string) []string {
	var others []string
	for _, s := range secrets {
		if signedBy(s.Name+" "+s.Header, want) != nil {
			others = append(others, s.Name)
		}
	}
	slices.Sort(others)
	return others
}

// jwtHeaders prints the pod's UID and the first part of every token of a pod, which names the
// signing key and is not secret. Every file that begins like a JWT counts as a token, whatever its
// name.
const jwtHeaders = `for f in /var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/*/*; do
	[ -f "$f" ] && [ "$(head -c 3 "$f" 2>/dev/null)" = eyJ ] && echo "${f#/var/lib/kubelet/pods/} $(cut -d. -f1 "$f" 2>/dev/null)"
done; true`

// signedBy returns which of the tokens are signed by another key than the wanted one; anything that
// is not a JWT is ignored.
func signedBy(headers, want string) error {
	var others []error
	for line := range strings.Lines(headers) {
		path, header, _ := strings.Cut(strings.TrimSpace(line), " ")
		raw, err := base64.RawURLEncoding.DecodeString(header)
		var h struct {
			KeyID string `json:"kid"`
		}
		if err == nil && json.Unmarshal(raw, &h) == nil && h.KeyID != "" && h.KeyID != want {
			pod, _, _ := strings.Cut(path, "/")
			others = append(others, fmt.Errorf("pod with UID %s", pod))
		}
	}
	return errors.Join(others...)
}

// keyID names a public key in the same way as tokens.
func keyID(publicKey []byte) (string, error) {
	key := certs.Read(certs.Use{}, publicKey)[0]
	if key.KeyID == "" {
		return "", fmt.Errorf("the public key of service accounts cannot be read: %s", key.Error)
	}
	return key.KeyID, nil
}
