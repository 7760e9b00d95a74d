package local

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"slipway.dev/slipway/provision/spec"
)

// machine is a node's container as it should be.
type machine struct {
	node    spec.Node
	address netip.Addr
	sshPort int
	host    keyPair
	user    keyPair
	caps    []string // nil: --privileged
	exists  *found   // nil: to be made
	disk    string   // the volume with /var; empty: to be made
}

// sshAddress returns the published address of sshd.
func (m machine) sshAddress() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.sshPort)) }

// keys is a digest of the public keys that the machine has; with other keys than ours it cannot be
// entered.
func (m machine) keys() string {
	sum := sha256.Sum256([]byte(m.host.public + "\n" + m.user.public))
	return hex.EncodeToString(sum[:8])
}

// sshPort inside the machine.
var sshPort = network.MustParsePort("22/tcp")

// plan settles address, port, keys and disk of the machines that are named; those that exist keep
// theirs. One that cannot be settled has failed, and does not stop the others.
func (p *Local) plan(inv *inventory, user keyPair, wanted []string) (machines []machine, failed map[string]error, err error) {
	addresses, err := assignAddresses(p.subnet, wanted, p.known(inv))
	if err != nil {
		return nil, nil, err
	}
	caps := p.daemonCaps()
	failed = map[string]error{}
	for _, n := range p.nodes {
		if !slices.Contains(wanted, n.Name) {
			continue
		}
		m := machine{node: n, address: addresses[n.Name], user: user, caps: caps, exists: inv.machine(n.Name)}
		if err := p.settle(inv, &m); err != nil {
			failed[n.Name] = err
			continue
		}
		machines = append(machines, m)
	}
	return machines, failed, nil
}

// settle finds out port, keys and disk of a machine.
func (p *Local) settle(inv *inventory, m *machine) (err error) {
	if m.host, err = ensureKey(p.keyDir(), m.node.Name); err != nil {
		return err
	}
	if m.exists != nil && !m.exists.unstarted() {
		if err := cmp.Or(m.exists.damage(), p.checkMachine(*m)); err != nil {
			return err
		}
		m.sshPort, err = strconv.Atoi(m.exists.labels[labelSSHPort])
		return err
	}
	if m.disk, err = inv.diskOf(m.node.Name); err != nil {
		return err
	}
	start := portStart(m.node.Name, firstSSHPort, lastSSHPort)
	if m.sshPort, err = choosePort("SSH", start, firstSSHPort, lastSSHPort, inv.free); err != nil {
		return err
	}
	inv.ports[m.sshPort] = true
	return nil
}

// known are the addresses that machines have, or had: etcd's members keep theirs on their disks.
func (p *Local) known(inv *inventory) map[string]netip.Addr {
	have := map[string]netip.Addr{}
	take := func(machine, address string) {
		if a, err := netip.ParseAddr(address); err == nil {
			have[machine] = a
		}
	}
	for machine, address := range p.o.Addresses {
		if p.subnet.Contains(address) {
			have[machine] = address
		}
	}
	for machine, disks := range inv.disks {
		take(machine, disks[0].Labels[labelAddress])
	}
	for _, f := range inv.machines {
		if !f.unstarted() {
			take(f.name, f.labels[labelAddress])
		}
	}
	return have
}

// diskOf returns the volume of a machine, or "".
func (inv *inventory) diskOf(machine string) (string, error) {
	disks := inv.disks[machine]
	switch len(disks) {
	case 0:
		return "", nil
	case 1:
		return disks[0].Name, nil
	}
	var names []string
	for _, v := range disks {
		names = append(names, v.Name)
	}
	return "", fmt.Errorf("machine %s has %d disks, and it is unclear which one to use: %s; find the right one, and remove the label %s from the "+
		"others by copying them to new volumes, or remove those that may go (`docker volume rm`)", machine, len(disks), strings.Join(names, ", "), labelMachine)
}

// checkMachine refuses a machine that was made with what cannot be changed any more.
func (p *Local) checkMachine(m machine) error {
	if have := m.exists.labels[labelKeys]; have != m.keys() {
		return fmt.Errorf("machine %s has other SSH keys than %s holds: "+
			"put them back there",
			m.node.Name, p.keyDir())
	}
	return p.checkBundles(*m.exists)
}

