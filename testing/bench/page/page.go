// Package page writes docs/benchmarks.md, of which every benchmark has a section of its own, and says on what computer
// that was made. What the figures are is not its business.
package page

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
)

const title = "# Benchmarks\n"

// Write puts text under a heading ("Beside kubeadm") of a file: in the place of what is there, else at the end. All
// other sections stay as they are.
func Write(file, heading, text string) error {
	have, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(file, []byte(replace(string(have), heading, text)), 0o644)
}

func replace(have, heading, text string) string {
	if strings.TrimSpace(have) == "" {
		have = title
	}
	section := "## " + heading + "\n\n" + strings.TrimSpace(text) + "\n"
	before, rest, found := strings.Cut(have, "\n## "+heading+"\n")
	if !found {
		return strings.TrimRight(have, "\n") + "\n\n" + section
	}
	if _, after, more := strings.Cut(rest, "\n## "); more {
		section += "\n## " + after
	}
	return before + "\n" + section
}

// Computer is what this one has, and what else it is doing.
func Computer() (string, error) {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%d cores (%s), %s of memory, Linux %s; load average at the start %s", runtime.NumCPU(),
		ProcField("/proc/cpuinfo", "model name"), memory(ProcField("/proc/meminfo", "MemTotal")), strings.TrimSpace(string(kernel)), first), nil
}

// memory turns what /proc/meminfo says, "24684096 kB", into GiB.
func memory(field string) string {
	kb, err := strconv.Atoi(strings.TrimSuffix(field, " kB"))
	if err != nil {
		return field
	}
	return fmt.Sprintf("%d GiB", (kb+1<<19)>>20)
}

// ProcField is the value of the first "name: value" line of a file.
func ProcField(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
