// Package distro is a table of facts about Linux distributions: how their packages are called and
// installed, and what they come with.
//
// It looks at no machine: a Release is parsed from the text of /etc/os-release.
package distro

import (
	"slices"
	"strings"
)

// Distro is what slipway knows of a distribution.
type Distro struct {
	// ID is os-release's; likes with another ID are found by their ID_LIKE.
	ID string
	// Name is for people.
	Name string
	// Versions are the values of VERSION_ID that the row is about; a value with a dot stands for itself,
	// one without also for its minor versions ("9" for "9.4"). None is every version.
	Versions []string
	// Likes are IDs of distributions that are built from it.
	Likes []string
	// Install is the command before names of packages; empty if the distribution has no package manager.
	Install string
	// Packages has the name of the package for each tool that slipway may miss.
	Packages map[string]string
	// Modules is the package with kernel modules that a small installation lacks; $(uname -r) stands for
	// the version of the running kernel. Empty if the kernel has them all.
	Modules string
	// MAC is the mandatory access control that is on by default, and Firewall the default firewall.
	MAC, Firewall string
	// Cgroup is the version of the control groups by default.
	Cgroup int
	// CAs is the file with the certificates of public CAs.
	CAs string
	// Notes is what people should know besides.
	Notes string
	// Proof is how slipway was tried there: on machines of which kind; empty if only what it renders is
	// tested.
	Proof string
}

// Tools are the programs, besides a shell and coreutils, that slipway and the components run on a
// machine.
var Tools = []string{"awk", "find", "flock", "getent", "grep", "ipset", "iptables", "modprobe", "mount", "nft", "sed", "tar"}

var debianPackages = map[string]string{
	"awk": "mawk", "find": "findutils", "flock": "util-linux", "getent": "libc-bin", "grep": "grep", "ipset": "ipset",
	"iptables": "iptables", "modprobe": "kmod", "mount": "mount", "nft": "nftables", "sed": "sed", "tar": "tar",
}

var fedoraPackages = map[string]string{
	"awk": "gawk", "find": "findutils", "flock": "util-linux", "getent": "glibc-common", "grep": "grep", "ipset": "ipset",
	"iptables": "iptables-nft", "modprobe": "kmod", "mount": "util-linux", "nft": "nftables", "sed": "sed", "tar": "tar",
}

const (
	apt       = "apt-get update && apt-get install -y"
	dnf       = "dnf install -y"
	debianCAs = "/etc/ssl/certs/ca-certificates.crt"
	fedoraCAs = "/etc/pki/tls/certs/ca-bundle.crt"
)

// Table is every distribution that slipway knows. docs/distributions.md has the same rows; a test
// compares them. Sources: the release notes and package lists of each distribution.
var Table = []Distro{
	{
		ID: "debian", Name: "Debian", Versions: []string{"12", "13"}, Likes: []string{"raspbian"}, Install: apt, Packages: debianPackages,
		MAC: "AppArmor", Firewall: "none", Cgroup: 2, CAs: debianCAs,
		Notes: "12 has systemd 252 and kernel 6.1, 13 has systemd 257 and kernel 6.12.", Proof: "Debian 12 and 13, in containers",
	},
	{
		ID: "ubuntu", Name: "Ubuntu", Versions: []string{"22.04", "24.04"}, Install: apt, Packages: debianPackages,
		Modules: "linux-modules-extra-$(uname -r)",
		MAC:     "AppArmor", Firewall: "ufw, inactive", Cgroup: 2, CAs: debianCAs,
		Notes: "/etc/resolv.conf is systemd-resolved's on 127.0.0.53; pods get /run/systemd/resolve/resolv.conf.",
	},
	{
		ID: "rhel", Name: "RHEL", Versions: []string{"9"}, Likes: []string{"rocky", "almalinux", "centos", "ol", "oracle"}, Install: dnf, Packages: fedoraPackages,
		Modules: "kernel-modules-extra-$(uname -r)",
		MAC:     "SELinux, enforcing", Firewall: "firewalld, active", Cgroup: 2, CAs: fedoraCAs,
		Notes: "Also Rocky Linux, AlmaLinux, CentOS Stream and Oracle Linux. SELinux in enforcing mode is not tried yet. The kernel is 5.14; of ipvs, " +
			"RHEL says that it is deprecated.",
	},
	{
		ID: "amzn", Name: "Amazon Linux", Versions: []string{"2023"}, Install: dnf, Packages: fedoraPackages,
		MAC: "SELinux, permissive", Firewall: "none", Cgroup: 2, CAs: fedoraCAs,
		Notes: "Images for EC2 have neither iptables nor nft installed.",
	},
	{
		ID: "flatcar", Name: "Flatcar Container Linux",
		MAC: "SELinux, permissive", Firewall: "none", Cgroup: 2, CAs: debianCAs,
		Notes: "/usr is read-only and there is no package manager: what is missing comes as a systemd-sysext image. Docker's containerd is " +
			"started on demand: mask docker.socket, docker.service and containerd.service.",
	},
}

// Release is what a machine's /etc/os-release says.
type Release struct {
	// ID, Version and Pretty are ID, VERSION_ID and PRETTY_NAME.
	ID, Version, Pretty string
	// Like are the words of ID_LIKE, the nearest first.
	Like []string
}

// Parse parses the text of /etc/os-release (os-release(5)); it skips what is none of its lines.
func Parse(text string) Release {
	var r Release
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = unquote(value)
		switch key {
		case "ID":
			r.ID = strings.ToLower(value)
		case "VERSION_ID":
			r.Version = value
		case "PRETTY_NAME":
			r.Pretty = value
		case "ID_LIKE":
			r.Like = strings.Fields(strings.ToLower(value))
		}
	}
	return r
}

func unquote(value string) string {
	for _, q := range []string{`"`, "'"} {
		if len(value) > 1 && strings.HasPrefix(value, q) && strings.HasSuffix(value, q) {
			return value[1 : len(value)-1]
		}
	}
	return value
}

// Find returns the row of a release: of its ID, of a distribution that names it as a like, or of one
// that it calls similar (ID_LIKE). known means that the row is about this distribution and version; a
// similar one only has the likely names of packages. The zero Distro is none.
func Find(r Release) (d Distro, known bool) {
	for _, d := range Table {
		if d.ID == r.ID || slices.Contains(d.Likes, r.ID) {
			return d, d.covers(r.Version)
		}
	}
	for _, like := range r.Like {
		for _, d := range Table {
			if d.ID == like || like == "fedora" && d.ID == "rhel" {
				return d, false
			}
		}
	}
	return Distro{}, false
}

// covers reports whether the row is about a version.
func (d Distro) covers(version string) bool {
	if len(d.Versions) == 0 {
		return true
	}
	return slices.ContainsFunc(d.Versions, func(v string) bool {
		return v == version || !strings.Contains(v, ".") && strings.HasPrefix(version, v+".")
	})
}

// InstallCommand is the command that installs the packages of tools; empty if there is no package
// manager, or a package is unknown.
func (d Distro) InstallCommand(tools ...string) string {
	if d.Install == "" {
		return ""
	}
	var packages []string
	for _, tool := range tools {
		if d.Packages[tool] == "" {
			return ""
		}
		packages = append(packages, d.Packages[tool])
	}
	slices.Sort(packages)
	return d.Install + " " + strings.Join(slices.Compact(packages), " ")
}

// Supported lists the names and versions of the table, for messages.
func Supported() string {
	var all []string
	for _, d := range Table {
		all = append(all, strings.TrimSpace(d.Name+" "+strings.Join(d.Versions, " and ")))
	}
	return strings.Join(all, ", ")
}
