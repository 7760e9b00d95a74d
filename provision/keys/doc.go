// Package keys loads a cluster's keys and certificates from the state store, adds what is missing,
// and saves them. Package certs defines the certificates and checks them.
package keys