// checkBundles refuses a machine that gets bundles in another way, or from another place, than this
// spec and this cache say.
func (p *Local) checkBundles(f found) error {
	if have := f.mounts(); have != p.mounted {
		return fmt.Errorf("machine %s was made with spec.provider.local.bundle: %s, which cannot be changed while it exists: put that back",
			f.name, delivery(have))
	}
	if have := f.labels[labelBundles]; p.mounted && have != p.bundlesDir() {
		return fmt.Errorf("machine %s sees the bundles in %s, and the cache is now %s; "+
			"point SLIPWAY_CACHE_DIR back", f.name, have, p.bundlesDir())
	}
	return nil
}

// checkAllBundles refuses a spec and a cache that no machine was made with. One machine alone that
// differs does not stop the others.
func (p *Local) checkAllBundles(machines []found) error {
	var first error
	for _, f := range machines {
		if p.place(f.name) < 0 || f.unstarted() {
			continue
		}
		err := p.checkBundles(f)
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err)
	}
	return first
}

// delivery is how the spec says whether a machine mounts the bundles.
func delivery(mounts bool) spec.BundleDelivery {
	if mounts {
		return spec.MountBundle
	}
	return spec.CopyBundle
}

// mountedDir is what machines have mounted at Bundles; empty if bundles are copied.
func (p *Local) mountedDir() string {
	if !p.mounted {
		return ""
	}
	return p.bundlesDir()
}

// ensureMachine brings one machine up, from whatever it is now, until it answers SSH.
func (p *Local) ensureMachine(ctx context.Context, image string, m machine, report func(string, string)) error {
	name := m.node.Name
	var id string
	switch {
	case m.exists != nil && m.exists.state == container.StateRunning:
		id = m.exists.id
	case m.exists != nil && m.exists.state == container.StatePaused:
		return fmt.Errorf("machine %s is paused and answers nothing; `docker unpause %s` lets it go on", name, name)
	case m.exists != nil && !m.exists.unstarted():
		report(name, "starting")
		id = m.exists.id
		if err := p.startMachine(ctx, id, m); err != nil {
			return err
		}
	default:
		report(name, "creating")
		var err error
		if id, err = p.newMachine(ctx, image, m); err != nil {
			return err
		}
	}
	if err := p.waitSSH(ctx, id, m); err != nil {
		return err
	}
	report(name, "answers SSH")
	return nil
}

// newMachine makes a machine that is not there, or is there but never ran, and starts it.
func (p *Local) newMachine(ctx context.Context, image string, m machine) (string, error) {
	if m.exists != nil {
		if err := p.removeContainer(ctx, m.exists.id, m.exists.name); err != nil {
			return "", err
		}
	}
	if m.disk == "" {
		if err := p.createDisk(ctx, &m); err != nil {
			return "", err
		}
	}
	id, err := p.createAndStart(ctx, image, m)
	if err == nil || m.caps != nil || !capsRefused(err) {
		return id, err
	}
	// The daemon is not visible and lacks a capability. It most likely has the same capabilities as
	// we do.
	if m.caps = p.ownCaps(); m.caps == nil {
		return "", fmt.Errorf("%w; Docker may not run privileged containers here: give its daemon all capabilities", err)
	}
	if err := p.removeContainer(ctx, id, m.node.Name); err != nil {
		return "", err
	}
	return p.createAndStart(ctx, image, m)
}

// createDisk makes a machine's volume. It has a name, so that `docker rm -v` and `docker volume
// prune`, which remove unnamed volumes, keep it. The name contains the cluster's UID, so that it is
// unique.
func (p *Local) createDisk(ctx context.Context, m *machine) error {
	uid, _, _ := strings.Cut(p.o.UID, "-")
	res, err := p.docker.VolumeCreate(ctx, client.VolumeCreateOptions{
		Name: m.node.Name + "-" + uid,
		Labels: map[string]string{
			labelCluster: p.cluster, labelUID: p.o.UID, labelMachine: m.node.Name, labelAddress: m.address.String(),
		},
	})
	if err != nil {
		return fmt.Errorf("create the disk of machine %s: %w", m.node.Name, err)
	}
	m.disk = res.Volume.Name
	return nil
}

