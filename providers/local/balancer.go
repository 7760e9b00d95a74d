package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"slipway.dev/slipway/provision/spec"
)

// apiServerPort is the port of API servers and of the balancer.
const apiServerPort = 6443

var balancerPort = network.MustParsePort(strconv.Itoa(apiServerPort) + "/tcp")

// The directory of the balancer's configuration in its container; on this computer it is
// balancerDir.
const (
	balancerMount  = "/etc/slipway"
	balancerConfig = balancerMount + "/balancer.json"
	balancerCA     = balancerMount + "/ca.crt"
)

// balancerDir is the directory with the balancer's configuration, written by Publish.
func (p *Local) balancerDir() string { return filepath.Join(p.o.StateDir, "balancer") }

func (p *Local) balancerName() string { return p.cluster + "-balancer" }

// Publish writes the balancer's configuration (provision/balancer.Config): the addresses of infra's
// API servers and the CA (PEM) that verifies them. The balancer reloads it.
func (p *Local) Publish(infra *spec.Infrastructure, ca []byte) error {
	config := struct {
		Listen   []string `json:"listen"`
		Backends []string `json:"backends"`
		CAFile   string   `json:"caFile"`
	}{Listen: []string{net.JoinHostPort("0.0.0.0", strconv.Itoa(apiServerPort))}, CAFile: balancerCA}
	for _, m := range infra.Machines {
		if m.Role == spec.ControlPlane {
			config.Backends = append(config.Backends, netip.AddrPortFrom(m.Address, apiServerPort).String())
		}
	}
	b, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("configure the API balancer: %w", err)
	}
	// The CA first: the configuration refers to it.
	for _, f := range []struct {
		path    string
		content []byte
	}{{balancerCA, ca}, {balancerConfig, append(b, '\n')}} {
		path := filepath.Join(p.balancerDir(), filepath.Base(f.path))
		if err := writeFile(path, f.content, 0o700, 0o644); err != nil {
			return fmt.Errorf("configure the API balancer: %w", err)
		}
	}
	return nil
}

// ensureBalancer runs the balancer on that port with the binary that the options name; one that was
// started in another way is replaced. It need not be configured yet.
func (p *Local) ensureBalancer(ctx context.Context, image string, port int, exists *found, report func(string, string)) error {
	config, host, networking, err := p.balancerSpec(image, port)
	if err != nil {
		return err
	}
	name := p.balancerName()
	if exists.balancerDiffers(config) == "" {
		return nil
	}
	if err := os.MkdirAll(p.balancerDir(), 0o700); err != nil {
		return fmt.Errorf("make the API balancer's directory: %w", err)
	}
	report(name, "starting")
	// It has no state, so a new container is equivalent to a restarted one.
	if exists != nil {
		if err := p.removeContainer(ctx, exists.id, name); err != nil {
			return err
		}
	}
	res, err := p.create(ctx, client.ContainerCreateOptions{
		Name: name, Config: config, HostConfig: host, NetworkingConfig: networking,
	})
	if err != nil {
		return fmt.Errorf("create the API balancer %s: %w", name, err)
	}
	_, err = p.docker.ContainerStart(ctx, res.ID, client.ContainerStartOptions{})
	if portTaken(err) {
		return fmt.Errorf("start the API balancer %s: port 127.0.0.1:%d is taken by another program; end that program, "+
			"or set spec.provider.local.apiPort to a free port: %w", name, port, err)
	}
	if err != nil {
		return fmt.Errorf("start the API balancer %s (%s): %w", name, p.o.Slipway, err)
	}
	report(name, fmt.Sprintf("listens on 127.0.0.1:%d", port))
	return nil
}

// balancerDiffers returns why the balancer that exists (nil: none) has to be replaced, or "".
func (f *found) balancerDiffers(wanted *container.Config) string {
	if down := f.down(); down != "" {
		return down
	}
	if f.labels[labelBalancer] != wanted.Labels[labelBalancer] {
		return "was started by another slipway, or with other settings"
	}
	return ""
}

// down returns why the container (nil: none) does not run, or "".
func (f *found) down() string {
	switch {
	case f == nil:
		return "does not exist"
	case f.state != container.StateRunning:
		return "is " + f.describeState()
	}
	return ""
}

// balancerSpec is the balancer's container: no rights but to listen and to read two directories, as
// this user.
func (p *Local) balancerSpec(image string, port int) (*container.Config, *container.HostConfig, *network.NetworkingConfig, error) {
	address, err := nth(p.subnet, balancerOffset(p.subnet))
	if err != nil {
		return nil, nil, nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s\n%s\n%s", p.o.Slipway, port, address, p.bundlesDir(), p.balancerDir()))
	config := &container.Config{
		Image: image, Hostname: p.balancerName(), Entrypoint: []string{p.o.Slipway},
		Cmd: []string{"balancer", "--config", balancerConfig}, ExposedPorts: network.PortSet{balancerPort: {}},
		Labels: map[string]string{
			labelCluster: p.cluster, labelUID: p.o.UID, labelRole: roleBalancer, labelAPIPort: strconv.Itoa(port),
			labelBalancer: hex.EncodeToString(sum[:8]),
		},
	}
	if uid := os.Getuid(); uid >= 0 { // -1 on Windows, which has no UIDs
		config.User = fmt.Sprintf("%d:%d", uid, os.Getgid())
	}
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(p.networkName()),
		PortBindings:  publish(balancerPort, port),
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways},
		LogConfig:     logConfig,
		CapDrop:       []string{"ALL"}, SecurityOpt: []string{"no-new-privileges", "label=disable"}, ReadonlyRootfs: true,
		Mounts: []mount.Mount{
			{Type: mount.TypeBind, Source: p.bundlesDir(), Target: Bundles, ReadOnly: true},
			{Type: mount.TypeBind, Source: p.balancerDir(), Target: balancerMount, ReadOnly: true},
		},
	}
	networking := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		p.networkName(): {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: address}},
	}}
	return config, host, networking, nil
}
