// Package users issues client certificates to people, checks what they ask for, and remembers what was issued.
package users
