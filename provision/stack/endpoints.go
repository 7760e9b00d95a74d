package stack

import (
	"net/http"
	"net/netip"

	"slipway.dev/slipway/certs"
)

// Endpoint is a place where a component of the stack answers TLS.
type Endpoint struct {
	Unit string
	// controlPlane says that only those have it, loopback that it listens on 127.0.0.1 and not on the node's address.
	controlPlane, loopback bool
	Port                   int
	// ServerName asks for another certificate than the usual (SNI).
	ServerName string
	// Cert is the file of what it serves, "" for what the process made itself, and server the authority of that.
	Cert, Server string
	// Client is an authority of the clients that it takes, "" where that is not asked here, and path what a client may
	// ask that has no rights: the answer to one that is not known is 401, or no handshake.
	Client, Path string
	// Header goes with the question, for an authority whose clients speak for others.
	Header http.Header
}

const (
	kubeletPort           = 10250
	controllerManagerPort = 10257
	schedulerPort         = 10259
)

// LoopbackName is under which an API server reaches itself (k8s.io/apiserver/pkg/server, LoopbackClientServerNameOverride).
const LoopbackName = "apiserver-loopback-client"

// Endpoints is every place where certificates are shown to others, and where those of others are checked.
var Endpoints = []Endpoint{
	{
		Unit: "kube-apiserver.service", controlPlane: true, Port: APIPort,
		Cert: PKIDir + "/apiserver.crt", Server: certs.KubernetesCA, Client: certs.KubernetesCA, Path: "/api",
	},
	{
		Unit: "kube-apiserver.service", controlPlane: true, Port: APIPort, Server: certs.KubernetesCA,
		Client: certs.FrontProxyCA, Path: "/api", Header: http.Header{"X-Remote-User": {ProbeName}},
	},
	{Unit: "kube-apiserver.service", controlPlane: true, Port: APIPort, ServerName: LoopbackName},
	{
		Unit: "etcd.service", controlPlane: true, Port: EtcdClientPort,
		Cert: PKIDir + "/etcd/server.crt", Server: certs.EtcdCA, Client: certs.EtcdCA, Path: "/version",
	},
	{
		Unit: "etcd.service", controlPlane: true, Port: etcdPeer,
		Cert: PKIDir + "/etcd/peer.crt", Server: certs.EtcdCA, Client: certs.EtcdCA, Path: "/version",
	},
	{
		Unit: "kube-controller-manager.service", controlPlane: true, loopback: true, Port: controllerManagerPort,
		Cert: PKIDir + "/controller-manager-server.crt", Server: certs.KubernetesCA, Client: certs.KubernetesCA, Path: "/metrics",
	},
	{
		Unit: "kube-scheduler.service", controlPlane: true, loopback: true, Port: schedulerPort,
		Cert: PKIDir + "/scheduler-server.crt", Server: certs.KubernetesCA, Client: certs.KubernetesCA, Path: "/metrics",
	},
	{
		Unit: KubeletService, Port: kubeletPort,
		Cert: "/var/lib/kubelet/pki/kubelet.crt", Server: certs.KubernetesCA, Client: certs.KubernetesCA, Path: "/metrics",
	},
}

// ProbeName is the user that a probe's certificate is for. Nobody has given it any rights.
const ProbeName = "slipway:probe"

// On says whether a node has the endpoint.
func (e Endpoint) On(n certs.Node) bool { return n.ControlPlane || !e.controlPlane }

// Address of an endpoint on a node.
func (e Endpoint) Address(n certs.Node) string {
	address := n.Address
	if e.loopback {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(address, uint16(e.Port)).String() //nolint:gosec // G115: a port of the table
}

// Shows says whether the endpoint has a certificate of its own to show; the others ask more of one that has.
func (e Endpoint) Shows() bool { return e.Cert != "" || e.ServerName != "" }

// Clients are the units that show client certificates to others on connections that last, and to which port.
// Clients of etcd are not among them: their connections last for as long as the process, and are not looked at again.
// Nor is front-proxy-client: its connections go to any port of any pod. API servers read it when its file changes, or
// within a minute, and take new connections for every request that begins then (k8s.io/kube-aggregator/pkg/apiserver,
// updateAPIService); under another authority they restart (unitTable).
var Clients = []struct {
	Unit, Cert string
	Port       int
	// Mixed says that the unit has other connections to there, which show tokens and last: those of controllers.
	Mixed bool
}{
	{"kube-apiserver.service", PKIDir + "/apiserver-kubelet-client.crt", kubeletPort, false},
	{"kube-controller-manager.service", PKIDir + "/controller-manager.crt", APIPort, true},
	{"kube-scheduler.service", PKIDir + "/scheduler.crt", APIPort, false},
	{KubeletService, "/var/lib/kubelet/pki/kubelet-client.crt", BalancerPort, false},
	{"kube-proxy.service", PKIDir + "/kube-proxy.crt", BalancerPort, false},
	{"flanneld.service", PKIDir + "/flannel.crt", BalancerPort, false},
}
