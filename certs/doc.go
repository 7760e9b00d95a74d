// Package certs declares, issues, loads, checks, renews and rotates a cluster's certificates. They
// are defined by one table.
//
// Table lists the certificates that a cluster needs. Ensure compares this list with the existing
// Material, and issues (with cfssl) what is missing or no longer fits, with a reason for each. The
// package works on bytes: the caller stores material and copies it to machines. Files returns what
// belongs on each node.
//
// The layout is kubeadm's (/etc/kubernetes/pki, its common names, organizations and subject
// alternative names), with three additions: the kubelet's serving certificate is signed by the
// cluster's CA, so that the API server can verify it; the controller manager and the scheduler get
// serving certificates instead of making them in memory, where they would expire unnoticed;
// kube-proxy and flannel are clients with their own names.
//
// CAs may be the user's own (Policy.Own), and may have parents. A CA whose key is not available is
// an external CA: SigningRequests makes requests for its leaves, and Import accepts the signed
// certificates. Only the CA itself is trusted, never its parents (PKI.Bundle).
//
// Ensure never replaces an existing CA; if it differs from the policy, PKI.Drift says so. A
// Rotation replaces CAs in stages: it says which of the two is used and which are trusted, and
// Ensure issues accordingly.
package certs
