package certs

import (
	"net/netip"
	"slices"
	"strings"
)

// The directories of kubeadm's certificates and of a kubelet's own.
const (
	pkiDir     = "/etc/kubernetes/pki/"
	kubeletDir = "/var/lib/kubelet/pki/"
)

// Names of items that other packages use. All other names are "<what>@<node>", for example
// "etcd/server@demo-cp-1".
const (
	KubernetesCA    = "ca"
	EtcdCA          = "etcd/ca"
	FrontProxyCA    = "front-proxy-ca"
	ServiceAccounts = "sa"
	Admin           = "admin"
	SuperAdmin      = "super-admin"
)

// Inputs has everything that the certificates of a cluster depend on.
type Inputs struct {
	ClusterName string
	// DNSDomain of the cluster, for example "cluster.local".
	DNSDomain string
	// APIServiceIP is the address of the Service default/kubernetes: the first of the service
	// subnet.
	APIServiceIP netip.Addr
	// EndpointSANs are additional names and addresses by which clients reach the API server.
	EndpointSANs []string
	// EtcdSANs are additional names and addresses by which clients reach etcd.
	EtcdSANs []string
	// KubeletDomains are the DNS domains of nodes: a kubelet is also reached as <node>.<domain>.
	KubeletDomains []string
	Nodes          []Node
	// Clients are the client certificates of other components than Kubernetes' own, by node name.
	Clients map[string][]Client
}

// Client is a client certificate that a node holds for a component.
type Client struct {
	// Name of the item, without the node, and of its files below /etc/kubernetes/pki.
	Name string
	// CA is the Name of the CA that signs it.
	CA         string
	CommonName string
}

// Path of the certificate on a host.
func (c Client) Path() string { return pkiDir + c.Name + certExt }

// Node is a member of the cluster.
type Node struct {
	Name         string
	Address      netip.Addr
	ControlPlane bool
}

// Kind is the kind of item that a Request asks for.
type Kind int

// A Leaf is signed by Request.CA, an Authority is self-signed, and a KeyPair has a public key and
// no certificate.
const (
	Leaf Kind = iota
	Authority
	KeyPair
)

// Usage is the extended key usage of a leaf, for TLS (RFC 5280, 4.2.1.12).
type Usage int

// The extended key usages, as bits.
const (
	ClientAuth Usage = 1 << iota
	ServerAuth
)

func (u Usage) String() string {
	return [...]string{"", "client", "server", "client+server"}[u&(ClientAuth|ServerAuth)]
}

// Placement says on which machines a file is installed.
type Placement int

// OnNode is the machine in Request.Node. OnOperator is no machine: the item stays in the state.
const (
	OnOperator Placement = iota
	OnNode
	OnControlPlanes
	OnAllNodes
)

// Request is one row of the table.
type Request struct {
	// Name identifies the item: "ca", "etcd/server@demo-cp-1".
	Name string
	Kind Kind
	// CA is the Name of the CA that signs a Leaf.
	CA            string
	CommonName    string
	Organizations []string
	// DNSNames and IPs are sorted, without duplicates.
	DNSNames []string
	IPs      []netip.Addr
	Usages   Usage
	// Node that the item belongs to; empty for shared items.
	Node string
	// Path is absolute, without extension: the files are Path+".crt" and Path+".key" (for KeyPair,
	// ".pub" and ".key").
	Path string
	// CertOn and KeyOn say where the two files are installed. They only differ for CAs: of the CA
	// keys, only that of the kubernetes CA is copied to machines, because the controller manager
	// signs CertificateSigningRequests.
	CertOn, KeyOn Placement
}

// row is a leaf in the table. An empty path means pkiDir and the name.
type row struct {
	name, ca, cn, org string
	usages            Usage
	sans              []string
	path              string
}

// Table lists every item that the cluster needs, in a fixed order: CAs first, then node by node.
// For items that kubeadm also has, names and organizations are kubeadm's
// (cmd/kubeadm/app/phases/certs/certlist.go).
func Table(in Inputs) []Request {
	requests := []Request{
		{Name: KubernetesCA, Kind: Authority, CommonName: "kubernetes", CertOn: OnAllNodes, KeyOn: OnControlPlanes},
		{Name: EtcdCA, Kind: Authority, CommonName: "etcd-ca", CertOn: OnControlPlanes},
		{Name: FrontProxyCA, Kind: Authority, CommonName: "front-proxy-ca", CertOn: OnControlPlanes},
		{Name: ServiceAccounts, Kind: KeyPair, CertOn: OnControlPlanes, KeyOn: OnControlPlanes},
	}
	for i := range requests {
		requests[i].Path = pkiDir + requests[i].Name
	}
	requests = append(requests, leaves("", []row{
		{name: Admin, ca: KubernetesCA, cn: "kubernetes-admin", org: "kubeadm:cluster-admins", usages: ClientAuth},
		{name: SuperAdmin, ca: KubernetesCA, cn: "kubernetes-super-admin", org: "system:masters", usages: ClientAuth},
	})...)
	for _, n := range in.Nodes {
		if n.ControlPlane {
			requests = append(requests, leaves(n.Name, controlPlane(in, n))...)
		}
		requests = append(requests, leaves(n.Name, member(in, n))...)
		requests = append(requests, leaves(n.Name, ofComponents(in.Clients[n.Name]))...)
	}
	return requests
}

