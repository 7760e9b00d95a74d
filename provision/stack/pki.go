package stack

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	clientcmdlatest "k8s.io/client-go/tools/clientcmd/api/latest"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
)

// kubeconfigRow is a kubeconfig on a host. It points at certificate files, which clients reread: a renewal needs no
// restart and changes no kubeconfig.
type kubeconfigRow struct {
	name string // of the file in /etc/kubernetes
	on   func(Node) bool
	user string
	port int
	cert string // path without extension
}

func (r kubeconfigRow) path() string { return KubernetesDir + "/" + r.name }

// kubeconfigTable: what speaks for the whole cluster goes to the API server beside it, whose version it must not
// exceed during an upgrade (the version skew policy); what speaks for the node goes through the node's balancer.
var kubeconfigTable = []kubeconfigRow{
	{"controller-manager.kubeconfig", Node.ControlPlane, "system:kube-controller-manager", APIPort, PKIDir + "/controller-manager"},
	{"scheduler.kubeconfig", Node.ControlPlane, "system:kube-scheduler", APIPort, PKIDir + "/scheduler"},
	{"kubelet.conf", Everywhere, "system:node", BalancerPort, "/var/lib/kubelet/pki/kubelet-client"},
	{"kube-proxy.conf", Everywhere, "system:kube-proxy", BalancerPort, PKIDir + "/kube-proxy"},
	{"flannel.conf", Node.flannel, "system:flannel", BalancerPort, PKIDir + "/flannel"},
}

// pki adds the certificates, keys and kubeconfigs of a node to files.
func (n Node) pki(files map[string]File) error {
	for _, f := range n.certs {
		files[f.Path] = Regular(f.Content.Reveal(), f.Secret, "PKI")
	}
	for _, row := range kubeconfigTable {
		if !row.on(n) {
			continue
		}
		text, err := n.once(row.path(), func() ([]byte, error) {
			access := certs.Access{Cluster: n.Cluster.Metadata.Name, User: row.user, Server: LoopbackURL(row.port)}
			return certs.KubeconfigFiles(access, PKIDir+"/ca.crt", row.cert+".crt", row.cert+".key")
		})
		if err != nil {
			return err
		}
		files[row.path()] = n.file(text, true, "kubeconfig") // it holds no secret, but what somebody puts in its place may
	}
	if !n.ControlPlane() {
		return nil
	}
	for _, row := range Embedded {
		access := certs.Access{Cluster: n.Cluster.Metadata.Name, User: row.user, Server: LoopbackURL(row.port)}
		text, err := certs.KubeconfigEmbedded(access, n.PKI.Chain(certs.KubernetesCA), n.PKI.Material[row.Item(n.Name)])
		if err != nil {
			return err
		}
		files[KubernetesDir+"/"+row.Name] = Regular(text.Reveal(), true, "kubeconfig")
	}
	return nil
}

// Embedded are kubeconfigs with their certificates inside, on control planes, for people and for kubeadm's tools,
// which refuse others under these names (`kubeadm certs check-expiration`). No component reads them.
var Embedded = []struct {
	Name, user string
	port       int
	Item       func(node string) string
}{
	{"admin.conf", "kubernetes-admin", BalancerPort, func(string) string { return certs.Admin }},
	{"controller-manager.conf", "system:kube-controller-manager", APIPort, func(n string) string { return "controller-manager@" + n }},
	{"scheduler.conf", "system:kube-scheduler", APIPort, func(n string) string { return "scheduler@" + n }},
}

// CertInputs is what the PKI of a cluster depends on.
func CertInputs(c *spec.Cluster, machines []spec.Machine, extraSANs []string) certs.Inputs {
	sans := append(slices.Clone(c.Spec.ControlPlane.CertSANs), extraSANs...)
	if e := c.Spec.ControlPlane.Endpoint; e != "" {
		if name, _, err := net.SplitHostPort(e); err == nil {
			e = name
		}
		sans = append(sans, e)
	}
	in := certs.Inputs{
		ClusterName: c.Metadata.Name, DNSDomain: c.Spec.Network.DNSDomain, APIServiceIP: c.Spec.Network.APIServiceIP(),
		EndpointSANs: sans, EtcdSANs: c.Spec.Etcd.CertSANs, KubeletDomains: c.Spec.PKI.KubeletDomains,
	}
	for _, m := range machines {
		in.Nodes = append(in.Nodes, CertsNode(m))
	}
	return in
}

// CertsNode is a machine as certificates name it.
func CertsNode(m spec.Machine) certs.Node {
	return certs.Node{Name: m.Name, Address: m.Address, ControlPlane: m.Role == spec.ControlPlane}
}

// LoopbackURL is "https://127.0.0.1:port".
func LoopbackURL(port int) string { return fmt.Sprintf("https://127.0.0.1:%d", port) }

// AdminUser is the user of AdminKubeconfig.
const AdminUser = "kubernetes-admin"

// AdminKubeconfig is what a person gets: certificate and key inside, for the API at server (a URL).
func AdminKubeconfig(cluster, server string, pki *certs.PKI) (secret.Bytes, error) {
	access := certs.Access{Cluster: cluster, User: AdminUser, Server: server}
	return certs.KubeconfigEmbedded(access, pki.Chain(certs.KubernetesCA), pki.Material[certs.Admin])
}

// ClusterInfo is the kubeconfig in kube-public/cluster-info: how to reach and trust the cluster, and no credentials.
// Its one cluster has no name, as kubeadm writes it. It is for other machines: where the endpoint is a port of this
// computer's loopback interface, the first API server is named in its place.
func ClusterInfo(in Input) ([]byte, error) {
	server := in.Endpoint
	if endpoint, err := netip.ParseAddrPort(server); err == nil && endpoint.Addr().IsLoopback() {
		server = netip.AddrPortFrom(in.ControlPlanes()[0].Address, APIPort).String()
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[""] = &clientcmdapi.Cluster{
		Server: "https://" + server, CertificateAuthorityData: in.PKI.Chain(certs.KubernetesCA),
	}
	text, err := runtime.Encode(clientcmdlatest.Codec, config)
	if err != nil {
		return nil, fmt.Errorf("encode cluster-info: %w", err)
	}
	return text, nil
}
