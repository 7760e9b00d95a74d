package distro

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// releases are the lines of real machines that count.
var releases = []struct {
	text    string
	want    string // the row's name
	known   bool
	install string // of nft
}{
	{"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n", "Debian", true, "apt-get update && apt-get install -y nftables"},
	{"ID=debian\nVERSION_ID=\"11\"\n", "Debian", false, "apt-get update && apt-get install -y nftables"},
	{"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\nVERSION_ID=\"13\"\n", "Debian", true, "apt-get update && apt-get install -y nftables"},
	{"ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", "Ubuntu", true, "apt-get update && apt-get install -y nftables"},
	{"ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.10\"\n", "Ubuntu", false, "apt-get update && apt-get install -y nftables"},
	{"ID=\"rhel\"\nVERSION_ID=\"9.4\"\nID_LIKE=\"fedora\"\n", "RHEL", true, "dnf install -y nftables"},
	{"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.5\"\n", "RHEL", true, "dnf install -y nftables"},
	{"ID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.5\"\n", "RHEL", true, "dnf install -y nftables"},
	{"ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"9\"\n", "RHEL", true, "dnf install -y nftables"},
	{"ID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.4\"\n", "RHEL", true, "dnf install -y nftables"},
	{"ID=\"rocky\"\nVERSION_ID=\"10.0\"\n", "RHEL", false, "dnf install -y nftables"},
	{"ID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n", "Amazon Linux", true, "dnf install -y nftables"},
	{"ID=\"amzn\"\nVERSION_ID=\"2\"\n", "Amazon Linux", false, "dnf install -y nftables"},
	{"ID=flatcar\nID_LIKE=coreos\nVERSION_ID=4152.2.0\n", "Flatcar Container Linux", true, ""},
	{"ID=fedora\nVERSION_ID=41\n", "", false, ""},
	{"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n", "Ubuntu", false, "apt-get update && apt-get install -y nftables"},
	{"ID=eurolinux\nID_LIKE='rhel fedora'\nVERSION_ID=9.1\n", "RHEL", false, "dnf install -y nftables"},
	{"ID=alpine\n", "", false, ""},
	{"", "", false, ""},
}

func TestFind(t *testing.T) {
	for _, c := range releases {
		r := Parse(c.text)
		d, known := Find(r)
		if d.Name != c.want || known != c.known {
			t.Errorf("%q is %q, known %t; want %q, %t", c.text, d.Name, known, c.want, c.known)
		}
		if got := d.InstallCommand("nft"); got != c.install {
			t.Errorf("%q installs nft with %q, want %q", c.text, got, c.install)
		}
	}
}

func TestInstallCommandNamesEachPackageOnce(t *testing.T) {
	d, _ := Find(Release{ID: "debian", Version: "12"})
	if got, want := d.InstallCommand("tar", "find", "iptables", "find"), "apt-get update && apt-get install -y findutils iptables tar"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := d.InstallCommand("tar", "no-such-tool"); got != "" {
		t.Errorf("an unknown tool gives %q: the command would not install it", got)
	}
}

func TestPackagesOfEveryTool(t *testing.T) {
	for _, d := range Table {
		for _, tool := range Tools {
			if d.Install != "" && d.Packages[tool] == "" {
				t.Errorf("%s: the package of %s is missing", d.Name, tool)
			}
		}
		for tool := range d.Packages {
			if !slices.Contains(Tools, tool) {
				t.Errorf("%s has a package for %s, which is none of Tools", d.Name, tool)
			}
		}
		if d.Cgroup != 2 || d.CAs == "" || d.MAC == "" || d.Firewall == "" {
			t.Errorf("%s: a fact is missing", d.Name)
		}
	}
}

// TestDocs compares docs/distributions.md with the table.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/distributions.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Table {
		proof := "unit-tested only"
		if d.Proof != "" {
			proof = "proven on " + d.Proof
		}
		install := "none"
		if d.Install != "" {
			install = "`" + strings.Fields(d.Install)[0] + "`"
		}
		versions := strings.Join(d.Versions, ", ")
		if versions == "" {
			versions = "all"
		}
		row := fmt.Sprintf("| %s | %s | %s | %s | %s | v%d | %s |", d.Name, versions, install, d.MAC, d.Firewall, d.Cgroup, proof)
		if !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/distributions.md lacks the row\n%s", row)
		}
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), d.Notes) {
			t.Errorf("docs/distributions.md lacks the notes of %s: %s", d.Name, d.Notes)
		}
	}
	for _, tool := range Tools {
		row := fmt.Sprintf("| `%s` | `%s` | `%s` |", tool, debianPackages[tool], fedoraPackages[tool])
		if !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/distributions.md lacks the row\n%s", row)
		}
	}
}
