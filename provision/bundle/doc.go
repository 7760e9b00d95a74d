// Package bundle pins, makes, keeps and checks everything that a host needs to become a node: the binaries of
// Kubernetes, etcd, containerd and the rest, and the two images (pause, CoreDNS) without which no pod starts.
//
// A bundle is a directory <cache>/bundles/<digest>/ with bundle.json, bin/ and images/. The digest is that of the list
// of artifacts, so equal contents have equal names wherever and however they were made. [Build] makes one from source
// through Go modules whose go.mod and go.sum are committed under recipes/; [Download] takes upstream releases and holds
// them against the digests published beside them; [Ensure] picks. All three share everything but the source: what is
// wanted is one table (recipe.go), where upstream publishes it is a column of it (source.go).
//
// The package delivers nothing to hosts: it only says which file has which digest. It reads neither flags nor the
// environment (but hands the latter to the Go toolchain it starts) and prints nothing.
package bundle
