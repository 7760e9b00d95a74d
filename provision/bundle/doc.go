// Package bundle pins, makes, stores and checks everything that a host needs to become a node: the
// binaries of Kubernetes, etcd, containerd and the rest, and the two images (pause, CoreDNS)
// without which no pod starts.
//
// A bundle is a directory <cache>/bundles/<digest>/ with bundle.json, bin/ and images/. The digest
// is that of the list of artifacts, so equal contents have equal names, however they were made.
// [Build] makes one from source through Go modules whose go.mod and go.sum are committed under
// recipes/; [Download] gets upstream releases and checks them against pinned digests; [Ensure]
// chooses. They only differ in the source: the components are in one table (recipe.go), and their
// upstream locations are a column of it (source.go).
//
// The package does not install anything on hosts: it only says which file has which digest. It does
// not read flags or the environment (but passes the latter to the Go toolchain), and prints
// nothing.
package bundle
