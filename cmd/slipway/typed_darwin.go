package main

import "golang.org/x/sys/unix"

// dropTyped discards unread input of a terminal.
func dropTyped(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, unix.TCIFLUSH) }
