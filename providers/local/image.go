package local

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// imageName is the repository of machine images; the tag is the recipe's digest.
const imageName = "slipway-machine"

// suite and packages are the base system.
const suite = "bookworm"

var packages = []string{
	"systemd", "systemd-sysv", "dbus", "openssh-server", "iproute2", "iptables", "nftables", "conntrack", "ebtables",
	"ethtool", "socat", "ipset", "kmod", "ca-certificates", "curl", "procps",
}

// mmdebstrapArgs makes the base system; the target, a tar file, follows the suite.
func mmdebstrapArgs(target string) []string {
	return []string{
		"--quiet", "--variant=minbase", "--include=" + strings.Join(packages, ","),
		// Keys of sshd that everyone with the image would know.
		`--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*`,
		suite, target,
	}
}

// baseDigest names the base system's tar in the cache.
func baseDigest(arch string) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\n%q", arch, mmdebstrapArgs("TARGET"))
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// imageDigest returns the digest of the image's recipe: base, removed files and overlay.
func imageDigest(arch string) string {
	var over bytes.Buffer
	out := tar.NewWriter(&over)
	// Only embedded files and tables go in; neither can fail.
	if err := errors.Join(writeOverlay(out), out.Close()); err != nil {
		panic(err)
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\n%q\n", baseDigest(arch), dropped)
	_, _ = h.Write(over.Bytes())
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// ensureImage returns the tag of the machine image, made if need be: from the cached base system,
// which is made with mmdebstrap if need be.
func (p *Local) ensureImage(ctx context.Context, report func(string, string)) (string, error) {
	tag := imageName + ":" + imageDigest(runtime.GOARCH)
	_, err := p.docker.ImageInspect(ctx, tag)
	if err == nil {
		return tag, nil
	}
	if !cerrdefs.IsNotFound(err) {
		return "", fmt.Errorf("look for image %s: %w", tag, err)
	}
	base, err := ensureBase(ctx, filepath.Join(p.o.CacheDir, "machine"), report)
	if err != nil {
		return "", err
	}
	report("machine image", "importing "+tag)
	if err := p.importImage(ctx, base, tag); err != nil {
		return "", fmt.Errorf("import %s as %s: %w", base, tag, err)
	}
	return tag, nil
}

// importImage streams base and overlay into Docker.
func (p *Local) importImage(ctx context.Context, base, tag string) error {
	f, err := os.Open(base) //nolint:gosec // our cache
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(merge(w, f)) }()
	defer func() { _ = r.Close() }()

	res, err := p.docker.ImageImport(ctx, client.ImageImportSource{Source: r, SourceName: "-"}, tag,
		client.ImageImportOptions{Changes: []string{"ENTRYPOINT [\"/" + initPath + "\"]", "ENV container=docker"}})
	if err != nil {
		return err
	}
	defer func() { _ = res.Close() }()
	// The daemon answers 200 and reports failures in its stream of messages.
	for d := json.NewDecoder(res); ; {
		var m struct{ Error string }
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.Error != "":
			return errors.New(m.Error)
		}
	}
}

// ensureBase returns the base system's tar in dir, made with mmdebstrap if it is not there.
func ensureBase(ctx context.Context, dir string, report func(string, string)) (string, error) {
	base := filepath.Join(dir, baseDigest(runtime.GOARCH)+".tar")
	if _, err := os.Stat(base); err == nil {
		return base, nil
	}
	tool, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return "", fmt.Errorf("the machine image must be made once, from Debian packages, and mmdebstrap is not installed; "+
			"install it (`apt-get install mmdebstrap`, or your system's equivalent), or copy %s from a computer that made it", base)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make the cache of machine images: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, "making-")
	if err != nil {
		return "", fmt.Errorf("make the cache of machine images: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()

	report("machine image", fmt.Sprintf("making it from Debian %s packages (once, about half a minute)", suite))
	target := filepath.Join(tmp, "base.tar")
	cmd := exec.CommandContext(ctx, tool, mmdebstrapArgs(target)...) //nolint:gosec // arguments are constants
	// Interrupted, it unmounts and removes what it has made so far; killed, it would not.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("make the machine image with mmdebstrap: %w; it said:\n%s", err, strings.TrimSpace(stderr.String()))
	}
	if err := os.Rename(target, base); err != nil {
		return "", fmt.Errorf("keep the machine image: %w", err)
	}
	return base, nil
}
