package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/spec"
)

// Bundles is the directory in a machine with the operator's bundles, read-only.
const Bundles = "/var/lib/slipway-bundles"

// Options are those of package providers.
type Options struct {
	StateDir string // the cluster's own
	CacheDir string // shared by clusters
	Slipway  string // the binary, relative to Bundles, for the balancer; empty: no balancer
	// ConnectTimeout is how long a machine may take to answer SSH; 0 means a minute.
	ConnectTimeout time.Duration
	// UID of the cluster: objects with another UID are not changed. If empty, the SSH keys identify
	// the cluster's objects.
	UID string
	// Claimed means that the UID comes from the spec: it is accepted only if a machine with it also
	// has our keys.
	Claimed bool
	// Addresses that machines had, by name: they are not given to others.
	Addresses map[string]netip.Addr
}

// Local is one cluster's machines.
type Local struct {
	cluster string
	nodes   []spec.Node
	subnet  netip.Prefix
	apiPort int  // 0: choose
	mounted bool // machines mount the bundles
	o       Options
	docker  *client.Client
	api     string // the daemon's API version, once connected
	borne   bool   // the UID is confirmed by machines in the last inventory, or was not claimed
	proc    string // "/proc"; tests hide the daemon there
}

// Open prepares the machines of c. It does not contact Docker.
func Open(c *spec.Cluster, o Options) (*Local, error) {
	subnet, err := netip.ParsePrefix(cmp.Or(c.Spec.Provider.Local.Subnet, DefaultSubnet))
	if err != nil || !subnet.Addr().Is4() {
		return nil, fmt.Errorf("spec.provider.local.subnet: %q is not an IPv4 network; write one such as %s",
			c.Spec.Provider.Local.Subnet, DefaultSubnet)
	}
	// Docker needs absolute paths, at least for mounts.
	for _, dir := range []*string{&o.StateDir, &o.CacheDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, fmt.Errorf("local provider: %w", err)
		}
		*dir = abs
	}
	if o.Slipway != "" && !path.IsAbs(o.Slipway) {
		o.Slipway = path.Join(Bundles, o.Slipway)
	}
	docker, err := newDocker()
	if err != nil {
		return nil, err
	}
	return &Local{
		cluster: c.Metadata.Name, nodes: c.Nodes(), subnet: subnet, apiPort: c.Spec.Provider.Local.APIPort,
		mounted: c.Spec.Provider.Local.Bundle != spec.CopyBundle,
		o:       o, docker: docker, proc: "/proc",
	}, nil
}

