package local

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// A changed recipe must come with a changed digest, and nothing else may change it.
func TestImageDigest(t *testing.T) {
	base, image := baseDigest("amd64"), imageDigest("amd64")
	if base != baseDigest("amd64") || image != imageDigest("amd64") {
		t.Error("the same recipe has two digests")
	}
	if base == baseDigest("arm64") || image == imageDigest("arm64") {
		t.Error("two architectures share a digest")
	}
	for _, list := range []*[]string{&packages, &masked, &generators, &dropped} {
		old := *list
		*list = append(slices.Clone(old), "another")
		if imageDigest("amd64") == image {
			t.Errorf("another entry after %q leaves the digest as it is", old[len(old)-1])
		}
		*list = old
	}
	old := layers
	layers = slices.Clone(old)
	layers[0].mode = 0o700
	if imageDigest("amd64") == image {
		t.Error("another mode leaves the digest as it is")
	}
	if baseDigest("amd64") != base {
		t.Error("a change of our own files would make the base system anew")
	}
	layers = old
}

// writeTar makes a tar of files (name, content).
func writeTar(t *testing.T, files [][2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}
		if strings.HasSuffix(f[0], "/") {
			h.Typeflag = tar.TypeDir
		}
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.kept": "yes"}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMerge(t *testing.T) {
	base := writeTar(t, [][2]string{
		{"./usr/bin/sh", "kept"},
		{"./usr/share/doc/", ""},
		{"./usr/share/doc/sh/readme", "dropped"},
		{"./usr/share/documents", "kept"},
		{"./etc/ssh/ssh_host_rsa_key", "known to all"},
		{"./etc/ssh/sshd_config", "Debian's"},
		{"./root/.ssh/", ""},
	})
	var merged bytes.Buffer
	if err := merge(&merged, bytes.NewReader(base)); err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for r := tar.NewReader(&merged); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if _, twice := content[name]; twice {
			t.Errorf("%s is there twice, which Docker refuses", name)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		content[name] = string(b) + h.Linkname
		if name == "usr/bin/sh" && h.PAXRecords["SCHILY.xattr.user.kept"] != "yes" {
			t.Error("extended attributes are lost")
		}
		if name == initPath && h.Mode != 0o755 {
			t.Errorf("mode of %s: %o", name, h.Mode)
		}
	}
	for name, want := range map[string]string{
		"usr/bin/sh":          "kept",
		"usr/share/documents": "kept",
		"etc/machine-id":      "",
		"etc/systemd/system/systemd-udevd.service": "/dev/null",
		"etc/systemd/system/default.target":        "/lib/systemd/system/multi-user.target",
		"root/.ssh/":                               "",
		"var/log/":                                 "",
	} {
		if got, ok := content[name]; !ok || got != want {
			t.Errorf("%s: %q (there: %v), want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"usr/share/doc/", "usr/share/doc/sh/readme", "etc/ssh/ssh_host_rsa_key"} {
		if _, ok := content[name]; ok {
			t.Errorf("%s was not dropped", name)
		}
	}
	if got := content["etc/ssh/sshd_config"]; !strings.Contains(got, "PasswordAuthentication no") {
		t.Errorf("sshd_config is not ours: %q", got)
	}
	if got := content[initPath]; !strings.HasPrefix(got, "#!/bin/sh") {
		t.Errorf("%s: %q", initPath, got)
	}
}

func TestMergeDamaged(t *testing.T) {
	base := writeTar(t, [][2]string{{"a", strings.Repeat("x", 4096)}})
	if err := merge(io.Discard, bytes.NewReader(base[:3000])); err == nil {
		t.Error("half a tar passes for a base system")
	}
}
