package hosts

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/providers/hosts/sshconfig"
	"slipway.dev/slipway/provision/spec"
)

// defaultUser is the user that machines are entered as if nothing names one.
const defaultUser = "root"

// maxHops limits chains of bastions, which ssh_config can make endless.
const maxHops = 8

// machine describes a host of the spec, and how it is entered. Its name is missing if it is unknown.
func (p *Hosts) machine(pool *spec.NodePool, h *spec.PoolHost) (spec.Machine, error) {
	m := spec.Machine{Name: h.Name, Pool: pool.Name, Role: pool.Role}
	if h.PrivateAddress != "" {
		address, err := netip.ParseAddr(h.PrivateAddress)
		if err != nil {
			return m, fmt.Errorf("%s: privateAddress: %w", h.Key(), err)
		}
		m.Address = address
	}
	settings := h.SSH.Over(pool.SSH).Over(p.cluster.Spec.Provider.Hosts.SSH)
	entry, jumps, err := p.entry(h.Address, settings, defaultUser)
	if err != nil {
		return m, fmt.Errorf("%s: %w", h.Key(), err)
	}
	for _, j := range jumps {
		hop, err := p.hop(j, settings, entry.User)
		if err != nil {
			return m, fmt.Errorf("%s: bastion %s: %w", h.Key(), j.Host, err)
		}
		entry.Jumps = append(entry.Jumps, hop)
	}
	m.SSH = entry
	return m, nil
}

// entry combines the settings of the spec with ssh_config, and returns the bastions on the way.
func (p *Hosts) entry(host string, s spec.SSHSettings, user string) (spec.SSH, []spec.Jump, error) {
	found, err := p.lookup(host, s.User)
	if err != nil {
		return spec.SSH{}, nil, err
	}
	e := spec.SSH{
		User: cmp.Or(s.User, found.User, user), HostKeyAlias: found.HostKeyAlias, Agent: s.Agent,
		TrustOnFirstUse: s.TrustOnFirstUse != nil && *s.TrustOnFirstUse, IdentitiesOnly: len(s.IdentityFiles) > 0 || found.IdentitiesOnly == "yes",
	}
	port := cmp.Or(found.Port, "22")
	if s.Port != 0 {
		port = strconv.Itoa(s.Port)
	}
	e.Address = net.JoinHostPort(found.HostName, port)
	if key := p.o.Known.HostKeys[e.Address]; key != "" {
		e.HostKeys, e.TrustOnFirstUse = []string{key}, true // it was, whatever the spec says now
	}
	// Another agent of ssh_config is SSH_AUTH_SOCK, which is the default, or $NAME.
	if a := found.IdentityAgent; e.Agent == "" && a != "" && a != "SSH_AUTH_SOCK" && !strings.HasPrefix(a, "$") {
		e.Agent = a
	}
	if e.KnownHosts, err = p.knownHosts(s, found); err != nil {
		return e, nil, err
	}
	if e.Identities, err = p.identities(s, found); err != nil {
		return e, nil, err
	}
	jumps, err := p.jumps(s, found)
	return e, jumps, err
}

// lookup is what ssh_config says of a host for a user.
type lookup struct {
	found sshconfig.Options
	err   error
}

// lookup returns what ssh_config says of a host, for a user who is known or empty.
func (p *Hosts) lookup(host, user string) (sshconfig.Options, error) {
	key := [2]string{host, user}
	l, ok := p.lookups[key]
	if !ok {
		if l.found, l.err = p.o.SSHConfig.Lookup(host, user); l.err != nil {
			l.err = fmt.Errorf("read ssh_config: %w", l.err)
		}
		for _, note := range l.found.Notes {
			if !slices.Contains(p.notes, note) {
				p.notes = append(p.notes, note)
			}
		}
		p.lookups[key] = l
	}
	return l.found, l.err
}

// knownHosts returns the files of the spec, otherwise those of ssh_config, if any.
func (p *Hosts) knownHosts(s spec.SSHSettings, found sshconfig.Options) (files []string, err error) {
	for _, file := range s.KnownHostsFiles {
		path, err := p.o.Path(file)
		if err != nil {
			return nil, fmt.Errorf("knownHostsFiles: %w", err)
		}
		files = append(files, path)
	}
	if len(files) > 0 || len(found.UserKnownHostsFiles)+len(found.GlobalKnownHostsFiles) == 0 {
		return files, nil
	}
	user, system := found.UserKnownHostsFiles, found.GlobalKnownHostsFiles
	if len(user) == 0 {
		user = []string{filepath.Join(p.o.SSHConfig.Home, ".ssh", "known_hosts")}
	}
	if len(system) == 0 {
		system = []string{"/etc/ssh/ssh_known_hosts"}
	}
	return slices.DeleteFunc(slices.Concat(user, system), func(file string) bool { return file == spec.None }), nil
}

// jumps returns the bastions of the spec, otherwise those of ssh_config. As with ssh -J, the first of
// them may have bastions of its own in ssh_config.
func (p *Hosts) jumps(s spec.SSHSettings, found sshconfig.Options) ([]spec.Jump, error) {
	texts := s.Jumps
	switch {
	case len(texts) == 1 && texts[0] == spec.None:
		return nil, nil
	case len(texts) > 0:
	case found.ProxyCommand != "":
		return nil, errors.New("ssh_config has a ProxyCommand for it, which slipway does not run: use ProxyJump there, or `ssh: {jumps: [...]}` in the spec " +
			"([none] for a direct connection)")
	case found.ProxyJump != "":
		texts = strings.Split(found.ProxyJump, ",")
	default:
		return nil, nil
	}
	chain, err := parseJumps(texts)
	if err != nil {
		return nil, err
	}
	return p.before(chain)
}

// before puts the bastions that ssh_config has on the way to the first of a chain before it.
func (p *Hosts) before(chain []spec.Jump) ([]spec.Jump, error) {
	for len(chain) <= maxHops {
		first := chain[0]
		found, err := p.lookup(first.Host, first.User)
		if err != nil {
			return nil, err
		}
		if found.ProxyJump == "" {
			return chain, nil
		}
		more, err := parseJumps(strings.Split(found.ProxyJump, ","))
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(more, func(j spec.Jump) bool { return j.Host == first.Host }) {
			return chain, nil // Host * has the bastion itself: ssh connects to it directly
		}
		chain = append(more, chain...)
	}
	return nil, fmt.Errorf("ssh_config has more than %d bastions on the way: ProxyJump of %s leads back to itself", maxHops, chain[0].Host)
}

func parseJumps(texts []string) (chain []spec.Jump, err error) {
	for _, text := range texts {
		j, err := spec.ParseJump(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("bastion: %w", err)
		}
		chain = append(chain, j)
	}
	return chain, nil
}

// hop describes a bastion. Where ssh_config and the jump say nothing, it is entered as the machine is.
func (p *Hosts) hop(j spec.Jump, s spec.SSHSettings, user string) (spec.SSH, error) {
	s.User, s.Port, s.Jumps = j.User, j.Port, []string{spec.None}
	hop, _, err := p.entry(j.Host, s, user)
	return hop, err
}
