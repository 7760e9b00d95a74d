package main

import "golang.org/x/sys/unix"

// dropTyped forgets what was typed on a terminal and not read yet.
func dropTyped(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, unix.TCIFLUSH) }
