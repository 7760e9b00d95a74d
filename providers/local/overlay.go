package local

import (
	"archive/tar"
	"embed"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

//go:embed machine
var machineFiles embed.FS

// layer is an entry added to the base system: a directory, a file from the directory machine, a
// link, or (with neither) an empty file.
type layer struct {
	path string // without the leading slash; with one at its end, a directory
	mode int64
	file string // in the directory machine
	link string
}

// initPath is the first process of a machine.
const initPath = "usr/local/sbin/slipway-machine"

// layers has all differences from Debian, except disabled units.
var layers = []layer{
	{path: initPath, mode: 0o755, file: "init"},
	{path: "etc/systemd/system/slipway-machine.service", mode: 0o644, file: "slipway-machine.service"},
	{path: "etc/systemd/system/sysinit.target.wants/slipway-machine.service", link: "../slipway-machine.service"},
	{path: "etc/ssh/sshd_config", mode: 0o644, file: "sshd_config"},
	{path: "etc/systemd/system/ssh.service", mode: 0o644, file: "ssh.service"},
	{path: "etc/systemd/journald.conf.d/slipway.conf", mode: 0o644, file: "journald.conf"},
	{path: "etc/systemd/system/default.target", link: "/lib/systemd/system/multi-user.target"},
	// Empty, it is filled at the first start, each machine with its own; missing, systemd would run
	// its presets.
	{path: "etc/machine-id", mode: 0o444},
	{path: "root/.ssh/", mode: 0o700},
	{path: packagesFrom, link: "/" + packagesTo},
	// Debian's programs need these among the removed files.
	{path: "var/log/", mode: 0o755},
	{path: "var/cache/apt/archives/partial/", mode: 0o755},
	{path: "var/lib/apt/lists/partial/", mode: 0o755},
}

// masked units wait for hardware, consoles or users that a machine does not have, or write files
// that Docker has already written.
var masked = []string{
	"apt-daily-upgrade.timer", "apt-daily.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
	"fstrim.timer", "systemd-tmpfiles-clean.timer",
	"console-getty.service", "getty-static.service", "getty@.service", "getty.target",
	"cryptsetup.target", "integritysetup.target", "veritysetup.target",
	"dev-hugepages.mount", "dev-mqueue.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount",
	"proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service",
	"kmod-static-nodes.service", "systemd-ask-password-console.path", "systemd-ask-password-wall.path",
	"systemd-firstboot.service", "systemd-hwdb-update.service", "systemd-initctl.socket", "systemd-logind.service",
	"systemd-journald-audit.socket", "systemd-machine-id-commit.service", "systemd-pcrphase-sysinit.service",
	"systemd-pcrphase.service", "systemd-pstore.service", "systemd-random-seed.service", "systemd-remount-fs.service",
	"systemd-repart.service", "systemd-sysusers.service", "systemd-tmpfiles-setup-dev.service",
	"systemd-udev-trigger.service", "systemd-udevd.service", "systemd-update-done.service",
	"systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "remote-fs.target",
}

// generators would make units out of disks, consoles and System V scripts that a machine has not,
// at every start and at every `systemctl daemon-reload`.
var generators = []string{
	"systemd-cryptsetup-generator", "systemd-debug-generator", "systemd-fstab-generator", "systemd-getty-generator",
	"systemd-gpt-auto-generator", "systemd-hibernate-resume-generator", "systemd-integritysetup-generator",
	"systemd-rc-local-generator", "systemd-run-generator", "systemd-system-update-generator",
	"systemd-sysv-generator", "systemd-veritysetup-generator",
}

// The package database is moved out of /var, whose files are copied for every machine: it has 860
// of the 920 files.
const (
	packagesFrom = "var/lib/dpkg"
	packagesTo   = "usr/lib/sysimage/dpkg"
)

// dropped lists files that no machine needs: a smaller image is imported faster.
var dropped = []string{
	"usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "var/cache/apt/", "var/cache/debconf/",
	"var/lib/apt/lists/", "var/log/", "etc/ssh/ssh_host_", "etc/ssh/sshd_config.d/",
}

// overlay lists all entries that are laid over the base, with the links that switch units and
// generators off.
func overlay() []layer {
	all := append([]layer(nil), layers...)
	for _, unit := range masked {
		all = append(all, layer{path: "etc/systemd/system/" + unit, link: "/dev/null"})
	}
	for _, g := range generators {
		all = append(all, layer{path: "etc/systemd/system-generators/" + g, link: "/dev/null"})
	}
	return all
}

// merge copies the base system's tar from r to w, without dropped files, and with our files
// replacing its own.
func merge(w io.Writer, r io.Reader) error {
	ours := map[string]bool{}
	for _, l := range overlay() {
		ours[path.Clean(l.path)] = true
	}
	out := tar.NewWriter(w)
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read base system: %w", err)
		}
		h.Name = move(path.Clean(h.Name), h.Typeflag == tar.TypeDir)
		if h.Typeflag == tar.TypeLink {
			h.Linkname = move(path.Clean(h.Linkname), false)
		}
		// Docker takes no path twice.
		if ours[path.Clean(h.Name)] || isDropped(h.Name) {
			continue
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil { //nolint:gosec // made by us, bounded by the disk
			return err
		}
	}
	if err := writeOverlay(out); err != nil {
		return err
	}
	return out.Close()
}

// move returns the new path of an entry of the base system, which is usually the same.
func move(name string, dir bool) string {
	if name == packagesFrom || strings.HasPrefix(name, packagesFrom+"/") {
		name = packagesTo + strings.TrimPrefix(name, packagesFrom)
	}
	if dir {
		name += "/"
	}
	return name
}

func isDropped(name string) bool {
	for _, d := range dropped {
		if strings.HasPrefix(name, d) {
			return true
		}
	}
	return false
}

// writeOverlay writes our own files, the same bytes every time.
func writeOverlay(out *tar.Writer) error {
	epoch := time.Unix(0, 0)
	for _, l := range overlay() {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: l.path, Mode: l.mode, ModTime: epoch}
		var content []byte
		if strings.HasSuffix(l.path, "/") {
			h.Typeflag = tar.TypeDir
		}
		if l.link != "" {
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, l.link, 0o777
		}
		if l.file != "" {
			var err error
			if content, err = machineFiles.ReadFile("machine/" + l.file); err != nil {
				return err
			}
		}
		h.Size = int64(len(content))
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := out.Write(content); err != nil {
			return err
		}
	}
	return nil
}
