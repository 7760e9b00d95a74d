//go:build !linux && !darwin

package main

// dropTyped discards unread input of a terminal; it is not implemented here.
func dropTyped(int) error { return nil }
