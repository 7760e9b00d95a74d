package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"slipway.dev/slipway/providers/hosts/sshconfig"
	"slipway.dev/slipway/provision/spec"
)

// defaultIdentities are the files of ssh's default keys that can be used without a device, below
// ~/.ssh, in ssh's order.
var defaultIdentities = []string{"id_rsa", "id_ecdsa", "id_ed25519"}

// identityFile is a file that was read: many machines have the same.
type identityFile struct {
	identity spec.Identity
	err      error
}

// identities returns the keys of the spec's files, which have to exist; otherwise those of ssh_config
// and ssh's defaults, as far as they exist.
func (p *Hosts) identities(s spec.SSHSettings, found sshconfig.Options) (all []spec.Identity, err error) {
	for _, file := range s.IdentityFiles {
		path, err := p.o.Path(file)
		if err != nil {
			return nil, fmt.Errorf("identityFiles: %w", err)
		}
		id := p.identity(path)
		if id.err != nil {
			return nil, fmt.Errorf("identityFiles: %w", id.err)
		}
		all = append(all, id.identity)
	}
	if len(all) > 0 {
		return all, nil
	}
	files := found.IdentityFiles
	if len(files) == 0 {
		for _, name := range defaultIdentities {
			files = append(files, filepath.Join(p.o.SSHConfig.Home, ".ssh", name))
		}
	}
	for _, path := range files {
		switch id := p.identity(path); {
		case errors.Is(id.err, fs.ErrNotExist) || path == spec.None:
		case id.err != nil:
			return nil, id.err
		default:
			all = append(all, id.identity)
		}
	}
	return all, nil
}

// identity reads a file. As for ssh, it may also be that of a public key, whose private key the agent
// has.
func (p *Hosts) identity(path string) identityFile {
	if id, ok := p.files[path]; ok {
		return id
	}
	id := identityFile{identity: spec.Identity{Name: path}}
	text, err := os.ReadFile(path)                                                      //nolint:gosec // a file that the user names
	switch public, readErr := os.ReadFile(strings.TrimSuffix(path, ".pub") + ".pub"); { //nolint:gosec // as above
	case err != nil && (readErr != nil || !errors.Is(err, fs.ErrNotExist)):
		id.err = err
	case err != nil: // only the public key is here
		id.identity.Public = string(bytes.TrimSpace(public))
	case !bytes.Contains(text, []byte("PRIVATE KEY-----")):
		id.identity.Public = string(bytes.TrimSpace(text))
	default:
		id.identity.Private = text
		if readErr == nil {
			id.identity.Public = string(bytes.TrimSpace(public))
		}
	}
	p.files[path] = id
	return id
}
