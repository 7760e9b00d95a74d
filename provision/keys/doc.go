// Package keys has a cluster's keys and certificates as the state store keeps them: loaded, completed with what is
// missing, saved. What certificates there are and whether one fits is the business of package certs.
package keys
