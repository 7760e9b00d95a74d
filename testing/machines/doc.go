// Package machines makes machines that slipway did not make, for the tests of what manages existing
// ones: Debian 12 and 13 as their packages leave them, with systemd, sshd and a user whose sudo asks
// for a password, behind up to two bastions, on networks of their own.
//
// Machines are Docker containers, or user-mode Linux with a kernel of its own; nothing of this
// computer is mounted in them. Whatever a test made is removed at its end.
//
// Only tests import it, and it knows nothing of slipway: machines that exist have never heard of it.
package machines
