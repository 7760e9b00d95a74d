package spec

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// None is the value of fields that turn something off which would otherwise be found by itself.
const None = "none"

// Key identifies a host in the spec and in the state: its address, and its port if the host itself
// sets one, since hosts behind one address differ in their ports.
func (h PoolHost) Key() string {
	if h.SSH.Port == 0 {
		return h.Address
	}
	return net.JoinHostPort(h.Address, strconv.Itoa(h.SSH.Port))
}

// Over returns the settings completed by others: what is set in s has precedence.
func (s SSHSettings) Over(other SSHSettings) SSHSettings {
	s.User, s.Port, s.Agent = cmp.Or(s.User, other.User), cmp.Or(s.Port, other.Port), cmp.Or(s.Agent, other.Agent)
	s.TrustOnFirstUse = cmp.Or(s.TrustOnFirstUse, other.TrustOnFirstUse)
	if len(s.IdentityFiles) == 0 {
		s.IdentityFiles = other.IdentityFiles
	}
	if len(s.KnownHostsFiles) == 0 {
		s.KnownHostsFiles = other.KnownHostsFiles
	}
	if len(s.Jumps) == 0 {
		s.Jumps = other.Jumps
	}
	return s
}

// Jump is a bastion: its host, and the user and port if they are given.
type Jump struct {
	User, Host string
	Port       int
}

// ParseJump parses "user@host:port", with user and port optional, as ssh -J does.
func ParseJump(text string) (Jump, error) {
	var j Jump
	rest := strings.TrimPrefix(text, "ssh://")
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		if j.User, rest = rest[:i], rest[i+1:]; j.User == "" {
			return Jump{}, fmt.Errorf("%q has no user before the @", text)
		}
	}
	j.Host = rest
	if host, port, err := net.SplitHostPort(rest); err == nil {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return Jump{}, fmt.Errorf("%q: the port has to be a number from 1 to 65535", text)
		}
		j.Host, j.Port = host, n
	}
	if !isHost(j.Host) {
		return Jump{}, fmt.Errorf("%q: %q is neither an IP address nor a DNS name", text, j.Host)
	}
	return j, nil
}

// listHosts completes the hosts of pools that are listed elsewhere.
func (d *document) listHosts(c *Cluster, list Lister) {
	for i := range c.Spec.NodePools {
		p, path := &c.Spec.NodePools[i], poolPath(i)+".hostsFrom"
		if p.HostsFrom == nil || list == nil || d.isBad(poolPath(i)) || !d.validHostsFrom(path, c, *p) {
			continue
		}
		hosts, err := list(*p.HostsFrom)
		switch {
		case err != nil:
			d.judge(path, "correct it, or list the machines in `hosts`", "the machines of the pool could not be listed: %v", err)
		case len(hosts) == 0: // a list that is empty by mistake must not empty a pool
			d.judge(path, "remove the pool if it is to have no machines", "no machine is listed there")
		}
		if err != nil || len(hosts) == 0 {
			continue
		}
		p.Hosts, p.HostsFrom = hosts, nil
		d.fields[poolPath(i)+".hosts"] = d.at(path)
	}
}

// validHostsFrom reports whether the hosts of a pool can be listed; mistakes are reported by
// validation.
func (d *document) validHostsFrom(path string, c *Cluster, p NodePool) bool {
	return c.Spec.Provider.Hosts != nil && !d.isBad(path) && len(p.HostsFrom.members()) == 1 && len(p.Hosts) == 0
}

// members are the names of the fields that are set.
func (f HostsFrom) members() (names []string) {
	for _, m := range []struct {
		name string
		set  bool
	}{{"terraformOutput", f.TerraformOutput != nil}, {"ansibleGroup", f.AnsibleGroup != nil}, {"command", len(f.Command) > 0}} {
		if m.set {
			names = append(names, m.name)
		}
	}
	return names
}

// hostsFrom checks where the hosts of a pool are listed.
func (v hostChecks) hostsFrom(path string, p NodePool) {
	at := path + ".hostsFrom"
	if p.HostsFrom == nil || v.isBad(at) {
		return
	}
	members := p.HostsFrom.members()
	switch {
	case !v.used:
		v.judge(at, "remove it and write replicas, or use the hosts provider", "only the hosts provider uses it")
	case len(p.Hosts) > 0:
		v.judge(at, "remove it, or remove hosts", "the pool lists its hosts already")
	case len(members) == 0:
		v.judge(at, "write `terraformOutput: {directory: infra, output: workers}`, or a command", "names no place where the hosts are listed")
	case len(members) > 1:
		v.judge(at+"."+members[1], "keep one of "+strings.Join(members, ", "), "the hosts of a pool are listed in one place, and this is the second")
	}
}