// controlPlane lists the additional items of a control plane.
func controlPlane(in Inputs, n Node) []row {
	local := []string{"localhost", "127.0.0.1", "::1"}
	self := append([]string{n.Name, n.Address.String()}, local...)
	both := ClientAuth | ServerAuth
	return []row{
		{name: "apiserver", ca: KubernetesCA, cn: "kube-apiserver", usages: ServerAuth, sans: append(apiServerSANs(in), self...)},
		{name: "apiserver-kubelet-client", ca: KubernetesCA, cn: "kube-apiserver-kubelet-client", org: "kubeadm:cluster-admins", usages: ClientAuth},
		{name: "apiserver-etcd-client", ca: EtcdCA, cn: "kube-apiserver-etcd-client", usages: ClientAuth},
		{name: "front-proxy-client", ca: FrontProxyCA, cn: "front-proxy-client", usages: ClientAuth},
		{name: "etcd/server", ca: EtcdCA, cn: n.Name, usages: both, sans: slices.Concat(self, in.EtcdSANs)},
		{name: "etcd/peer", ca: EtcdCA, cn: n.Name, usages: both, sans: self},
		{name: "etcd/healthcheck-client", ca: EtcdCA, cn: "kube-etcd-healthcheck-client", usages: ClientAuth},
		{name: "controller-manager", ca: KubernetesCA, cn: "system:kube-controller-manager", usages: ClientAuth},
		{name: "controller-manager-server", ca: KubernetesCA, cn: "kube-controller-manager", usages: ServerAuth, sans: self},
		{name: "scheduler", ca: KubernetesCA, cn: "system:kube-scheduler", usages: ClientAuth},
		{name: "scheduler-server", ca: KubernetesCA, cn: "kube-scheduler", usages: ServerAuth, sans: self},
	}
}

// member lists the items of every node for Kubernetes.
func member(in Inputs, n Node) []row {
	id, self := "system:node:"+n.Name, []string{n.Name, n.Address.String()}
	for _, domain := range in.KubeletDomains {
		self = append(self, n.Name+"."+domain)
	}
	return []row{
		{name: "kubelet-client", ca: KubernetesCA, cn: id, org: "system:nodes", usages: ClientAuth, path: kubeletDir + "kubelet-client"},
		{name: "kubelet", ca: KubernetesCA, cn: id, org: "system:nodes", usages: ServerAuth, sans: self, path: kubeletDir + "kubelet"},
		{name: "kube-proxy", ca: KubernetesCA, cn: "system:kube-proxy", usages: ClientAuth},
	}
}

// ofComponents lists the client certificates of other components than Kubernetes' own.
func ofComponents(clients []Client) []row {
	rows := make([]row, 0, len(clients))
	for _, c := range clients {
		rows = append(rows, row{name: c.Name, ca: c.CA, cn: c.CommonName, usages: ClientAuth})
	}
	return rows
}

// apiServerSANs returns the names of every API server. They include the addresses of all control
// planes, because a balancer may reach an API server under the address of another.
func apiServerSANs(in Inputs) []string {
	sans := []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + in.DNSDomain,
		in.APIServiceIP.String(),
	}
	for _, n := range in.Nodes {
		if n.ControlPlane {
			sans = append(sans, n.Address.String())
		}
	}
	return append(sans, in.EndpointSANs...)
}

// leaves turns rows into requests, for a node unless node is "".
func leaves(node string, rows []row) []Request {
	requests := make([]Request, 0, len(rows))
	for _, r := range rows {
		q := Request{Name: r.name, CA: r.ca, CommonName: r.cn, Usages: r.usages, Node: node, Path: r.path}
		if q.Path == "" {
			q.Path = pkiDir + r.name
		}
		if r.org != "" {
			q.Organizations = []string{r.org}
		}
		if node != "" {
			q.Name, q.CertOn, q.KeyOn = r.name+"@"+node, OnNode, OnNode
		}
		q.DNSNames, q.IPs = splitSANs(r.sans)
		requests = append(requests, q)
	}
	return requests
}

// splitSANs separates addresses from names, lower-cases names, sorts both and removes duplicates.
func splitSANs(sans []string) (names []string, ips []netip.Addr) {
	for _, s := range sans {
		if ip, err := netip.ParseAddr(s); err == nil {
			ips = append(ips, ip.Unmap())
		} else {
			names = append(names, strings.ToLower(s))
		}
	}
	slices.Sort(names)
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(names), slices.Compact(ips)
}
