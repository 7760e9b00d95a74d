// Package live reaches a running cluster through its hosts: its API, its etcd and the TLS endpoints
// of its components. It queries and waits; it changes nothing.
package live
