package observe

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Status is the health of a cluster as `slipway status` shows it. Its JSON form is stable.
type Status struct {
	Cluster string `json:"cluster"`
	// UID of the cluster; empty if nothing was applied yet.
	UID               string `json:"uid,omitempty"`
	KubernetesVersion string `json:"kubernetesVersion"` // from the spec
	Endpoint          string `json:"endpoint"`
	// Exists reports whether any part of the cluster exists: a machine, a disk, a certificate, or a
	// record that it was up.
	Exists bool `json:"exists"`
	// Healthy is true if there is no Reason.
	Healthy bool     `json:"healthy"`
	Reasons []Reason `json:"reasons,omitempty"`
	// API is "ok", or why it does not answer; DNS is "ok", or what is wrong with CoreDNS.
	API          string          `json:"api"`
	DNS          string          `json:"dns"`
	Machines     []MachineStatus `json:"machines"`
	Certificates CertStatus      `json:"certificates"`
	// Rotation in progress, or nil.
	Rotation *certs.Rotation `json:"rotation,omitempty"`
}

// Reason is one reason why a cluster is not healthy.
type Reason struct {
	// Machine or node that it is about; empty for the cluster as a whole.
	Machine string `json:"machine,omitempty"`
	Text    string `json:"text"`
}

func (r Reason) String() string {
	if r.Machine == "" {
		return r.Text
	}
	return r.Machine + ": " + r.Text
}

// MachineStatus is one machine, with the node and the etcd member on it.
type MachineStatus struct {
	Name    string     `json:"name"`
	Role    spec.Role  `json:"role"`
	Address netip.Addr `json:"address"`
	// State is "running", "missing" or the provider's word; Error why it could not be queried.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// Surplus means that the machine is not in the spec.
	Surplus bool `json:"surplus,omitempty"`
	// Units are systemd's states of slipway's units, "active/running", by name.
	Units map[string]string `json:"units,omitempty"`
	// Node is nil if the API does not have it.
	Node *NodeStatus `json:"node,omitempty"`
	Etcd *EtcdStatus `json:"etcd,omitempty"`
}

// NodeStatus is a node's status in the API.
type NodeStatus struct {
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason"`
	Version string `json:"version"` // of the kubelet
	// Trouble is what keeps pods off besides not being Ready: pressure, and taints that Kubernetes
	// set.
	Trouble []string `json:"trouble,omitempty"`
	// Taints that are not in the spec, "key:effect"; a cordoned node has one. They are deliberate,
	// and count as healthy.
	Taints []string `json:"taints,omitempty"`
}

