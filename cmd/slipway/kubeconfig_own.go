package main

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/users"
)

// ownCAs are the CAs that the cluster has or had, which identify its entries in kubeconfigs.
type ownCAs struct {
	prints map[string]bool     // SHA-256 of public keys and of certificates, in hexadecimal
	certs  []*x509.Certificate // those whose certificate is still known
	// shared means that the CA is the user's own and may be used for other clusters, too: then an
	// entry must also have the server, and the signer of a certificate proves nothing.
	shared bool
	server string
}

// casOf returns cas for a cluster whose API is at an endpoint.
func (c *cluster) casOf(kept *keys.Stored, infra *spec.Infrastructure) ownCAs {
	own := casIn(kept)
	own.shared, own.server = c.spec.Spec.PKI.Authorities.Kubernetes != nil, "https://"+stack.ExternalEndpoint(c.spec, infra)
	return own
}

// casIn returns the CAs in the state: those of all stages of a rotation, and those whose
// kubeconfigs are recorded.
func casIn(s *keys.Stored) ownCAs {
	pki := s.PKI()
	own := ownCAs{prints: map[string]bool{}}
	for _, key := range pki.KnownKeys(certs.KubernetesCA) {
		own.prints[key] = key != ""
	}
	users, _ := users.ReadUsers(s.Users.Reveal()) // without a readable record fewer CAs are known
	for _, user := range users {
		own.prints[user.CA] = user.CA != ""
	}
	for _, item := range []certs.Item{pki.Material[certs.KubernetesCA], pki.Other[certs.KubernetesCA]} {
		if parsed, err := certs.Parse(item.Cert); err == nil && len(parsed) > 0 {
			own.certs = append(own.certs, parsed[0])
		}
	}
	return own
}

// trustedBy returns the certificates of a cluster entry that are CAs of the cluster.
func (own ownCAs) trustedBy(entry *clientcmdapi.Cluster) (mine []*x509.Certificate) {
	if own.shared && entry.Server != own.server {
		return nil
	}
	parsed, err := certs.Parse(inlined(entry.CertificateAuthorityData, entry.CertificateAuthority, entry.LocationOfOrigin))
	if err != nil {
		return nil
	}
	for _, cert := range parsed {
		if own.prints[fmt.Sprintf("%x", sha256.Sum256(cert.RawSubjectPublicKeyInfo))] || own.prints[certs.Fingerprint(cert.Raw)] {
			mine = append(mine, cert)
		}
	}
	return mine
}

// signed reports whether one of the CAs has signed the client certificate of a user entry.
func (own ownCAs) signed(entry *clientcmdapi.AuthInfo) bool {
	parsed, err := certs.Parse(inlined(entry.ClientCertificateData, entry.ClientCertificate, entry.LocationOfOrigin))
	return err == nil && len(parsed) > 0 && !own.shared &&
		slices.ContainsFunc(own.certs, func(ca *x509.Certificate) bool { return parsed[0].CheckSignatureFrom(ca) == nil })
}

// inlined returns the data of an entry, or of the file that it names, relative to the entry's file.
func inlined(data []byte, file, origin string) []byte {
	if len(data) > 0 || file == "" {
		return data
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(origin), file)
	}
	content, _ := os.ReadFile(file) //nolint:gosec,errcheck // G304: the user's kubeconfig names it; what cannot be read proves nothing
	return content
}

// takenError means that a kubeconfig has another cluster's entry under the wanted name.
type takenError struct {
	Kind, Name            string // of the entry: cluster, context or user
	Cluster, Server, File string // the other cluster's entry, its server, and the file of the entry
}

func (e *takenError) Error() string {
	return fmt.Sprintf("the kubeconfig %s has a %s %q of another cluster (%s at %s): it is not overwritten, and nothing was changed; "+
		"give --context NAME to use another name for this cluster", e.File, e.Kind, e.Name, e.Cluster, e.Server)
}

// checkTaken returns the first entry of another cluster that merging mine would overwrite: one
// whose server differs, and whose CA the cluster has never had. An entry with a changed port or a
// rotated CA is of the same cluster.
func checkTaken(there, mine *clientcmdapi.Config, own ownCAs) error {
	server := ""
	for _, entry := range mine.Clusters {
		server = entry.Server
	}
	others := func(name string) *clientcmdapi.Cluster {
		entry := there.Clusters[name]
		if entry == nil || entry.Server == server || len(own.trustedBy(entry)) > 0 {
			return nil
		}
		return entry
	}
	for _, name := range slices.Sorted(maps.Keys(mine.Clusters)) {
		if other := others(name); other != nil {
			return &takenError{"cluster", name, name, other.Server, other.LocationOfOrigin}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(mine.Contexts)) {
		if old := there.Contexts[name]; old != nil {
			if other := others(old.Cluster); other != nil {
				return &takenError{"context", name, old.Cluster, other.Server, old.LocationOfOrigin}
			}
		}
		user := there.AuthInfos[name] // the user has the context's name
		for _, cluster := range clustersOf(there, name) {
			if other := others(cluster); other != nil && user != nil {
				return &takenError{"user", name, cluster, other.Server, user.LocationOfOrigin}
			}
		}
	}
	return nil
}

// clustersOf returns the clusters of the contexts that have a user, in the order of the contexts'
// names.
func clustersOf(config *clientcmdapi.Config, user string) []string {
	var clusters []string
	for _, name := range slices.Sorted(maps.Keys(config.Contexts)) {
		if context := config.Contexts[name]; context.AuthInfo == user {
			clusters = append(clusters, context.Cluster)
		}
	}
	return clusters
}

// renamed returns a kubeconfig of one context with all its entries named name.
func renamed(config *clientcmdapi.Config, name string) *clientcmdapi.Config {
	context := config.Contexts[config.CurrentContext]
	out := clientcmdapi.NewConfig()
	out.Clusters[name] = config.Clusters[context.Cluster]
	out.AuthInfos[name] = config.AuthInfos[context.AuthInfo]
	out.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	out.CurrentContext = name
	return out
}
