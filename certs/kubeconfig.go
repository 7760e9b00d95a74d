package certs

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	clientcmdlatest "k8s.io/client-go/tools/clientcmd/api/latest"

	"slipway.dev/slipway/provision/secret"
)

// Access has the cluster, user and server of a kubeconfig.
type Access struct {
	// Cluster is the name of the cluster entry: metadata.name.
	Cluster string
	// User is the name of the user entry; the context is "<user>@<cluster>", as in kubeadm.
	User string
	// Server is the URL of the API server, "https://127.0.0.1:6444".
	Server string
}

// KubeconfigFiles returns a kubeconfig that refers to certificate files on its machine. Clients
// reload them, so a renewed certificate needs no restart. It contains no secrets.
func KubeconfigFiles(a Access, caFile, certFile, keyFile string) ([]byte, error) {
	return kubeconfig(a,
		&clientcmdapi.Cluster{CertificateAuthority: caFile},
		&clientcmdapi.AuthInfo{ClientCertificate: certFile, ClientKey: keyFile})
}

// KubeconfigEmbedded returns a kubeconfig that contains its certificate and key.
func KubeconfigEmbedded(a Access, ca []byte, client Item) (secret.Bytes, error) {
	return kubeconfig(a,
		&clientcmdapi.Cluster{CertificateAuthorityData: ca},
		&clientcmdapi.AuthInfo{ClientCertificateData: client.Cert, ClientKeyData: client.Key.Reveal()})
}

func kubeconfig(a Access, cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) ([]byte, error) {
	cluster.Server = a.Server
	name := a.User + "@" + a.Cluster
	config := clientcmdapi.NewConfig()
	config.Clusters[a.Cluster] = cluster
	config.AuthInfos[a.User] = user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: a.Cluster, AuthInfo: a.User}
	config.CurrentContext = name
	out, err := runtime.Encode(clientcmdlatest.Codec, config)
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig of %s: %w", name, err)
	}
	return out, nil
}
