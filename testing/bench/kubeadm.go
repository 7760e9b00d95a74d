package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"
)

// Where kubeadm's machines are. The network is removed with them.
const (
	kubeadmNetwork = "slipway-bench-kubeadm"
	kubeadmSubnet  = "10.87.3.0/24"
	benchMount     = "/bench" // the directory with the images, on the machines
)

//go:embed kubeadm-machine.sh
var machineScript string

//go:embed kubeadm.yaml
var kubeadmConfig string

// kubeadmNodes in the order in which they join.
var kubeadmNodes = []struct {
	name, address string
	controlPlane  bool
}{
	{"bench-kubeadm-cp-1", "10.87.3.21", true},
	{"bench-kubeadm-cp-2", "10.87.3.22", true},
	{"bench-kubeadm-cp-3", "10.87.3.23", true},
	{"bench-kubeadm-worker-1", "10.87.3.24", false},
}

// kubeadmRun is one cluster made by kubeadm: init, joins, and when its nodes were Ready, from the start of init.
type kubeadmRun struct {
	one, oneUsable time.Duration
	all, allUsable time.Duration
	join           []time.Duration
}

// measureKubeadm makes machines of the form that slipway's have, brings binaries and images there, and only then
// starts the clock.
func (b *bench) measureKubeadm(ctx context.Context, form machine) (r kubeadmRun, err error) {
	defer func() { err = errors.Join(err, b.removeKubeadm(context.WithoutCancel(ctx))) }()
	bundle, err := b.bundleDir()
	if err != nil {
		return r, err
	}
	images := filepath.Join(b.dir, "images.tar")
	if _, err := os.Stat(images); err != nil {
		progress("  packing kubeadm's images")
		if err := b.packImages(ctx, bundle, images); err != nil {
			return r, err
		}
	}
	if err := b.makeKubeadmMachines(ctx, form, filepath.Base(bundle)); err != nil {
		return r, err
	}
	progress("  machines, binaries and images are there; the clock runs")
	if r, err = timeKubeadm(ctx); err == nil {
		progress("  one node Ready %s after init began, CoreDNS %s, joins %v, four nodes %s",
			seconds(r.one), seconds(r.oneUsable), r.join, seconds(r.all))
	}
	return r, err
}

// bundleDir is the newest bundle in slipway's cache: the one that slipway has just used.
func (b *bench) bundleDir() (string, error) {
	found, err := filepath.Glob(filepath.Join(b.cache, "bundles", "*", "bin", "kubeadm"))
	if err != nil {
		return "", err
	}
	newest, when := "", time.Time{}
	for _, f := range found {
		info, err := os.Stat(f)
		if err != nil {
			return "", err
		}
		if info.ModTime().After(when) {
			newest, when = filepath.Dir(filepath.Dir(f)), info.ModTime()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("no bundle with kubeadm under %s", b.cache)
	}
	return newest, nil
}

func (b *bench) makeKubeadmMachines(ctx context.Context, form machine, bundle string) error {
	subnet := netip.MustParsePrefix(kubeadmSubnet)
	_, err := b.docker.NetworkCreate(ctx, kubeadmNetwork, client.NetworkCreateOptions{
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet}}},
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, n := range kubeadmNodes {
		group.Go(func() error {
			if err := b.makeKubeadmMachine(ctx, form, n.name, n.address); err != nil {
				return err
			}
			script := fmt.Sprintf("BUNDLE=%s/%s PODS=10.244.%d.0/24 IMAGES=%s/images.tar\n", form.bundles, bundle, i, benchMount)
			_, err := inside(ctx, n.name, script+machineScript)
			return err
		})
	}
	return group.Wait()
}