// createAndStart makes the container, puts the keys in and starts it. The id is set as soon as
// there is one.
func (p *Local) createAndStart(ctx context.Context, image string, m machine) (id string, err error) {
	res, err := p.create(ctx, client.ContainerCreateOptions{
		Name: m.node.Name, Config: p.machineConfig(image, m), HostConfig: p.machineHostConfig(m),
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			p.networkName(): {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: m.address}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("create machine %s: %w", m.node.Name, err)
	}
	_, err = p.docker.CopyToContainer(ctx, res.ID, client.CopyToContainerOptions{
		DestinationPath: "/", Content: bytes.NewReader(keyArchive(m)),
	})
	if err != nil {
		return res.ID, fmt.Errorf("put SSH keys into machine %s: %w", m.node.Name, err)
	}
	return res.ID, p.startMachine(ctx, res.ID, m)
}

func (p *Local) startMachine(ctx context.Context, id string, m machine) error {
	_, err := p.docker.ContainerStart(ctx, id, client.ContainerStartOptions{})
	if portTaken(err) {
		return fmt.Errorf("start machine %s: its SSH port %s is taken by another program; end that program, and run again: %w",
			m.node.Name, m.sshAddress(), err)
	}
	if err != nil {
		return fmt.Errorf("start machine %s: %w", m.node.Name, err)
	}
	return nil
}

// keyArchive is the machine's host key and whom it lets in, as a tar for its root directory.
func keyArchive(m machine) []byte {
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"etc/ssh/ssh_host_ed25519_key", m.host.private.Reveal()},
		{"root/.ssh/authorized_keys", []byte(m.user.public + "\n")},
	} {
		// Writes to a buffer do not fail.
		_ = out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o600, Size: int64(len(f.content))})
		_, _ = out.Write(f.content)
	}
	_ = out.Close()
	return b.Bytes()
}

func (p *Local) machineConfig(image string, m machine) *container.Config {
	stopTimeout := 10 // seconds, then the power goes off
	return &container.Config{
		Image: image, Hostname: m.node.Name, Entrypoint: []string{"/" + initPath}, Env: []string{"container=docker"},
		ExposedPorts: network.PortSet{sshPort: {}},
		StopSignal:   "SIGRTMIN+3", // systemd's halt
		StopTimeout:  &stopTimeout,
		Labels: map[string]string{
			labelCluster: p.cluster, labelUID: p.o.UID, labelPool: m.node.Pool, labelRole: string(m.node.Role),
			labelAddress: m.address.String(), labelSSHPort: strconv.Itoa(m.sshPort),
			labelKeys: m.keys(), labelBundles: p.mountedDir(),
		},
	}
}

// machineHostConfig returns the privileges of a machine: --privileged, or, if that is refused, the
// available capabilities and everything else that --privileged includes.
func (p *Local) machineHostConfig(m machine) *container.HostConfig {
	h := &container.HostConfig{
		NetworkMode:  container.NetworkMode(p.networkName()),
		PortBindings: publish(sshPort, m.sshPort),
		// A reboot inside is a reboot; `docker stop` is the power switch, and it stays off.
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyUnlessStopped},
		CgroupnsMode:  container.CgroupnsModePrivate,
		Tmpfs:         map[string]string{"/run": "exec,mode=755", "/tmp": "exec,mode=1777"},
		LogConfig:     logConfig,
		Mounts: []mount.Mount{
			// Containerd's snapshots cannot lie on overlayfs; of a volume the image's /var is the
			// first content.
			{Type: mount.TypeVolume, Source: m.disk, Target: "/var"},
		},
	}
	if p.mounted {
		h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeBind, Source: p.bundlesDir(), Target: Bundles, ReadOnly: true})
	}
	if fi, err := os.Stat("/lib/modules"); err == nil && fi.IsDir() {
		h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeBind, Source: "/lib/modules", Target: "/lib/modules", ReadOnly: true})
	}
	if m.caps == nil {
		h.Privileged = true
		return h
	}
	h.CapAdd = m.caps
	h.SecurityOpt = []string{"seccomp=unconfined", "apparmor=unconfined", "label=disable"}
	h.DeviceCgroupRules = []string{"a *:* rwm"}
	// Empty, not nil: nothing of /proc and /sys is hidden or read-only.
	h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	return h
}

// logConfig bounds what a container's console may leave on the disk.
var logConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "2"}}

// publish binds a container's port to one of 127.0.0.1.
func publish(port network.Port, on int) network.PortMap {
	return network.PortMap{port: {{HostIP: netip.AddrFrom4([4]byte{127, 0, 0, 1}), HostPort: strconv.Itoa(on)}}}
}
