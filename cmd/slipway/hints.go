package main

import (
	"cmp"
	"errors"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/state"
)

// hintTable says what to do about errors that others only report. One row a class of error; {command} is what goes on
// where the command that failed has ended.
var hintTable = []struct {
	is   func(error) bool
	hint string
}{
	{
		func(err error) bool { return hostKey(err) == pinnedKey },
		"if the machine was rebuilt or its keys were changed on purpose, destroy and create it again; if not, somebody may " +
			"stand between you and it. Nothing was sent there.",
	},
	{
		func(err error) bool { return hostKey(err) == changedKey },
		"somebody may stand between you and the machine. If it was rebuilt or its keys were changed on purpose, compare that key with its own, on its " +
			"console (`ssh-keygen -lf` and its file in /etc/ssh), and replace the line of known_hosts that is named. Nothing was sent there.",
	},
	{
		func(err error) bool { return hostKey(err) == unknownKey },
		"compare that key with the machine's own, on its console (`ssh-keygen -lf` and its file in /etc/ssh); if they are the same, have it added to your " +
			"known_hosts: `ssh` to the machine asks. Nothing was sent there.",
	},
	{
		isA[*host.AgentError],
		"`ssh-add -l` lists the keys of your SSH agent, and `ssh-add FILE` adds one; without an agent, `eval $(ssh-agent)` starts one. " +
			"Slipway finds it by SSH_AUTH_SOCK.",
	},
	{
		isA[*host.AuthError],
		"the machine refuses the key: if its authorized_keys were changed, put the key back; if the key is your SSH agent's, `ssh-add FILE` adds the right one; " +
			"a machine that slipway made can be destroyed and created again.",
	},
	{
		isA[*host.UnreachableError],
		"see that the machine is running and its network is up, then run `{command}`: it goes on from what is there. " +
			"`slipway status` shows which machines answer; `slipway apply --only` with the names of all others goes on without it.",
	},
	{
		isA[*host.LostError],
		"see that the machine is running, then run `{command}`: it goes on from what is there.",
	},
	{
		func(err error) bool { return pendingRenewal(err, false) },
		"`slipway certs csr --out DIR` writes the signing requests; have them signed, take the certificates in with " +
			"`slipway certs import DIR`, and run this again. What needs them was begun on no machine.",
	},
	{
		func(err error) bool { return pendingRenewal(err, true) },
		"`slipway certs csr --out DIR NAME...` writes signing requests with new keys for them; have these signed, take the certificates in with " +
			"`slipway certs import DIR`, and `slipway apply` puts them in use. Nothing was changed.",
	},
	{
		func(err error) bool { return errors.Is(err, certs.ErrExpired) },
		"an authority that has expired is replaced, with all that it has issued, by `slipway certs rotate-ca` and its name: kubernetes, etcd, front-proxy. " +
			"A rotation that is under way goes on with it: then without a name.",
	},
	{
		isA[*bundle.UnpinnedError],
		"build the bundle from source, which is checked by the checksums of Go's modules (`slipway bundle build`); or give the " +
			"digests yourself (`slipway bundle download --pins FILE`); or trust, this once, those that the site of the files " +
			"gives (`slipway bundle download --trust-published-digests`): docs/bundle.md.",
	},
	{
		isA[*state.KeyError],
		"name the file of a private key in SLIPWAY_AGE_IDENTITY_FILE, or that of the passphrase in SLIPWAY_PASSPHRASE_FILE; docs/state.md tells more.",
	},
	{
		func(err error) bool {
			var locked *state.LockedError
			return errors.As(err, &locked) && locked.Frees > 0
		},
		"if you know that its holder is dead, `slipway state unlock ID` frees the lock at once.",
	},
	{
		isA[*state.LostError],
		"another slipway may be at work on this cluster: let it end, then run this command again: it goes on from what is there.",
	},
	{
		func(err error) bool { return errors.Is(err, syscall.ENOSPC) },
		"free some space on the machine that is named (`slipway ssh NODE -- df -h`), then run `{command}`: it goes on from what is there.",
	},
}

// pendingRenewal says whether certificates have to be signed elsewhere that a cluster lacks, or that were to be renewed.
func pendingRenewal(err error, renewal bool) bool {
	var pending *certs.PendingError
	return errors.As(err, &pending) && pending.Renewal == renewal
}

// What a refused host key can be: another than the pinned one, another than that in known_hosts, or in none of them.
const (
	noKey = iota
	pinnedKey
	changedKey
	unknownKey
)

// hostKey says which host key was refused, if any.
func hostKey(err error) int {
	var refused *host.HostKeyError
	switch {
	case !errors.As(err, &refused):
		return noKey
	case refused.Source == host.SourcePinned:
		return pinnedKey
	case len(refused.Want) > 0 || refused.Revoked:
		return changedKey
	}
	return unknownKey
}

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// resumes is the annotation of a command with which another one goes on.
const resumes = "resumes"

// resumeOf is the command that goes on where cmd has failed half-way.
func resumeOf(cmd *cobra.Command) string {
	return cmp.Or(cmd.Annotations[resumes], cmd.CommandPath())
}

// hints gives every remedy that an error, with all that it wraps, calls for; command goes on where it has happened.
func hints(err error, command string) []string {
	var out []string
	for _, row := range hintTable {
		if row.is(err) {
			out = append(out, strings.ReplaceAll(row.hint, "{command}", command))
		}
	}
	return out
}
