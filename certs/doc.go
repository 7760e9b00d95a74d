// Package certs declares, issues, loads, checks, renews and rotates a cluster's certificates, from one table.
//
// Table says what there should be; Ensure compares that with the Material at hand and issues, with cfssl, what is
// missing or no longer fits, giving a reason for each. Everything is bytes in, bytes out: where material is kept
// and how it reaches a machine is the caller's affair, though Files says what belongs on which node.
//
// The layout is kubeadm's (/etc/kubernetes/pki, its common names, organizations and subject alternative names),
// with three additions: the kubelet's serving certificate is signed by the cluster's CA, so that the API server can
// verify it; the controller manager and the scheduler get serving certificates instead of inventing them in memory,
// where they would expire unseen; kube-proxy and flannel are clients with names of their own.
//
// Authorities may be the user's own (Policy.Own), below others too, and may keep their keys elsewhere: their leaves are
// then asked for (SigningRequests) and taken in again (Import). What trusts an authority trusts it alone (PKI.Bundle).
//
// Ensure never replaces an authority that exists; where it differs from the policy, PKI.Drift says so. A Rotation does,
// in stages: it says which of two is used and which are trusted, and Ensure issues accordingly.
package certs