// Ensure makes and starts the named machines in parallel, and returns when they answer SSH. A new
// machine uses the disk of an earlier one with its name: disks are never removed here. If an object
// of another cluster conflicts, nothing is made.
func (p *Local) Ensure(ctx context.Context, machines []string, report func(name, what string)) (*spec.Infrastructure, error) {
	report = serial(report)
	inv, err := p.inventory(ctx)
	if err != nil {
		return nil, err
	}
	if f := inv.foreign; len(f) > 0 {
		return nil, fmt.Errorf("%s %s carries the name of cluster %s and belongs to another; nothing was made", f[0].Kind, f[0].Name, p.cluster)
	}
	var (
		image   string
		apiPort int
		user    keyPair
	)
	// The image may take long; meanwhile the rest is looked at.
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { image, err = p.ensureImage(gctx, report); return err })
	g.Go(func() (err error) {
		if user, err = ensureKey(p.keyDir(), userKey); err != nil {
			return err
		}
		if err := os.MkdirAll(p.bundlesDir(), 0o755); err != nil { //nolint:gosec // nothing secret: machines read it too
			return fmt.Errorf("make the directory of bundles: %w", err)
		}
		apiPort, err = p.ensureNetwork(gctx, inv)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	plans, failed, err := p.plan(inv, user, machines)
	if err != nil {
		return nil, err
	}
	down, err := p.bringUp(ctx, image, apiPort, plans, inv, report)
	if err != nil {
		return nil, err
	}
	// Return what exists, not what was intended.
	infra, err := p.Find(ctx)
	if err == nil {
		maps.Copy(infra.Failed, failed)
		maps.Copy(infra.Failed, down)
	}
	return infra, err
}

// bringUp lets every machine and the balancer come up, all at once. One that fails does not stop
// the others: the next Ensure has less to do. The error is about what all of them need.
func (p *Local) bringUp(ctx context.Context, image string, apiPort int, machines []machine, inv *inventory,
	report func(string, string),
) (failed map[string]error, err error) {
	errs := make([]error, len(machines))
	var wg sync.WaitGroup
	for i, m := range machines {
		wg.Go(func() { errs[i] = p.ensureMachine(ctx, image, m, report) })
	}
	if p.o.Slipway != "" {
		wg.Go(func() { err = p.ensureBalancer(ctx, image, apiPort, inv.balancer, report) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	failed = map[string]error{}
	for i, m := range machines {
		if errs[i] != nil {
			failed[m.node.Name] = errs[i]
		}
	}
	return failed, err
}

// Plan returns what Ensure would create or change besides machines and their disks. It refuses what
// cannot change while it exists, also if all machines run, so that Ensure is not called.
func (p *Local) Plan(ctx context.Context, _ []string) ([]spec.ResourceChange, error) {
	inv, err := p.inventory(ctx)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(p.checkSubnet(inv), p.checkAllBundles(inv.machines)); err != nil {
		return nil, fmt.Errorf("%w; nothing was changed", err)
	}
	var changes []spec.ResourceChange
	if len(inv.networks) == 0 {
		changes = append(changes, spec.ResourceChange{Kind: "network", Name: p.networkName(), Reason: "does not exist"})
	}
	if p.o.Slipway == "" {
		return changes, nil
	}
	config, _, _, err := p.balancerSpec("", cmp.Or(p.apiPort, inv.apiPort()))
	if err != nil {
		return nil, err
	}
	if reason := inv.balancer.balancerDiffers(config); reason != "" {
		changes = append(changes, spec.ResourceChange{Kind: "balancer", Name: p.balancerName(), Exists: inv.balancer != nil, Reason: reason})
	}
	return changes, nil
}

// Find looks at what exists and changes nothing.
func (p *Local) Find(ctx context.Context) (*spec.Infrastructure, error) {
	inv, err := p.inventory(ctx)
	if err != nil {
		return nil, err
	}
	// Machines whose keys are lost can still be listed and destroyed.
	user, _ := loadKey(p.keyDir(), userKey)
	infra := &spec.Infrastructure{
		States: map[string]string{}, Disks: map[string]string{}, Failed: map[string]error{}, Foreign: inv.foreign,
		ExtraSANs: []string{"127.0.0.1", "localhost"},
	}
	if port := inv.apiPort(); port != 0 {
		infra.Endpoint = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	if down := inv.balancer.down(); down != "" && p.o.Slipway != "" {
		infra.EndpointDown = "balancer " + p.balancerName() + " " + down
	}
	known := p.known(inv)
	for _, f := range inv.machines {
		m := p.describe(f, user, known)
		infra.States[m.Name] = f.describeState()
		if err := cmp.Or(f.damage(), p.lostKeys(m)); err != nil {
			infra.Failed[m.Name] = err
		}
		switch {
		case !m.Address.IsValid(): // other machines cannot be told its address
		case p.place(m.Name) >= 0:
			infra.Machines = append(infra.Machines, m)
		default:
			infra.Surplus = append(infra.Surplus, m)
		}
	}
	for machine, disks := range inv.disks {
		if inv.machine(machine) == nil {
			infra.Disks[machine] = "volume " + disks[0].Name
		}
	}
	order := func(a, b spec.Machine) int {
		return cmp.Or(cmp.Compare(p.place(a.Name), p.place(b.Name)), a.Address.Compare(b.Address))
	}
	slices.SortFunc(infra.Machines, order)
	slices.SortFunc(infra.Surplus, order)
	return infra, nil
}

// place returns a node's index in the spec, or -1.
func (p *Local) place(name string) int {
	return slices.IndexFunc(p.nodes, func(n spec.Node) bool { return n.Name == name })
}

// Destroy removes every object of the cluster, disks last, and our keys. What carries its name and
// is another's stays.
func (p *Local) Destroy(ctx context.Context, report func(name, what string)) error {
	report = serial(report)
	inv, err := p.inventory(ctx)
	if err != nil {
		return err
	}
	containers := inv.machines
	if inv.balancer != nil {
		containers = append(containers, *inv.balancer)
	}
	errs := make([]error, len(containers))
	var wg sync.WaitGroup
	for i, f := range containers {
		wg.Go(func() {
			report(f.name, "removing")
			if errs[i] = p.removeContainer(ctx, f.id, f.name); errs[i] == nil {
				report(f.name, "removed")
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, disks := range inv.disks {
		for _, v := range disks {
			if err := p.removeVolume(ctx, v); err != nil {
				return err
			}
		}
	}
	for _, n := range inv.networks {
		if err := p.removeNetwork(ctx, n); err != nil {
			return err
		}
		report(n.Name, "removed")
	}
	if err := errors.Join(os.RemoveAll(p.keyDir()), os.RemoveAll(p.balancerDir())); err != nil {
		return fmt.Errorf("remove the machines' keys: %w", err)
	}
	return nil
}

// Remove removes machines that the spec does not have, with their disks.
func (p *Local) Remove(ctx context.Context, machines []string, report func(name, what string)) error {
	report = serial(report)
	inv, err := p.inventory(ctx)
	if err != nil {
		return err
	}
	for _, name := range machines {
		if f := inv.machine(name); f == nil || p.place(name) >= 0 {
			return fmt.Errorf("the cluster has no machine %s that is not in the spec; nothing was removed", name)
		}
	}
	for _, name := range machines {
		report(name, "removing")
		if err := p.removeContainer(ctx, inv.machine(name).id, name); err != nil {
			return err
		}
		for _, v := range inv.disks[name] {
			if err := p.removeVolume(ctx, v); err != nil {
				return err
			}
		}
		if err := os.Remove(filepath.Join(p.keyDir(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the SSH key of machine %s: %w", name, err)
		}
		report(name, "removed")
	}
	return nil
}

// serial makes report safe to call from many goroutines, and from none.
func serial(report func(name, what string)) func(name, what string) {
	if report == nil {
		return func(string, string) {}
	}
	var mu sync.Mutex
	return func(name, what string) {
		mu.Lock()
		defer mu.Unlock()
		report(name, what)
	}
}
