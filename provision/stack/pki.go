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

// pki adds the certificates, keys and kubeconfigs of a node to files.
func (n Node) pki(files map[string]File) error {
	for _, f := range n.certs {
		files[f.Path] = Regular(f.Content.Reveal(), f.Secret, "PKI")
	}
	for _, c := range n.components {
		for _, row := range c.Kubeconfigs {
			text, err := n.once(row.path(), func() ([]byte, error) {
				access := certs.Access{Cluster: n.Cluster.Metadata.Name, User: row.User, Server: LoopbackURL(row.Port)}
				return certs.KubeconfigFiles(access, CAFile, row.Cert+".crt", row.Cert+".key")
			})
			if err != nil {
				return err
			}
			files[row.path()] = n.file(text, true, "kubeconfig") // it holds no secret, but a file that replaced it may
		}
		for _, row := range c.Embedded {
			access := certs.Access{Cluster: n.Cluster.Metadata.Name, User: row.User, Server: LoopbackURL(row.Port)}
			text, err := certs.KubeconfigEmbedded(access, n.PKI.Chain(certs.KubernetesCA), n.PKI.Material[row.Item(n.Name)])
			if err != nil {
				return err
			}
			files[row.path()] = Regular(text.Reveal(), true, "kubeconfig")
		}
	}
	return nil
}

// CertInputs returns what the PKI of a cluster depends on.
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
		Clients: map[string][]certs.Client{},
	}
	for _, m := range machines {
		in.Nodes = append(in.Nodes, CertsNode(m))
		n := Node{Input: &Input{Cluster: c}, Node: spec.Node{Name: m.Name, Pool: m.Pool, Role: m.Role}, machine: m}
		for _, component := range Components {
			if len(component.Certs) > 0 && component.On(n) {
				in.Clients[m.Name] = append(in.Clients[m.Name], component.Certs...)
			}
		}
	}
	return in
}

// ClientCerts returns the client certificates that a node can have for components that are not
// Kubernetes' own, whatever the spec says.
func ClientCerts() []certs.Client {
	var all []certs.Client
	for _, c := range Components {
		all = append(all, c.Certs...)
	}
	return all
}

// CertsNode returns a machine in the form that certificates need.
func CertsNode(m spec.Machine) certs.Node {
	return certs.Node{Name: m.Name, Address: m.Address, ControlPlane: m.Role == spec.ControlPlane}
}

// LoopbackURL is "https://127.0.0.1:port".
func LoopbackURL(port int) string { return fmt.Sprintf("https://127.0.0.1:%d", port) }

// AdminUser is the user of AdminKubeconfig.
const AdminUser = "kubernetes-admin"

// AdminKubeconfig is the kubeconfig for a person: it contains certificate and key, for the API at
// server (a URL).
func AdminKubeconfig(cluster, server string, pki *certs.PKI) (secret.Bytes, error) {
	access := certs.Access{Cluster: cluster, User: AdminUser, Server: server}
	return certs.KubeconfigEmbedded(access, pki.Chain(certs.KubernetesCA), pki.Material[certs.Admin])
}

// ClusterInfo is the kubeconfig in kube-public/cluster-info: how to reach and trust the cluster,
// without credentials. Its only cluster has no name, as kubeadm writes it. It is for other
// machines: if the endpoint is a port of this computer's loopback interface, it contains the first
// API server instead.
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
