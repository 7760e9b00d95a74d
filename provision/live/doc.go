// Package live reaches a living cluster through its hosts: its API, its etcd and the TLS endpoints of its components.
// It asks and waits; it changes nothing.
package live
