package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// What every bundle.json begins with.
const (
	APIVersion = "slipway.dev/v1alpha1"
	Kind       = "Bundle"
)

// ArtifactKind distinguishes programs from images.
type ArtifactKind string

// The kinds of an artifact.
const (
	Binary ArtifactKind = "binary" // one executable, mode 0755
	Image  ArtifactKind = "image"  // an OCI image layout as a tar file, for `ctr -n k8s.io images import`
)

// Artifact is one file of a bundle.
type Artifact struct {
	// Name is unique in a bundle: the program's name ("kubelet") or the image's file name
	// ("pause.tar").
	Name string `json:"name"`
	// Component and Version name the directory on a host, /opt/slipway/<component>/<version>/.
	Component string       `json:"component"`
	Version   string       `json:"version"`
	Kind      ArtifactKind `json:"kind"`
	OS        string       `json:"os"`   // GOOS
	Arch      string       `json:"arch"` // GOARCH
	SHA256    string       `json:"sha256"`
	Size      int64        `json:"size"` // bytes
	// Path is slash-separated and relative to the bundle: "bin/kubelet", "images/pause.tar".
	Path string `json:"path"`
	// Ref is the name of an imported image, "slipway.invalid/pause:3.10.2"; empty for binaries.
	Ref string `json:"ref,omitempty"`
}

// Bundle is a set of artifacts that belong together, as bundle.json writes it.
type Bundle struct {
	APIVersion        string     `json:"apiVersion"`
	Kind              string     `json:"kind"`
	KubernetesVersion string     `json:"kubernetesVersion"`
	Artifacts         []Artifact `json:"artifacts"` // by path

	// Dir is the bundle's directory, absolute; Digest its name.
	Dir    string `json:"-"`
	Digest string `json:"-"`
}

// digestName are the directories under <cache>/bundles that hold bundles.
var digestName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// digestOf is the name of a bundle with these artifacts: 16 hex digits of the SHA-256 of their
// canonical JSON.
func digestOf(artifacts []Artifact) string {
	sorted := slices.Clone(artifacts)
	slices.SortFunc(sorted, func(a, b Artifact) int { return strings.Compare(a.Path, b.Path) })
	data, err := json.Marshal(sorted)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])[:16]
}

// Open reads the bundle in dir. It looks at names, types and sizes, and for which machine programs
// are, so it takes a millisecond; [Bundle.Verify] reads the contents too.
func Open(dir string) (*Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "bundle.json")) //nolint:gosec // the caller's choice of directory
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	b := &Bundle{Dir: dir}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(b); err != nil {
		return nil, fmt.Errorf("open bundle %s: bundle.json: %w", dir, err)
	}
	if b.APIVersion != APIVersion || b.Kind != Kind {
		return nil, fmt.Errorf("open bundle %s: bundle.json is %s %s, want %s %s", dir, b.APIVersion, b.Kind, APIVersion, Kind)
	}
	for _, a := range b.Artifacts {
		if !filepath.IsLocal(filepath.FromSlash(a.Path)) {
			return nil, fmt.Errorf("open bundle %s: artifact %s has the path %q, outside of the bundle", dir, a.Name, a.Path)
		}
		if a.Arch != b.Arch() {
			return nil, fmt.Errorf("open bundle %s: artifact %s is for %s, and others are for %s", dir, a.Name, a.Arch, b.Arch())
		}
	}
	b.Digest = digestOf(b.Artifacts)
	if err := b.present(); err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", dir, err)
	}
	return b, nil
}

// present names every file that is missing, has another size or type, or is for another machine.
func (b *Bundle) present() error {
	var errs []error
	for _, a := range b.Artifacts {
		errs = append(errs, a.present(b.File(a)))
	}
	return errors.Join(errs...)
}

