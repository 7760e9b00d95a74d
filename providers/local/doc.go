// Package local makes machines out of Docker containers on this computer: systemd and sshd, each with a fixed
// address in a network of its own, reached through ports of 127.0.0.1, and beside them a balancer for the API.
//
// What exists is read from Docker's own objects, by their labels; beside Docker only keys are kept, in the
// cluster's state directory. The package knows nothing of Kubernetes; the machines hold nothing but Debian.
package local
