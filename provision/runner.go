package provision

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"k8s.io/client-go/rest"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

// Runner binds the steps of a schedule to hosts and to the API. It implements Actions.
type Runner struct {
	Input             Input
	Desired, Observed State
	Changes           []Change
	Hosts             map[string]host.Host
	// API of the cluster, through any API server that is ready.
	API *kube.Client
	// Report says what a host is waiting for, in a few words; it may be nil.
	Report func(host, what string)
}

// apiClient speaks to the cluster's API as its super admin, through the balancer of the first control plane that can
// be reached over SSH: nothing but SSH has to be open to the operator.
func apiClient(in Input, hosts map[string]host.Host) (*kube.Client, error) {
	var dialers []host.Dialer
	for _, m := range in.controlPlanes() {
		if d, ok := hosts[m.Name].(host.Dialer); ok {
			dialers = append(dialers, d)
		}
	}
	return kube.New(apiConfig(in.PKI, balancerPort, dialers...))
}

// apiConfig reaches a port of the loopback interface of the first of hosts that takes the connection.
func apiConfig(pki *certs.PKI, port int, hosts ...host.Dialer) *rest.Config {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		var errs []error
		for _, h := range hosts {
			conn, err := h.DialContext(ctx, network, address)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	admin := pki.Material[certs.SuperAdmin]
	return kube.Config(dial, loopbackURL(port), pki.Material[certs.KubernetesCA].Cert, admin.Cert, admin.Key)
}

func (r *Runner) report(host, what string) {
	if r.Report != nil {
		r.Report(host, what)
	}
}

// Install implements Actions.
func (r *Runner) Install(ctx context.Context, name string) error { return r.converge(ctx, name, true) }

// Change implements Actions.
func (r *Runner) Change(ctx context.Context, name string) error { return r.converge(ctx, name, false) }

func (r *Runner) converge(ctx context.Context, name string, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	changes := slices.DeleteFunc(slices.Clone(r.Changes), func(c Change) bool { return c.Host != name })
	return converge(ctx, r.Hosts[name], r.Desired.Hosts[name], r.Observed.Hosts[name], changes, first)
}

// StartLate implements Actions.
func (r *Runner) StartLate(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	return startLate(ctx, r.Hosts[name], r.Desired.Hosts[name].Units)
}

// UnitsUp implements Actions.
func (r *Runner) UnitsUp(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	units := r.Desired.Hosts[name].Units
	if err := unitsUp(ctx, r.Hosts[name], units); err != nil {
		return err
	}
	dialer, ok := r.Hosts[name].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", name)
	}
	client, done, err := healthClient(dialer, r.Input.PKI.Material[certs.KubernetesCA].Cert)
	if err != nil {
		return err
	}
	defer done()
	for _, row := range unitTable {
		if _, ok := units[row.name]; !ok || row.health == "" {
			continue
		}
		if err := waitHealthy(ctx, client, row.health); err != nil {
			return fmt.Errorf("%s on %s: %w\n%s", row.name, name, err, r.journal(ctx, name, row.name))
		}
	}
	return nil
}

// APIReady implements Actions.
func (r *Runner) APIReady(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	err := r.API.Ready(wait)
	if err == nil || ctx.Err() != nil {
		return err
	}
	first := r.Input.controlPlanes()[0].Name
	return fmt.Errorf("wait for the API: %w\n%s", err, r.journal(ctx, first, "etcd", "kube-apiserver"))
}

// ServerReady implements Actions.
func (r *Runner) ServerReady(ctx context.Context, name string) error {
	dialer, ok := r.Hosts[name].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", name)
	}
	client, err := kube.New(apiConfig(r.Input.PKI, apiPort, dialer))
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	if err := client.Ready(wait); err != nil {
		return fmt.Errorf("wait for the API server of %s: %w\n%s", name, err, r.journal(ctx, name, "etcd", "kube-apiserver"))
	}
	return nil
}

// Manifests implements Actions.
func (r *Runner) Manifests(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	text, err := Manifests(r.Input)
	if err != nil {
		return err
	}
	_, err = r.API.Apply(ctx, text)
	return err
}

// NodeReady implements Actions.
func (r *Runner) NodeReady(ctx context.Context, name string) error {
	wait, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	for _, settings := range NodeSettings(r.Input, name) {
		if err := r.API.EnsureNode(wait, settings, func(condition string) { r.report(name, condition) }); err != nil {
			return r.explain(ctx, name, err)
		}
	}
	return nil
}

func (r *Runner) explain(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w\n%s", err, r.journal(ctx, name, "kubelet", "containerd"))
}

// Seal implements Actions.
func (r *Runner) Seal(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	if r.Observed.Hosts[name].Facts.Initialized {
		return nil
	}
	return r.Hosts[name].Write(ctx, []host.File{hostFile(initializedFile, r.Desired.Hosts[name].Files[initializedFile])})
}

// journal gives the last words of units, for an error's text. What cannot be read is said in its place.
func (r *Runner) journal(ctx context.Context, name string, units ...string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detailTimeout)
	defer cancel()
	var script strings.Builder
	for _, u := range units {
		_, _ = fmt.Fprintf(&script, "echo \"%s on %s: $(systemctl is-active %s)\"; journalctl -q --no-pager -n 5 -o cat -u %s;", u, name, u, u)
	}
	result, err := r.Hosts[name].Run(ctx, host.Cmd{Script: script.String()})
	if err != nil && len(result.Stdout) == 0 {
		return "its journal could not be read: " + err.Error()
	}
	return string(result.Stdout)
}

// Manifests renders the objects that every cluster gets.
func Manifests(in Input) ([]byte, error) {
	info, err := clusterInfo(in)
	if err != nil {
		return nil, err
	}
	network := in.Cluster.Spec.Network
	forward := false
	for _, f := range in.Facts {
		forward = forward || f.ResolvConf != ""
	}
	return templates.Manifests{
		ClusterInfo: string(info), DNSDomain: network.DNSDomain, ClusterIP: network.DNSServiceIP().String(),
		Image: in.Artifacts["image/coredns"].Image, Replicas: min(2, len(in.Machines)),
		Forward: forward, Flannel: network.Plugin == "flannel",
	}.Render()
}

// NodeSettings are the labels and taints of nodes, which a kubelet may not give itself (KEP-279, NodeRestriction).
func NodeSettings(in Input, names ...string) []kube.NodeSettings {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	var settings []kube.NodeSettings
	for _, n := range in.Cluster.Nodes() {
		if !wanted[n.Name] {
			continue
		}
		s := kube.NodeSettings{Name: n.Name, Labels: map[string]string{}}
		for k, v := range n.Labels {
			s.Labels[k] = v
		}
		if n.Role == spec.ControlPlane {
			s.Labels["node-role.kubernetes.io/control-plane"] = ""
			s.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
		}
		for _, t := range (node{Node: n}).taints() {
			s.Taints = append(s.Taints, kube.Taint(t))
		}
		settings = append(settings, s)
	}
	return settings
}