func (a Artifact) present(file string) error {
	info, err := os.Lstat(file)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", file)
	case info.Size() != a.Size:
		return fmt.Errorf("%s has %d bytes, want %d", file, info.Size(), a.Size)
	case a.Kind == Binary && info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable (mode %04o)", file, info.Mode().Perm())
	case a.Kind == Binary && a.OS == "linux":
		return checkProgram(file, a.Arch)
	}
	return nil
}

// Arch is the architecture of all artifacts, a GOARCH; empty if there are none.
func (b *Bundle) Arch() string {
	if len(b.Artifacts) == 0 {
		return ""
	}
	return b.Artifacts[0].Arch
}

// Artifact finds one by its name.
func (b *Bundle) Artifact(name string) (Artifact, bool) {
	i := slices.IndexFunc(b.Artifacts, func(a Artifact) bool { return a.Name == name })
	if i < 0 {
		return Artifact{}, false
	}
	return b.Artifacts[i], true
}

// File is the absolute path of an artifact of this bundle.
func (b *Bundle) File(a Artifact) string { return filepath.Join(b.Dir, filepath.FromSlash(a.Path)) }

// Size is the sum of all artifacts, in bytes.
func (b *Bundle) Size() (n int64) {
	for _, a := range b.Artifacts {
		n += a.Size
	}
	return n
}

// Verify reads every file and names all that differ from bundle.json, files that do not belong
// there, and a directory whose name is not the digest of its list.
func (b *Bundle) Verify(ctx context.Context) error {
	errs := make([]error, len(b.Artifacts)+2)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4) // reading takes long, and disks are faster with some parallelism
	for i, a := range b.Artifacts {
		group.Go(func() error {
			errs[i] = b.verify(ctx, a)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("verify bundle %s: %w", b.Dir, err)
	}
	errs[len(b.Artifacts)] = b.strangers()
	if name := filepath.Base(b.Dir); digestName.MatchString(name) && name != b.Digest {
		errs[len(b.Artifacts)+1] = fmt.Errorf("bundle.json has the digest %s, its directory says %s", b.Digest, name)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("verify bundle %s:\n%w", b.Dir, err)
	}
	return nil
}

func (b *Bundle) verify(ctx context.Context, a Artifact) error {
	if err := a.present(b.File(a)); err != nil {
		return err
	}
	sum, err := fileDigest(ctx, b.File(a))
	if err != nil {
		return err
	}
	if sum != a.SHA256 {
		return fmt.Errorf("%s has the SHA-256 %s, want %s", b.File(a), sum, a.SHA256)
	}
	if a.Kind == Image {
		return checkImage(ctx, b.File(a), a.Arch)
	}
	return nil
}

// strangers names the files that bundle.json does not list: hosts see the directory, so nothing
// else may lie in it.
func (b *Bundle) strangers() error {
	known := map[string]bool{"bundle.json": true}
	for _, a := range b.Artifacts {
		known[a.Path] = true
	}
	var errs []error
	err := filepath.WalkDir(b.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(b.Dir, path)
		if err != nil {
			return err
		}
		if !known[filepath.ToSlash(rel)] {
			errs = append(errs, fmt.Errorf("%s is not in bundle.json", path))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// List opens every bundle of a cache, by digest. It returns the intact ones, and an error for those
// that are broken.
func List(cacheDir string) ([]*Bundle, error) {
	entries, err := os.ReadDir(filepath.Join(cacheDir, "bundles"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list bundles: %w", err)
	}
	var bundles []*Bundle
	var errs []error
	for _, entry := range entries {
		if !digestName.MatchString(entry.Name()) {
			continue
		}
		b, err := Open(filepath.Join(cacheDir, "bundles", entry.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		bundles = append(bundles, b)
	}
	return bundles, errors.Join(errs...)
}

// fileDigest is the SHA-256 of a file, in hex.
func fileDigest(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // a file of the cache
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	hash := sha256.New()
	if _, err := io.Copy(hash, &contextReader{ctx, f}); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// contextReader ends long reads when the context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