// makeKubeadmMachine makes one like slipway's, but for its name, its network and what belongs to slipway.
func (b *bench) makeKubeadmMachine(ctx context.Context, form machine, name, address string) error {
	config, host := *form.config, *form.host
	config.Hostname, config.Labels = name, nil
	host.NetworkMode, host.PortBindings = kubeadmNetwork, nil
	host.RestartPolicy = container.RestartPolicy{}
	host.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: b.dir, Target: benchMount, ReadOnly: true}}
	for _, m := range form.host.Mounts {
		m.VolumeOptions = nil
		if m.Type == mount.TypeVolume {
			m.Source = "" // a disk of its own, not that of slipway's machine
		}
		host.Mounts = append(host.Mounts, m)
	}
	made, err := b.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name, Config: &config, HostConfig: &host,
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			kubeadmNetwork: {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(address)}},
		}},
	})
	if err != nil {
		return err
	}
	if _, err := b.docker.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		return err
	}
	return poll(ctx, time.Minute, name+": systemd runs", func() error {
		_, err := inside(ctx, name, "systemctl is-active multi-user.target")
		return err
	})
}

func (b *bench) removeKubeadm(ctx context.Context) error {
	var errs []error
	for _, n := range kubeadmNodes {
		_, err := b.docker.ContainerRemove(ctx, n.name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !strings.Contains(err.Error(), "No such container") {
			errs = append(errs, err)
		}
	}
	_, err := b.docker.NetworkRemove(ctx, kubeadmNetwork, client.NetworkRemoveOptions{})
	if err != nil && !strings.Contains(err.Error(), "not found") {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

var certificateKey = regexp.MustCompile(`--certificate-key ([0-9a-f]{64})`)

// timeKubeadm does what kubeadm's documentation says for a highly available cluster: init, then join after join.
func timeKubeadm(ctx context.Context) (r kubeadmRun, err error) {
	first := kubeadmNodes[0]
	config := strings.NewReplacer("ADDRESS", first.address, "VERSION", kubernetesVersion).Replace(kubeadmConfig)
	if _, err := inside(ctx, first.name, "cat > /root/kubeadm.yaml <<'END'\n"+config+"END\n"); err != nil {
		return r, err
	}
	began := time.Now()
	initLog, err := inside(ctx, first.name, "kubeadm init --config /root/kubeadm.yaml --upload-certs --ignore-preflight-errors=all 2>&1")
	if err != nil {
		return r, err
	}
	kubeconfig, err := inside(ctx, first.name, "cat /etc/kubernetes/admin.conf")
	if err != nil {
		return r, err
	}
	seen, err := newObserver(kubeconfig)
	if err != nil {
		return r, err
	}
	if err := seen.waitReady(ctx, 1); err != nil {
		return r, err
	}
	r.one = time.Since(began)
	var group errgroup.Group // CoreDNS is watched beside the joins, which do not wait for it
	group.Go(func() error {
		err := seen.waitDNS(ctx)
		r.oneUsable = time.Since(began)
		return err
	})
	if err := joinAll(ctx, &r, initLog); err != nil {
		return r, errors.Join(err, group.Wait())
	}
	if err := seen.waitReady(ctx, len(kubeadmNodes)); err != nil {
		return r, errors.Join(err, group.Wait())
	}
	r.all = time.Since(began)
	err = group.Wait()
	r.allUsable = max(r.all, r.oneUsable)
	return r, err
}

// joinAll joins the other machines, one after another, with what init printed.
func joinAll(ctx context.Context, r *kubeadmRun, initLog []byte) error {
	key := certificateKey.FindSubmatch(initLog)
	if key == nil {
		return fmt.Errorf("kubeadm init printed no certificate key:\n%s", initLog)
	}
	join, err := inside(ctx, kubeadmNodes[0].name, "kubeadm token create --print-join-command 2>/dev/null")
	if err != nil {
		return err
	}
	for _, n := range kubeadmNodes[1:] {
		command := strings.TrimSpace(string(join)) + " --ignore-preflight-errors=all"
		if n.controlPlane {
			command += " --control-plane --certificate-key " + string(key[1])
		}
		start := time.Now()
		if _, err := inside(ctx, n.name, command+" 2>&1"); err != nil {
			return err
		}
		r.join = append(r.join, time.Since(start).Round(100*time.Millisecond))
	}
	return nil
}
