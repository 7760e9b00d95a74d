package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// passedFile is where it lies, from the module's root.
const passedFile = "testing/touched/passed.txt"

func main() {
	base := flag.String("base", "", "a commit: what differs from it counts (default: for each test, the commit at which it last passed)")
	minutes := flag.Int("minutes", -1, "choose only what takes about so many minutes together (default: all)")
	record := flag.String("record", "", "write to "+passedFile+" what passed in a run with this output of go test -json")
	flag.Parse()
	if err := run(os.Stdout, os.Stderr, *base, *minutes, *record); err != nil {
		fmt.Fprintln(os.Stderr, "touched:", err)
		os.Exit(1)
	}
}

func run(stdout, stderr io.Writer, base string, minutes int, record string) error {
	tree, err := openTree()
	if err != nil {
		return err
	}
	passed, err := tree.passed()
	if err != nil {
		return err
	}
	if record != "" {
		return tree.record(stderr, passed, record)
	}
	touched, err := choose(stderr, tree, base, passed)
	if err != nil {
		return err
	}
	chosen, left := fit(touched, passed, minutes)
	for _, test := range left {
		say(stderr, "left out: %s (%s; there are %d minutes)\n", test, passed[test].length(), minutes)
	}
	if len(chosen) > 0 {
		say(stdout, "%s\n", pattern(chosen))
	}
	return nil
}

// choose says which long tests are touched, and tells why.
func choose(stderr io.Writer, tree *tree, base string, passed map[string]pass) ([]string, error) {
	packages, err := tree.packages()
	if err != nil {
		return nil, err
	}
	var touched []string
	for _, test := range long {
		since := base
		if since == "" {
			since = passed[test].commit
		}
		if since == "" || base == "" && !tree.has(since) {
			say(stderr, "touched: %s (it is not known when it last passed)\n", test)
			touched = append(touched, test)
			continue
		}
		files, err := tree.changed(since)
		if err != nil {
			return nil, err
		}
		if causes := packages.causes(test, files); len(causes) > 0 {
			say(stderr, "touched: %s (by %s since %.12s)\n", test, strings.Join(causes, ", "), since)
			touched = append(touched, test)
		}
	}
	return touched, nil
}

// fit chooses tests until the minutes are full; less than 0 is without a limit.
func fit(tests []string, passed map[string]pass, minutes int) (chosen, left []string) {
	var seconds []int
	for _, test := range tests {
		with := append(slices.Clone(seconds), passed[test].assumed())
		if minutes >= 0 && together(with) > minutes*60 {
			left = append(left, test)
			continue
		}
		seconds, chosen = with, append(chosen, test)
	}
	return chosen, left
}

// together is how long tests take of which two run at a time, the longest first, as testing/e2e has it.
func together(seconds []int) int {
	var lanes [2]int
	slices.Sort(seconds)
	for _, s := range slices.Backward(seconds) {
		if lanes[0] <= lanes[1] {
			lanes[0] += s
		} else {
			lanes[1] += s
		}
	}
	return max(lanes[0], lanes[1])
}

func pattern(tests []string) string {
	return "^(" + strings.Join(slices.Sorted(slices.Values(tests)), "|") + ")$"
}

func say(to io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(to, format, args...) }
