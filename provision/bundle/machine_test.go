package bundle

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// elfProgram is a program's header for a machine, and then text.
func elfProgram(machine elf.Machine, class elf.Class, data elf.Data, text string) []byte {
	head := make([]byte, 64)
	copy(head, elf.ELFMAG)
	head[elf.EI_CLASS], head[elf.EI_DATA] = byte(class), byte(data)
	var order binary.ByteOrder = binary.LittleEndian
	if data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	order.PutUint16(head[16:], uint16(elf.ET_EXEC))
	order.PutUint16(head[18:], uint16(machine))
	return append(head, text...)
}

func armProgram(text string) []byte {
	return elfProgram(elf.EM_AARCH64, elf.ELFCLASS64, elf.ELFDATA2LSB, text)
}

// TestMachineOfAProgram: what Linux on an architecture cannot run is refused, and what is no program
// of any system is not.
func TestMachineOfAProgram(t *testing.T) {
	intel := elfProgram(elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB, "x")
	for name, test := range map[string]struct {
		content []byte
		arch    string
		want    string // "" is no error
	}{
		"amd64":                  {intel, "amd64", ""},
		"arm64":                  {armProgram("x"), "arm64", ""},
		"arm64 for amd64":        {armProgram("x"), "amd64", "it is a program for AARCH64, not for amd64 (X86_64)"},
		"amd64 for arm64":        {intel, "arm64", "it is a program for X86_64, not for arm64 (AARCH64)"},
		"x32":                    {elfProgram(elf.EM_X86_64, elf.ELFCLASS32, elf.ELFDATA2LSB, ""), "amd64", "not for amd64"},
		"386":                    {elfProgram(elf.EM_386, elf.ELFCLASS32, elf.ELFDATA2LSB, ""), "amd64", "it is a program for 386"},
		"s390x, which is big":    {elfProgram(elf.EM_S390, elf.ELFCLASS64, elf.ELFDATA2MSB, ""), "amd64", "it is a program for S390"},
		"a header that ends":     {intel[:10], "amd64", "breaks off"},
		"macOS":                  {[]byte("\xcf\xfa\xed\xfe\x0c\x00\x00\x01"), "arm64", "a program for macOS, not for Linux on arm64"},
		"Windows":                {[]byte("MZ\x90\x00"), "amd64", "a program for Windows"},
		"a script":               {[]byte("#!/bin/sh\nexec true\n"), "arm64", ""},
		"nothing":                {nil, "arm64", ""},
		"a machine without name": {elfProgram(65000, elf.ELFCLASS64, elf.ELFDATA2LSB, ""), "arm64", "not for arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkMachine(test.content[:min(headSize, len(test.content))], test.arch)
			if test.want == "" {
				must(t, err)
				return
			}
			wantError(t, err, test.want)
		})
	}
}

// rewrite gives a file of a bundle another content, and its artifact the digest of that.
func rewrite(t *testing.T, b *Bundle, name string, content []byte) {
	t.Helper()
	i := slices.IndexFunc(b.Artifacts, func(a Artifact) bool { return a.Name == name })
	file := b.File(b.Artifacts[i])
	must(t, os.Remove(file)) // its other names keep what they have
	must(t, os.WriteFile(file, content, 0o755))
	must(t, b.Artifacts[i].measure(t.Context(), file))
	text, err := json.Marshal(b)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(b.Dir, "bundle.json"), text, 0o644))
}

// TestProgramsOfAnotherMachineAreRefused, though their digests are right: by all that opens or checks
// a bundle.
func TestProgramsOfAnotherMachineAreRefused(t *testing.T) {
	b, o := makeBundle(t)
	rewrite(t, b, "kubelet", armProgram("kubelet"))
	_, err := Open(b.Dir)
	wantError(t, err, "bin/kubelet: it is a program for AARCH64, not for amd64")
	wantError(t, b.Verify(t.Context()), "bin/kubelet: it is a program for AARCH64, not for amd64")
	bundles, err := List(o.CacheDir)
	wantError(t, err, "bin/kubelet: it is a program for AARCH64")
	if len(bundles) != 0 {
		t.Errorf("listed are %d bundles", len(bundles))
	}
}

func TestBundlesHaveOneArchitecture(t *testing.T) {
	b, _ := makeBundle(t)
	if b.Arch() != "amd64" || (&Bundle{}).Arch() != "" {
		t.Errorf("it is for %q", b.Arch())
	}
	b.Artifacts[1].Arch = "arm64"
	text, err := json.Marshal(b)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(b.Dir, "bundle.json"), text, 0o644))
	_, err = Open(b.Dir)
	wantError(t, err, "kubelet is for arm64, and others are for amd64")
}

