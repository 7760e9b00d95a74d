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

// ownCAs are the authorities that the cluster has or had, by which its entries in kubeconfigs are known.
type ownCAs struct {
	prints map[string]bool     // SHA-256 of public keys and of certificates, in hexadecimal
	certs  []*x509.Certificate // those whose certificate is known still
	// shared says that the authority is the user's own, who may have given it to other clusters: then an entry has to have the
	// server as well, and who has signed a certificate says nothing.
	shared bool
	server string
}

// casOf are cas of a cluster whose API is at an endpoint.
func (c *cluster) casOf(kept *keys.Stored, infra *spec.Infrastructure) ownCAs {
	own := casIn(kept)
	own.shared, own.server = c.spec.Spec.PKI.Authorities.Kubernetes != nil, "https://"+stack.ExternalEndpoint(c.spec, infra)
	return own
}

// casIn are the authorities of the state: those of all stages of a rotation, and those whose kubeconfigs are on record.
func casIn(s *keys.Stored) ownCAs {
	pki := s.PKI()
	own := ownCAs{prints: map[string]bool{}}
	for _, key := range pki.KnownKeys(certs.KubernetesCA) {
		own.prints[key] = key != ""
	}
	users, _ := users.ReadUsers(s.Users.Reveal()) // a record that cannot be read only knows less
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

// trustedBy are those certificates of a cluster entry that are authorities of the cluster.
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

// signed tells whether one of the authorities has signed the client certificate of a user entry.
func (own ownCAs) signed(entry *clientcmdapi.AuthInfo) bool {
	parsed, err := certs.Parse(inlined(entry.ClientCertificateData, entry.ClientCertificate, entry.LocationOfOrigin))
	return err == nil && len(parsed) > 0 && !own.shared &&
		slices.ContainsFunc(own.certs, func(ca *x509.Certificate) bool { return parsed[0].CheckSignatureFrom(ca) == nil })
}

// inlined is what an entry has, or the file that it names, seen from that of the entry.
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

// takenError says that a kubeconfig has another cluster's entry under the name that is wanted.
type takenError struct {
	Kind, Name            string // of the entry: cluster, context or user
	Cluster, Server, File string // the other's cluster entry, where it is, and the file of the entry
}

func (e *takenError) Error() string {
	return fmt.Sprintf("the kubeconfig %s has a %s %q of another cluster (%s at %s): it is not overwritten, and nothing was changed; "+
		"give --context NAME to have this cluster under another name", e.File, e.Kind, e.Name, e.Cluster, e.Server)
}

// checkTaken finds what merging mine would overwrite of another cluster: one whose server differs, and whose CA the cluster
// has never had. A changed port or a rotated CA is the same cluster.
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
		for _, used := range slices.Sorted(maps.Keys(there.Contexts)) { // the user is called as the context is
			context, user := there.Contexts[used], there.AuthInfos[name]
			if user == nil || context.AuthInfo != name {
				continue
			}
			if other := others(context.Cluster); other != nil {
				return &takenError{"user", name, context.Cluster, other.Server, user.LocationOfOrigin}
			}
		}
	}
	return nil
}

// renamed is a kubeconfig of one context with all its entries called name.
func renamed(config *clientcmdapi.Config, name string) *clientcmdapi.Config {
	context := config.Contexts[config.CurrentContext]
	out := clientcmdapi.NewConfig()
	out.Clusters[name] = config.Clusters[context.Cluster]
	out.AuthInfos[name] = config.AuthInfos[context.AuthInfo]
	out.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	out.CurrentContext = name
	return out
}
