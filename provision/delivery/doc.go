// Package delivery brings programs to many machines through a narrow uplink: each is compressed
// once (Packer), the operator's machine sends each once if the machines can reach each other, and
// who has one gives it to others (Board). From a mirror, a web server with the same files (Publish),
// machines fetch them themselves.
//
// Board decides who gets what from whom: it is pure, a value that is told what happened. Packer
// compresses on the operator's machine. Serve, Fetch and Unpack run on the machines, as hidden subcommands
// of slipway. How machines are reached, and the order of all this, is in package converge.
package delivery