// TestImagesOfAnotherMachineAreRefused: what an image says that it is for, and what its program is.
func TestImagesOfAnotherMachineAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		program []byte
		says    string
		want    string
	}{
		"both are right":          {elfProgram(elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB, "pause"), "amd64", ""},
		"the program is for arm":  {armProgram("pause"), "amd64", "images/pause.tar: pause: it is a program for AARCH64, not for amd64"},
		"the image says another":  {elfProgram(elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB, "pause"), "arm64", "images/pause.tar: it is an image for arm64, not for amd64"},
		"what it says and has is": {armProgram("pause"), "arm64", "images/pause.tar: "},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := makeBundle(t)
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "pause"), test.program, 0o755))
			must(t, writeImage(filepath.Join(dir, "pause.tar"), image{Ref: "slipway.invalid/pause:3.10.2"}, filepath.Join(dir, "pause"), test.says))
			content, err := os.ReadFile(filepath.Join(dir, "pause.tar"))
			must(t, err)
			rewrite(t, b, "pause.tar", content)
			b.Dir, err = filepath.Abs(b.Dir)
			must(t, err)
			opened, err := Open(b.Dir)
			must(t, err)
			moved := filepath.Join(dir, "bundle") // its name is not its digest any more
			must(t, os.Rename(b.Dir, moved))
			opened.Dir = moved
			if err = opened.Verify(t.Context()); test.want == "" {
				must(t, err)
				return
			}
			wantError(t, err, test.want)
		})
	}
}

// TestDownloadsOfAnotherMachineAreRefused: a mirror that has another architecture's file under the
// right name, with a digest that it publishes too.
func TestDownloadsOfAnotherMachineAreRefused(t *testing.T) {
	rows := rowsNamed(t, "runc")
	files := published(t, rows)
	files[runcFile] = armProgram("runc")
	files[runcDigest] = []byte(bytesDigest(files[runcFile]) + "  " + path.Base(runcFile) + "\n")
	_, _, err := downloadTest(t, t.TempDir(), serve(t, files).URL, rows)
	wantError(t, err, "runc v1.5.2:", "it is a program for AARCH64, not for amd64")
}

func TestArchitectures(t *testing.T) {
	_, err := Build(t.Context(), Options{CacheDir: t.TempDir(), Arch: "riscv64"})
	wantError(t, err, `no bundle for the architecture "riscv64": this slipway has amd64, arm64`)
	_, err = Ensure(t.Context(), Options{CacheDir: t.TempDir(), Arch: "386"})
	wantError(t, err, `"386"`)
}

// other is an architecture that is not this computer's.
func other() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// TestCrossCompilers: what another architecture needs is named with its packages, and this
// computer's own is what it was, so that what was built stays in use.
func TestCrossCompilers(t *testing.T) {
	none := func(string) (string, error) { return "", exec.ErrNotFound }
	rows, err := recipesFor(Versions()[0])
	must(t, err)
	triplet := map[string]string{"arm64": "aarch64-linux-gnu", "amd64": "x86-64-linux-gnu"}[other()]
	err = missingTools(t.Context(), rows, other(), none)
	wantError(t, err, "go,", machines[other()].triplet()+"-gcc,", "the static C library for "+other(), "libseccomp's headers for "+other(),
		"(on Debian: dpkg --add-architecture "+other()+" && apt-get update && apt-get install golang-go gcc-"+triplet+
			" libc6-dev-"+other()+"-cross pkg-config libseccomp-dev:"+other()+")")
	err = missingTools(t.Context(), rowsNamed(t, "etcd"), other(), none)
	wantError(t, err, "on Debian: apt-get install golang-go)")

	if got := goEnv(other(), true); !slices.Contains(got, "CC="+machines[other()].triplet()+"-gcc") || !slices.Contains(got, "GOARCH="+other()) ||
		!slices.Contains(got, "PKG_CONFIG_LIBDIR=/usr/lib/"+machines[other()].triplet()+"/pkgconfig") {
		t.Errorf("for another one: %q", got)
	}
	want := []string{"GOFLAGS=-mod=readonly", "GOWORK=off", "GOOS=linux", "GOARCH=" + runtime.GOARCH, "CGO_ENABLED=1"}
	if got := goEnv(runtime.GOARCH, true); !slices.Equal(got, want) {
		t.Errorf("for this computer's: %q", got)
	}
}

// TestBuildForAnotherArchitecture builds a program without C for the other architecture, for real.
func TestBuildForAnotherArchitecture(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	o := phases{}.options(t, t.TempDir())
	o.Arch = other()
	b, err := buildRows(t.Context(), o, rowsNamed(t, "cni-plugin-flannel"))
	must(t, err)
	must(t, b.Verify(t.Context()))
	if a, _ := b.Artifact("flannel"); b.Arch() != other() || a.Arch != other() {
		t.Errorf("it is for %s: %+v", b.Arch(), a)
	}
	file, err := elf.Open(b.File(b.Artifacts[0]))
	must(t, err)
	must(t, errors.Join(file.Close()))
	if file.Machine != machines[other()].elf {
		t.Errorf("it is for %s", file.Machine)
	}
	content, err := os.ReadFile(b.File(b.Artifacts[0]))
	must(t, err)
	if bytes.Contains(content, []byte("ld-linux")) {
		t.Error("it is linked dynamically")
	}
}
