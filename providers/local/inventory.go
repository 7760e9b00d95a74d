package local

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/moby/moby/client"

	"slipway.dev/slipway/provision/spec"
)

// Labels of our Docker objects. What a later run must know and Docker does not say otherwise is in
// them; none is secret.
const (
	labelCluster  = "slipway.dev/cluster"
	labelUID      = "slipway.dev/uid" // of the cluster; older objects have none
	labelPool     = "slipway.dev/pool"
	labelRole     = "slipway.dev/role"     // a spec.Role, or roleBalancer
	labelMachine  = "slipway.dev/machine"  // of volumes: whose
	labelAddress  = "slipway.dev/address"  // in the machine network
	labelSSHPort  = "slipway.dev/ssh-port" // on 127.0.0.1
	labelAPIPort  = "slipway.dev/api-port" // on 127.0.0.1; of the network and the balancer
	labelKeys     = "slipway.dev/keys"     // digest of the public keys that were put in
	labelBundles  = "slipway.dev/bundles"  // the directory mounted at Bundles; empty if bundles are copied
	labelBalancer = "slipway.dev/balancer" // digest of how the balancer was started
)

const roleBalancer = "balancer"

// found is a container of ours.
type found struct {
	id, name string
	state    container.ContainerState
	status   string // Docker's words, "Exited (137) 2 minutes ago"
	labels   map[string]string
}

// describeState is the state for people.
func (f found) describeState() string {
	if f.state == container.StateRunning {
		return spec.MachineRunning
	}
	return strings.ToLower(f.status)
}

// unstarted reports whether a container never ran or is partly removed: it may lack its keys, and a
// new one replaces it and uses its disk.
func (f found) unstarted() bool {
	return f.state == container.StateCreated || f.state == container.StateDead || f.state == container.StateRemoving
}

// inventory is the cluster's objects in Docker.
type inventory struct {
	machines []found
	balancer *found
	networks []network.Summary
	// disks of machines, by the machine's name; more than one only if volumes were made by hand.
	disks map[string][]volume.Volume
	// foreign objects carry the cluster's name and are not ours.
	foreign []spec.Foreign
	// others are all other networks, whose subnets are taken.
	others []network.Summary
	// ports on 127.0.0.1 that machines and balancers have been promised, of any cluster, running or
	// not.
	ports map[int]bool
}

// machine returns the container of that name, or nil.
func (inv *inventory) machine(name string) *found {
	for i := range inv.machines {
		if inv.machines[i].name == name {
			return &inv.machines[i]
		}
	}
	return nil
}

// apiPort returns the recorded port, from the balancer or else the network; 0 if there is none.
func (inv *inventory) apiPort() int {
	var label string
	if inv.balancer != nil {
		label = inv.balancer.labels[labelAPIPort]
	} else if len(inv.networks) > 0 {
		label = inv.networks[0].Labels[labelAPIPort]
	}
	port, _ := strconv.Atoi(label)
	return port
}

