package host_test

import (
	"fmt"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// each runs a benchmark on this machine, over loopback to the server in this process, and to OpenSSH.
func each(b *testing.B, f func(*testing.B, host.Host)) {
	open := func(b *testing.B, c host.Config) host.Host {
		h := dial(b, c)
		b.Cleanup(func() { _ = h.Close() })
		return h
	}
	b.Run("Local", func(b *testing.B) { f(b, host.Local("here")) })
	b.Run("SSHD", func(b *testing.B) { f(b, open(b, hosttest.NewSSHD(b, hosttest.Options{}).Config("there"))) })
	b.Run("OpenSSH", func(b *testing.B) { f(b, open(b, hosttest.NewOpenSSH(b))) })
}

func BenchmarkDial(b *testing.B) {
	c := hosttest.NewOpenSSH(b)
	for b.Loop() {
		_ = dial(b, c).Close()
	}
}

func BenchmarkRun(b *testing.B) {
	each(b, func(b *testing.B, h host.Host) {
		for b.Loop() {
			if _, err := h.Run(b.Context(), host.Cmd{Script: ":"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkWriteFiles writes what a control plane gets: forty small files in eight directories.
func BenchmarkWriteFiles(b *testing.B) {
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("/%d/%d.pem", i%8, i))
	}
	benchmarkWrite(b, names, 2<<10)
}

// BenchmarkWriteBytes writes one large file.
func BenchmarkWriteBytes(b *testing.B) { benchmarkWrite(b, []string{"/large"}, 64<<20) }

func benchmarkWrite(b *testing.B, names []string, size int) {
	each(b, func(b *testing.B, h host.Host) {
		dir := b.TempDir() // every host of a benchmark is this machine
		var files []host.File
		for _, n := range names {
			files = append(files, host.File{Path: dir + n, Mode: 0o600, Content: make([]byte, size)})
		}
		b.SetBytes(int64(len(names) * size))
		for b.Loop() {
			if err := h.Write(b.Context(), files); err != nil {
				b.Fatal(err)
			}
		}
	})
}
