// Package observe reads the state of hosts, the health of a cluster, and certificates where they
// are used. It changes nothing.
package observe
