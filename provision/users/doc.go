// Package users issues client certificates to people, checks their names and validity, and records
// what was issued.
package users
