package main

import "golang.org/x/sys/unix"

// dropTyped discards unread input of a terminal.
func dropTyped(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }
