package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// machine is what an architecture is called outside of Go.
type machine struct {
	elf elf.Machine
	// uname is what `uname -m` says, with which the names of GNU tools begin.
	uname string
}

// triplet begins the names of GNU tools that make programs for it on another computer.
func (m machine) triplet() string { return m.uname + "-linux-gnu" }

// machines are the architectures of hosts, by Go's names. All components support them; etcd, too,
// asks for no ETCD_UNSUPPORTED_ARCH on them (go.etcd.io/etcd/server/v3/etcdmain, checkSupportArch).
var machines = map[string]machine{
	"amd64": {elf.EM_X86_64, "x86_64"},
	"arm64": {elf.EM_AARCH64, "aarch64"},
}

// Architectures returns those that bundles are made for, by Go's names, sorted.
func Architectures() []string { return slices.Sorted(maps.Keys(machines)) }

// ArchitectureOf returns Go's name for what `uname -m` says, and whether bundles are made for it: if
// they are not, it is that word itself.
func ArchitectureOf(uname string) (arch string, known bool) {
	for arch, m := range machines {
		if m.uname == uname {
			return arch, true
		}
	}
	return uname, false
}

// CheckArchitecture refuses one that no bundle is made for, and names those that are.
func CheckArchitecture(arch string) error {
	if _, ok := machines[arch]; ok {
		return nil
	}
	return fmt.Errorf("no bundle for the architecture %q: this slipway has %s", arch, strings.Join(Architectures(), ", "))
}

// headSize is how much of a program says for which machine it is: e_ident, e_type, and e_machine
// of elf(5).
const headSize = 20

// foreign are the first bytes of other systems' programs: Mach-O of 64 bits and of several
// architectures (mach-o/loader.h, mach-o/fat.h), and PE (winnt.h).
var foreign = map[string]string{"\xcf\xfa\xed\xfe": "macOS", "\xca\xfe\xba\xbe": "macOS", "MZ": "Windows"}

// checkMachine refuses a program that Linux on an architecture cannot run. head is its first
// headSize bytes, or all of a shorter one. What is no program of any system, as a script, has no
// architecture.
func checkMachine(head []byte, arch string) error {
	for magic, system := range foreign {
		if bytes.HasPrefix(head, []byte(magic)) {
			return fmt.Errorf("it is a program for %s, not for Linux on %s", system, arch)
		}
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return nil
	}
	if len(head) < headSize {
		return errors.New("it is a program that breaks off in its header")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	is, want := elf.Machine(order.Uint16(head[18:])), machines[arch].elf
	if is == want && elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64 {
		return nil
	}
	return fmt.Errorf("it is a program for %s, not for %s (%s)", strings.TrimPrefix(is.String(), "EM_"), arch, strings.TrimPrefix(want.String(), "EM_"))
}

// checkProgram is checkMachine of a file.
func checkProgram(file, arch string) error {
	f, err := os.Open(file) //nolint:gosec // a file of the cache
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	head, err := io.ReadAll(io.LimitReader(f, headSize))
	if err == nil {
		err = checkMachine(head, arch)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// checkImage is checkMachine of the programs in an image, which writeImage wrote, and compares the
// architecture that its configuration has.
func checkImage(ctx context.Context, file, arch string) error {
	f, err := os.Open(file) //nolint:gosec // a file of the cache
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	in := bufio.NewReader(&contextReader{ctx, f})
	if head, _ := in.Peek(tarHead); !isArchive(head) { // an error comes again
		return nil
	}
	if err := checkBlobs(in, arch); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// checkBlobs looks at every file of an archive: those that are archives themselves are layers, and
// the configuration is the one with an architecture.
func checkBlobs(archive io.Reader, arch string) error {
	files := tar.NewReader(archive)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(files)
		if err != nil {
			return err
		}
		if err := checkMachine(content[:min(headSize, len(content))], arch); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
		var config struct{ Architecture string }
		if json.Unmarshal(content, &config) == nil && config.Architecture != "" && config.Architecture != arch {
			return fmt.Errorf("it is an image for %s, not for %s", config.Architecture, arch)
		}
		if isArchive(content) {
			if err := checkBlobs(bytes.NewReader(content), arch); err != nil {
				return err
			}
		}
	}
}

// tarHead is how much of a tar file says that it is one: POSIX has "ustar" at 257.
const tarHead = 262

func isArchive(content []byte) bool {
	return len(content) >= tarHead && string(content[257:tarHead]) == "ustar"
}
