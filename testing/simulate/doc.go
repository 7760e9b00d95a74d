// Package simulate is a cluster in memory, and a simulation of what happens to clusters.
//
// Its hosts have files, units, accounts, etcd's data and clocks, and run the scripts that slipway sends them; units that
// start have consequences: members of etcd make a quorum, API servers serve, nodes get Ready. A run of apply on it is that
// of provision/*, but for the wire: hosts, the API and etcd are called, not dialed.
//
// It runs on the clock of testing/synctest, and nothing happens at the same moment as anything else: all that takes time
// takes as long as a seed says. So one seed is one course of events, whatever the scheduler does.
//
// It is not a model of Kubernetes: pods, networks and disks of their own are not in it.
package simulate
