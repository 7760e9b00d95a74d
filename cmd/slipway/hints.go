package main

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/state"
)

// hintTable has the remedies for errors that other packages report, one row per class of error;
// {command} is the command that continues after the failed one, {address} that of a host whose key
// is refused.
var hintTable = []struct {
	is   func(error) bool
	hint string
}{
	{
		func(err error) bool { return hostKey(err) == pinnedKey },
		"if its keys were not changed on purpose, an attacker may stand between you and the machine, which can be destroyed and created again. " +
			"Nothing was sent there.",
	},
	{
		func(err error) bool { return hostKey(err) == trustedKey },
		"an attacker may stand between you and the machine. If it was reinstalled or its keys were changed on purpose, compare that key with its own, on " +
			"its console (`ssh-keygen -lf` and its file in /etc/ssh), and run `slipway state forget-host-key {address}`: the next `slipway apply` " +
			"trusts the one that it then has. Nothing was sent there.",
	},
	{
		func(err error) bool { return hostKey(err) == changedKey },
		"an attacker may stand between you and the machine. If it was rebuilt or its keys were changed on purpose, compare that key with its own, on its " +
			"console (`ssh-keygen -lf` and its file in /etc/ssh), remove the line of known_hosts that is named, " +
			"and have the new key added: `ssh` to the machine asks. Nothing was sent there.",
	},
	{
		func(err error) bool { return hostKey(err) == unknownKey },
		"compare that key with the machine's own, on its console (`ssh-keygen -lf` and its file in /etc/ssh); if they are the same, have it added to your " +
			"known_hosts: `ssh` to the machine asks. Nothing was sent there.",
	},
	{
		func(err error) bool { return hostKey(err) == badCertificate },
		"have the SSH CA sign the machine's host key for the name that slipway uses (`ssh-keygen -s CA -h -n NAME FILE`; the spec's host or its HostKeyAlias), " +
			"and see that it has not expired (`ssh-keygen -L -f FILE-cert.pub`). Nothing was sent there.",
	},
	{
		isA[*host.AgentError],
		"`ssh-add -l` lists the keys of your SSH agent, and `ssh-add FILE` adds one; without an agent, `eval $(ssh-agent)` starts one. " +
			"Slipway finds it by SSH_AUTH_SOCK.",
	},
	{
		isA[*host.PassphraseError],
		"`ssh-add FILE` adds the key to your SSH agent, which then asks for its passphrase once; slipway asks for it only on a terminal.",
	},
	{
		tooManyKeys,
		"an SSH server takes few keys (MaxAuthTries, normally 6): name the right key in the spec (`ssh: {identityFiles: [FILE]}`), and no other is " +
			"offered; or remove the others from your SSH agent (`ssh-add -d FILE`).",
	},
	{
		func(err error) bool { return isA[*host.AuthError](err) && !tooManyKeys(err) },
		"check the user, and add one of these keys to the authorized_keys that this user has there; if another key is the right one, `ssh-add FILE` adds it to " +
			"your SSH agent, or the spec names its file (`ssh: {identityFiles: [FILE]}`). A machine that slipway made can be destroyed and created again.",
	},
	{
		sudoFails(host.SudoMissing, host.SudoForbidden),
		"on the machine, install sudo and let the user run everything as root: a line `USER ALL=(ALL) ALL` in /etc/sudoers.d, with `NOPASSWD: ALL` at " +
			"the end if no password is to be asked for; or name another user.",
	},
	{
		sudoFails(host.SudoTerminal),
		"on the machine, add the line `Defaults:USER !requiretty` to a file in /etc/sudoers.d (`visudo -f FILE`).",
	},
	{
		sudoFails(host.SudoNoAnswer),
		"run slipway on a terminal, which asks; or name a file that holds the password in SLIPWAY_SUDO_PASSWORD_FILE.",
	},
	{
		sudoFails(host.SudoWrong, host.SudoUntried),
		"run `{command}` again with the right password. A wrong one is tried on one machine only, so that no other counts it " +
			"(`faillock --user USER` there shows what was counted).",
	},
	{
		forwards,
		"on the bastion, allow the user to forward TCP (AllowTcpForwarding and PermitOpen in its sshd_config, and the options of the key in its authorized_keys).",
	},
	{
		isA[*host.UnreachableError],
		"check that the machine is running and its network is up, then run `{command}`: it continues from the current state. " +
			"`slipway status` shows which machines answer; `slipway apply --only` with the names of all others continues without it.",
	},
	{
		isA[*host.LostError],
		"check that the machine is running, then run `{command}`: it continues from the current state.",
	},
	{
		func(err error) bool { return pendingRenewal(err, false) },
		"`slipway certs csr --out DIR` generates the CSRs; have them signed, import the certificates with " +
			"`slipway certs import DIR`, and run this again. Nothing that needs them was changed on any machine.",
	},
	{
		func(err error) bool { return pendingRenewal(err, true) },
		"`slipway certs csr --out DIR NAME...` generates CSRs with new keys for them; have these signed, import the certificates with " +
			"`slipway certs import DIR`, and `slipway apply` puts them in use. Nothing was changed.",
	},
	{
		func(err error) bool { return errors.Is(err, certs.ErrExpired) },
		"`slipway certs rotate-ca NAME` replaces an expired CA and the certificates that it has issued; NAME is kubernetes, etcd or front-proxy. " +
			"If a rotation is running, it continues with that: then omit NAME.",
	},
	{
		isA[*bundle.UnpinnedError],
		"build the bundle from source, which is verified by the checksums of Go's modules (`slipway bundle build`); or give the " +
			"digests yourself (`slipway bundle download --pins FILE`); or trust, this once, the digests that are published next to the files " +
			"(`slipway bundle download --trust-published-digests`): docs/bundle.md.",
	},
	{
		isA[*provision.MovedError],
		"plan again with `slipway plan -o FILE`, read the new plan, and apply that one.",
	},
	{
		isA[*state.KeyError],
		"name the file of a private key in SLIPWAY_AGE_IDENTITY_FILE, or that of the passphrase in SLIPWAY_PASSPHRASE_FILE; see docs/state.md.",
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
		"another slipway may be working on this cluster: wait until it ends, then run this command again: it continues from the current state.",
	},
	{
		fullHere,
		"free some space on this computer (`df -h`), then run `{command}`: it continues from the current state.",
	},
	{
		func(err error) bool { return errors.Is(err, syscall.ENOSPC) && !fullHere(err) },
		"free some space on the named machine (`slipway ssh NODE -- df -h`), then run `{command}`: it continues from the current state.",
	},
}