// EtcdStatus is one member.
type EtcdStatus struct {
	Healthy bool   `json:"healthy"`
	Leader  bool   `json:"leader"`
	Learner bool   `json:"learner"`
	Version string `json:"version,omitempty"`
	DBSize  int64  `json:"dbSizeBytes"`
	// Quota is the size at which etcd accepts no more writes, in bytes; Alarms are etcd's names
	// ("NOSPACE").
	Quota  int64    `json:"quotaBytes,omitempty"`
	Alarms []string `json:"alarms,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// CertStatus counts certificates and names the one that expires first.
type CertStatus struct {
	Count int `json:"count"`
	// Nearest is its name, "etcd/server@demo-cp-1".
	Nearest  string    `json:"nearest,omitempty"`
	NotAfter time.Time `json:"notAfter,omitzero"`
}

// statusTimeout bounds a whole status: what has not answered by then is reported as not answering.
const statusTimeout = 10 * time.Second

// GetStatus queries hosts, etcd and the API in parallel. Failures become part of the answer.
func GetStatus(ctx context.Context, in stack.Input, infra *spec.Infrastructure, hosts map[string]host.Host, unreachable map[string]error) *Status {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s := &Status{Cluster: in.Cluster.Metadata.Name, UID: in.UID, KubernetesVersion: in.Cluster.Spec.Kubernetes.Version, Endpoint: in.Endpoint}
	s.Exists = in.PKI != nil || in.BeenUp || len(infra.States) > 0 || len(infra.Disks) > 0
	s.machines(in, infra, unreachable)
	if in.PKI != nil && infra.EndpointDown != "" {
		s.Reasons = append(s.Reasons, Reason{Text: fmt.Sprintf("nothing answers at %s: %s", in.Endpoint, infra.EndpointDown)})
	}
	var wait sync.WaitGroup
	for i := range s.Machines {
		if h, ok := hosts[s.Machines[i].Name]; ok {
			wait.Go(func() { s.Machines[i].units(ctx, h) })
		}
	}
	var nodes map[string]*NodeStatus
	var members map[string]*EtcdStatus
	if in.PKI != nil {
		wait.Go(func() { nodes, s.API, s.DNS = nodeStatus(ctx, in, hosts) })
		wait.Go(func() { members = etcdStatus(ctx, in, hosts) })
		s.Certificates, s.Rotation = certStatus(in), in.PKI.Rotation
	} else {
		s.API, s.DNS = notInstalled, notInstalled
	}
	wait.Wait()
	for i := range s.Machines {
		m := &s.Machines[i]
		m.Node, m.Etcd = nodes[m.Name], members[m.Name]
	}
	s.judge(slices.Sorted(maps.Keys(nodes)))
	return s
}

// Values of Status.API and Status.DNS, and of MachineStatus.State.
const (
	statusOK       = "ok"
	notInstalled   = "not installed"
	notAsked       = "not asked"
	machineMissing = "missing"
)

// judge determines whether the cluster is healthy, and why not; nodes are those in the API.
func (s *Status) judge(nodes []string) {
	switch {
	case s.API == notInstalled:
		s.Reasons = append(s.Reasons, Reason{Text: "Kubernetes is not installed"})
	case s.API != statusOK:
		s.Reasons = append(s.Reasons, Reason{Text: "API: " + s.API})
	case s.DNS != statusOK:
		s.Reasons = append(s.Reasons, Reason{Text: "DNS: " + s.DNS})
	}
	for _, m := range s.Machines {
		for _, text := range m.troubles(s.API) {
			s.Reasons = append(s.Reasons, Reason{m.Name, text})
		}
	}
	for _, name := range nodes {
		if !slices.ContainsFunc(s.Machines, func(m MachineStatus) bool { return m.Name == name }) {
			s.Reasons = append(s.Reasons, Reason{name, "is a node in the API, but not in the spec: add it there, or run `kubectl delete node " + name + "`"})
		}
	}
	s.Healthy = len(s.Reasons) == 0
}

// troubles returns the reasons why a machine is not healthy, without those that follow from another
// one. api is the API's word.
func (m *MachineStatus) troubles(api string) []string {
	if reason := m.unobserved(); reason != "" {
		return []string{reason}
	}
	if api == notInstalled {
		return nil
	}
	var all []string
	if down := m.UnitsDown(); len(down) > 0 {
		all = append(all, "not active: "+strings.Join(down, ", "))
	} else if len(m.Units) == 0 {
		all = append(all, "has none of slipway's units")
	}
	switch {
	case m.Node == nil && api == statusOK:
		all = append(all, "the node is not in the API")
	case m.Node != nil && !m.Node.Ready:
		all = append(all, "the node is not Ready: "+m.Node.Reason)
	}
	if m.Node != nil {
		all = append(all, m.Node.Trouble...)
	}
	if m.Role == spec.ControlPlane {
		all = append(all, m.Etcd.troubles()...)
	}
	return all
}

// unobserved returns the reason why there is no more to say of a machine, or "" if it was observed.
func (m *MachineStatus) unobserved() string {
	switch {
	case m.Surplus:
		return "is no longer in the spec: put it back, or remove the machine and run `kubectl delete node " + m.Name + "`"
	case m.Error != "" && m.State != spec.MachineRunning:
		return "its machine is " + cmp.Or(m.State, "damaged") + ": " + m.Error
	case m.Error != "":
		return m.Error
	case m.State == machineMissing:
		return "has no machine"
	case m.State != spec.MachineRunning:
		return "its machine is " + m.State
	}
	return ""
}

// troubles returns the reasons why a member is not healthy. An unknown member is not healthy.
func (e *EtcdStatus) troubles() []string {
	switch {
	case e == nil:
		return []string{"etcd was not queried"}
	case e.Healthy:
		return nil
	case e.Error != "":
		return []string{"etcd: " + e.Error}
	case len(e.Alarms) > 0:
		return []string{"etcd: alarm " + strings.Join(e.Alarms, ", ")}
	}
	return []string{"etcd: the member is not healthy"}
}

// Machines lists the machines of the spec, and others.
func (s *Status) machines(in stack.Input, infra *spec.Infrastructure, unreachable map[string]error) {
	have := map[string]spec.Machine{}
	for _, m := range append(slices.Clone(infra.Machines), infra.Surplus...) {
		have[m.Name] = m
	}
	add := func(name string, role spec.Role, surplus bool) {
		m := MachineStatus{Name: name, Role: role, Address: have[name].Address, State: infra.States[name], Surplus: surplus}
		if _, ok := have[name]; !ok && infra.Failed[name] == nil {
			m.State = machineMissing
		}
		if err := cmp.Or(infra.Failed[name], unreachable[name]); err != nil {
			m.Error = host.Reason(name, err)
		}
		s.Machines = append(s.Machines, m)
	}
	for _, n := range in.Cluster.Nodes() {
		add(n.Name, n.Role, false)
	}
	for _, m := range infra.Surplus {
		add(m.Name, m.Role, true)
	}
}

func (m *MachineStatus) units(ctx context.Context, h host.Host) {
	seen, err := observeHost(ctx, h, stack.HostState{}, nil, newVocabulary(), ObserveTimeout)
	if err != nil {
		m.Error = err.Error()
		return
	}
	m.Units = map[string]string{}
	for name, u := range seen.Units {
		m.Units[name] = u.State
	}
}

// nodeStatus queries the API for its nodes and for DNS, in parallel. Either word is "ok", or an
// error.
func nodeStatus(ctx context.Context, in stack.Input, hosts map[string]host.Host) (nodes map[string]*NodeStatus, api, dns string) {
	client, err := live.API(in, hosts)
	if err != nil {
		return nil, err.Error(), notAsked
	}
	var list map[string]kube.Node
	var listErr, dnsErr error
	var deployment kube.Deployment
	var questions sync.WaitGroup
	questions.Go(func() { list, listErr = client.Nodes(ctx) })
	questions.Go(func() { deployment, dnsErr = client.Deployment(ctx, stack.DNSNamespace, stack.DNSName) })
	questions.Wait()
	if listErr != nil {
		return nil, listErr.Error(), notAsked
	}
	dns = statusOK
	switch {
	case dnsErr != nil:
		dns = dnsErr.Error()
	case !deployment.Serves():
		dns = deployment.String()
	}
	nodes = map[string]*NodeStatus{}
	wanted := wantedTaints(in)
	for name, n := range list {
		trouble := n.Trouble(wanted[name])
		foreign := slices.DeleteFunc(n.Foreign(wanted[name]), func(taint string) bool { return slices.Contains(trouble, "taint "+taint) })
		nodes[name] = &NodeStatus{Ready: n.Ready, Reason: cmp.Or(n.Condition, "Ready"), Version: n.Version, Trouble: trouble, Taints: foreign}
	}
	return nodes, statusOK, dns
}

// wantedTaints returns the taints of the spec, by node: a status compares nothing else of nodes.
func wantedTaints(in stack.Input) map[string]kube.Node {
	wanted := map[string]kube.Node{}
	for _, n := range in.Cluster.Nodes() {
		taints := map[string]string{}
		for _, t := range (stack.Node{Node: n}).AllTaints() {
			taints[t.Key+":"+t.Effect] = t.Value
		}
		wanted[n.Name] = kube.Node{Taints: taints}
	}
	return wanted
}

func etcdStatus(ctx context.Context, in stack.Input, hosts map[string]host.Host) map[string]*EtcdStatus {
	statuses := map[string]*EtcdStatus{}
	for _, m := range in.ControlPlanes() {
		if _, ok := hosts[m.Name]; !ok {
			statuses[m.Name] = &EtcdStatus{Error: "the machine cannot be reached"}
		}
	}
	client, err := live.Etcd(in, hosts)
	if err != nil {
		return statuses
	}
	members, err := client.Status(ctx)
	for _, m := range members {
		e := &EtcdStatus{
			Healthy: m.Healthy, Leader: m.Leader, Learner: m.Learner, Version: m.Version, DBSize: m.DBSize, Quota: m.Quota, Alarms: m.Alarms,
		}
		if m.Err != nil {
			e.Error = m.Err.Error()
		}
		statuses[m.Name] = e
	}
	for _, m := range in.ControlPlanes() {
		if statuses[m.Name] == nil {
			statuses[m.Name] = &EtcdStatus{Error: fmt.Sprint("not a member: ", err)}
		}
	}
	return statuses
}

func certStatus(in stack.Input) CertStatus {
	expiries, err := in.PKI.Material.Expiries(certs.Table(stack.CertInputs(in.Cluster, in.Machines, nil)))
	if err != nil || len(expiries) == 0 {
		return CertStatus{Count: len(in.PKI.Material)}
	}
	return CertStatus{Count: len(expiries), Nearest: expiries[0].Name, NotAfter: expiries[0].NotAfter}
}

// UnitsDown returns the units of a machine that are not active, sorted.
func (m *MachineStatus) UnitsDown() []string {
	var down []string
	for _, name := range slices.Sorted(maps.Keys(m.Units)) {
		if !strings.HasPrefix(m.Units[name], "active/") {
			down = append(down, name)
		}
	}
	return down
}