// hostChecks validates the hosts of all pools: what must be unique, is so in the whole cluster.
type hostChecks struct {
	*document
	used bool // the hosts provider is
	// keys, names and addresses of hosts, with the path of the first that has each.
	keys, names, addresses map[string]string
}

func newHostChecks(d *document, c *Cluster) hostChecks {
	v := hostChecks{document: d, used: c.Spec.Provider.Hosts != nil, keys: map[string]string{}, names: map[string]string{}, addresses: map[string]string{}}
	if h := c.Spec.Provider.Hosts; h != nil {
		v.settings("spec.provider.hosts.ssh", h.SSH)
		if h.SSHConfig != None {
			d.filePath("spec.provider.hosts.sshConfig", h.SSHConfig)
		}
	}
	return v
}

func (v hostChecks) pool(path string, p NodePool) {
	// Not if it is present: a saved plan has all fields.
	if !reflect.ValueOf(p.SSH).IsZero() && !v.used {
		v.judge(path+".ssh", "remove it, or use the hosts provider", "only the hosts provider uses it")
	}
	v.settings(path+".ssh", p.SSH)
	v.hostsFrom(path, p)
	for i, h := range p.Hosts {
		at := fmt.Sprintf("%s.hosts[%d]", path, i)
		v.settings(at+".ssh", h.SSH)
		v.address(at, h)
		v.name(at, h)
		v.privateAddress(at+".privateAddress", h)
	}
}

func (v hostChecks) address(at string, h PoolHost) {
	field := at + ".address"
	if v.isBad(field) {
		return
	}
	if first, ok := v.keys[h.Key()]; ok {
		v.judge(field, "list every machine once", "%s is already the address of %s", h.Address, first)
		return
	}
	v.keys[h.Key()] = at
	if addr, err := netip.ParseAddr(h.Address); err == nil && addr.Is6() {
		v.judge(field, "write an IPv4 address or a DNS name", "IPv6 is not supported yet")
	} else if !isHost(h.Address) {
		v.judge(field, "write an IPv4 address or a DNS name alone; user and port belong to ssh", "%q is neither an IP address nor a DNS name", h.Address)
	}
}

func (v hostChecks) name(at string, h PoolHost) {
	field := at + ".name"
	if h.Name == "" || v.isBad(field) {
		return
	}
	if first, ok := v.names[h.Name]; ok {
		v.judge(field, "give every node a different name", "%s is already the name of %s", h.Name, first)
		return
	}
	v.names[h.Name] = at
	if len(validation.IsDNS1123Subdomain(h.Name)) > 0 || len(h.Name) > validation.DNS1123LabelMaxLength {
		v.judge(field, "use up to 63 lower-case letters, digits, dashes and dots, with a letter or digit at both ends", "%q is not the name of a node", h.Name)
	}
}

func (v hostChecks) privateAddress(field string, h PoolHost) {
	if h.PrivateAddress == "" || v.isBad(field) {
		return
	}
	addr, err := netip.ParseAddr(h.PrivateAddress)
	if err != nil || !addr.Is4() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() {
		v.judge(field, "write the IPv4 address of an interface of the machine", "%q is not the address of a machine", h.PrivateAddress)
		return
	}
	if first, ok := v.addresses[h.PrivateAddress]; ok {
		v.judge(field, "give every machine its own", "%s is already the private address of %s", h.PrivateAddress, first)
		return
	}
	v.addresses[h.PrivateAddress] = strings.TrimSuffix(field, ".privateAddress")
}

// settings checks one block of SSH settings.
func (v hostChecks) settings(path string, s SSHSettings) {
	for i, file := range s.IdentityFiles {
		v.filePath(fmt.Sprintf("%s.identityFiles[%d]", path, i), file)
	}
	for i, file := range s.KnownHostsFiles {
		v.filePath(fmt.Sprintf("%s.knownHostsFiles[%d]", path, i), file)
	}
	for i, jump := range s.Jumps {
		field := fmt.Sprintf("%s.jumps[%d]", path, i)
		switch _, err := ParseJump(jump); {
		case jump == None && len(s.Jumps) > 1:
			v.judge(field, "remove it, or remove the others", "none stands alone")
		case jump != None && err != nil:
			v.judge(field, "write admin@bastion.example.com:22; user and port are optional", "%v", err)
		}
	}
	if strings.ContainsAny(s.User, " \t@:/") {
		v.judge(path+".user", "write the name of a user, such as admin", "%q is not the name of a user", s.User)
	}
}