// fullHere reports whether a disk of this computer is full, rather than a host's.
func fullHere(err error) bool {
	var local *fs.PathError
	return errors.As(err, &local) && errors.Is(local, syscall.ENOSPC)
}

// pendingRenewal reports whether an external CA has to sign certificates that a cluster lacks, or
// that were to be renewed.
func pendingRenewal(err error, renewal bool) bool {
	var pending *certs.PendingError
	return errors.As(err, &pending) && pending.Renewal == renewal
}

// sudoFails reports whether a user did not become root for one of the reasons.
func sudoFails(reasons ...host.SudoReason) func(error) bool {
	return func(err error) bool {
		var refused *host.SudoError
		return errors.As(err, &refused) && slices.Contains(reasons, refused.Reason)
	}
}

// forwards reports whether a bastion does not forward.
func forwards(err error) bool {
	var jump *host.JumpError
	return errors.As(err, &jump) && jump.Prohibited()
}

// tooManyKeys reports whether a host ended the conversation before it was offered all keys.
func tooManyKeys(err error) bool {
	var refused *host.AuthError
	return errors.As(err, &refused) && refused.TooMany
}

// The ways in which a host key can be refused: it is not the pinned one, not the one that was trusted
// on first use, not the one in known_hosts, in none of the files, or its certificate is not valid.
const (
	noKey = iota
	pinnedKey
	trustedKey
	changedKey
	unknownKey
	badCertificate
)

// hostKey returns which kind of host key was refused, if any.
func hostKey(err error) int {
	var refused *host.HostKeyError
	switch {
	case !errors.As(err, &refused):
		return noKey
	case refused.Certificate != nil:
		return badCertificate
	case refused.Source == host.SourcePinned:
		return pinnedKey
	case refused.Source == host.SourceTrusted:
		return trustedKey
	case len(refused.Want) > 0 || refused.Revoked:
		return changedKey
	}
	return unknownKey
}

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// resumes is the annotation of a command that another one continues.
const resumes = "resumes"

// resumeOf returns the command that continues if cmd has failed half-way.
func resumeOf(cmd *cobra.Command) string {
	return cmp.Or(cmd.Annotations[resumes], cmd.CommandPath())
}

// hints returns every remedy for an error and the errors that it wraps; command is the one that
// continues.
func hints(err error, command string) []string {
	var out []string
	refused := new(host.HostKeyError)
	errors.As(err, &refused)
	words := strings.NewReplacer("{command}", command, "{address}", refused.Address)
	for _, row := range hintTable {
		if row.is(err) {
			out = append(out, words.Replace(row.hint))
		}
	}
	return out
}
