// Package local makes machines as Docker containers on this computer, with systemd and sshd. Each
// has a fixed address in the cluster's network, and is reached through a port of 127.0.0.1. There
// is also a balancer for the API.
//
// What exists is read from Docker's objects, by their labels; only keys are stored elsewhere, in
// the cluster's state directory. The package does not know Kubernetes; the machines only contain
// Debian.
package local