// free reports whether a port of 127.0.0.1 is neither reserved nor in use.
func (inv *inventory) free(port int) bool {
	if inv.ports[port] {
		return false
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// inventory connects to Docker and asks it what there is.
func (p *Local) inventory(ctx context.Context) (*inventory, error) {
	if err := p.connect(ctx); err != nil {
		return nil, err
	}
	inv := &inventory{ports: map[int]bool{}, disks: map[string][]volume.Volume{}}
	// Containers of any cluster: the ports of 127.0.0.1 are shared.
	containers, err := p.docker.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", labelCluster),
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	p.borne = !p.o.Claimed || slices.ContainsFunc(containers.Items, p.bears)
	for _, c := range containers.Items {
		p.addContainer(inv, c)
	}
	networks, err := p.docker.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	for _, n := range networks.Items {
		p.addNetwork(inv, n)
	}
	volumes, err := p.docker.VolumeList(ctx, client.VolumeListOptions{
		Filters: client.Filters{}.Add("label", labelCluster+"="+p.cluster),
	})
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for _, v := range volumes.Items {
		machine := v.Labels[labelMachine]
		if p.owns(v.Labels, func() bool { return p.hasKey(machine) }) {
			inv.disks[machine] = append(inv.disks[machine], v)
		} else {
			inv.foreign = append(inv.foreign, spec.Foreign{Kind: "disk", Name: v.Name, UID: v.Labels[labelUID], Remove: "docker volume rm " + v.Name})
		}
	}
	return inv, nil
}

// owns reports whether an object with the cluster's name belongs to this cluster: by its UID, or,
// if the object has none or ours is unknown, by its keys, which are only read then.
func (p *Local) owns(labels map[string]string, byKeys func() bool) bool {
	if uid := labels[labelUID]; uid != "" && p.o.UID != "" {
		return uid == p.o.UID && p.borne
	}
	return byKeys()
}

// bears reports whether a container is a machine with our UID and our keys, which confirms a
// claimed UID.
func (p *Local) bears(c container.Summary) bool {
	return c.Labels[labelCluster] == p.cluster && c.Labels[labelUID] == p.o.UID && len(c.Names) > 0 &&
		p.hasKeys(strings.TrimPrefix(c.Names[0], "/"), c.Labels[labelKeys])
}

// hasUserKey reports whether the cluster's directory has the login key.
func (p *Local) hasUserKey() bool { return p.hasKey(userKey) }

// hasKey reports whether the cluster's directory has the SSH key of that name.
func (p *Local) hasKey(name string) bool {
	_, err := loadKey(p.keyDir(), name)
	return err == nil
}

// hasKeys reports whether a machine has our keys, by their digest.
func (p *Local) hasKeys(name, digest string) bool {
	user, err := loadKey(p.keyDir(), userKey)
	if err != nil {
		return false
	}
	host, err := loadKey(p.keyDir(), name)
	return err == nil && machine{host: host, user: user}.keys() == digest
}

func (p *Local) addContainer(inv *inventory, c container.Summary) {
	for _, l := range []string{labelSSHPort, labelAPIPort} {
		if port, err := strconv.Atoi(c.Labels[l]); err == nil {
			inv.ports[port] = true
		}
	}
	if c.Labels[labelCluster] != p.cluster || len(c.Names) == 0 {
		return
	}
	f := found{id: c.ID, name: strings.TrimPrefix(c.Names[0], "/"), state: c.State, status: c.Status, labels: c.Labels}
	foreign := spec.Foreign{Kind: "machine", Name: f.name, UID: c.Labels[labelUID], Remove: "docker rm -f " + f.name}
	balancer := c.Labels[labelRole] == roleBalancer
	switch {
	case balancer && p.owns(c.Labels, p.hasUserKey):
		inv.balancer = &f
	case balancer:
		foreign.Kind = roleBalancer
		inv.foreign = append(inv.foreign, foreign)
	case p.owns(c.Labels, func() bool { return p.hasKeys(f.name, c.Labels[labelKeys]) }):
		inv.machines = append(inv.machines, f)
	default:
		inv.foreign = append(inv.foreign, foreign)
	}
}

func (p *Local) addNetwork(inv *inventory, n network.Summary) {
	if n.Labels[labelCluster] == p.cluster {
		if p.owns(n.Labels, p.hasUserKey) {
			inv.networks = append(inv.networks, n)
			return
		}
		inv.foreign = append(inv.foreign, spec.Foreign{
			Kind: "network", Name: n.Name, UID: n.Labels[labelUID], Remove: "docker network rm " + n.Name,
		})
	}
	inv.others = append(inv.others, n)
	if port, err := strconv.Atoi(n.Labels[labelAPIPort]); err == nil {
		inv.ports[port] = true
	}
}

// describe returns a machine from a container's labels and our keys. If labels are missing, it uses
// the spec and known addresses, because the other machines still know this one. The address is
// invalid if unknown.
func (p *Local) describe(f found, user keyPair, known map[string]netip.Addr) spec.Machine {
	m := spec.Machine{
		Name: f.name, Pool: f.labels[labelPool], Role: spec.Role(f.labels[labelRole]),
		SSH: spec.SSH{
			Address: net.JoinHostPort("127.0.0.1", f.labels[labelSSHPort]), User: "root", Agent: "none",
			Identities: []spec.Identity{{Name: "the key of " + f.name, Private: user.private}},
		},
		Address: known[f.name], SharedDisk: true,
	}
	if f.mounts() {
		m.Artifacts = Bundles
	}
	if i := p.place(f.name); i >= 0 {
		m.Pool, m.Role = cmp.Or(m.Pool, p.nodes[i].Pool), cmp.Or(m.Role, p.nodes[i].Role)
	}
	if address, err := netip.ParseAddr(f.labels[labelAddress]); err == nil {
		m.Address = address
	}
	if host, err := loadKey(p.keyDir(), f.name); err == nil {
		m.SSH.HostKeys = []string{host.public}
	}
	return m
}

// mounts reports whether a machine mounts the bundles. One that lost the label does: older slipways made no others.
func (f found) mounts() bool {
	dir, labelled := f.labels[labelBundles]
	return dir != "" || !labelled
}

// lostKeys is why a machine cannot be entered, if one of its keys is missing here: no other is tried.
func (p *Local) lostKeys(m spec.Machine) error {
	if len(m.SSH.Identities[0].Private) > 0 && len(m.SSH.HostKeys) > 0 {
		return nil
	}
	return fmt.Errorf("the SSH keys of machine %s are missing in %s: put them back there", m.Name, p.keyDir())
}

// damage returns the required label that a container lacks, or "". Without it, the machine cannot
// be used.
func (f found) damage() error {
	_, address := netip.ParseAddr(f.labels[labelAddress])
	_, port := strconv.Atoi(f.labels[labelSSHPort])
	var label string
	switch {
	case address != nil:
		label = labelAddress
	case port != nil:
		label = labelSSHPort
	case f.labels[labelRole] == "":
		label = labelRole
	default:
		return nil
	}
	return fmt.Errorf("container %[1]s lacks the label %[2]s, so slipway has not made it as it is: find out who has; once it is removed (`docker rm -f %[1]s`, "+
		"which leaves its volume) `slipway apply` makes the machine again, with the disk that it had", f.name, label)
}

// bundlesDir is mounted at Bundles in machines.
func (p *Local) bundlesDir() string { return filepath.Join(p.o.CacheDir, "bundles") }
