// Command touched says which long end-to-end tests a change touches, as a pattern for `go test -run`.
//
// The long tests are those of testing/e2e whose names begin with TestLong: `make test` leaves them out, `make e2e-all` runs
// all of them. A table (table.go) has, for each package that ships code, the long tests that could find a mistake in it.
//
//	go run ./testing/touched -base main   # what differs from main, uncommitted files included
//	go run ./testing/touched              # each test: what changed since the commit at which it last passed (passed.txt)
//	go run ./testing/touched -minutes 5   # only what fits; what is left out is named on stderr
//	go run ./testing/touched -record FILE # write to passed.txt what passed in a run; FILE is the output of go test -json
//
// It runs no test, and it knows nothing of the tests that `make test` runs every time.
package main
