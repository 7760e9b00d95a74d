package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageFormat changes whenever writeImage would write something else of the same program.
const imageFormat = "oci-layout, manifest.json, 1"

// writeImage writes an OCI image layout (image-spec v1.1, image-layout.md) as a tar file: one
// uncompressed layer with the program at /<name>, which is the entrypoint. Its bytes do not depend
// on the time or the user. `ctr -n k8s.io images import` uses the name in the annotation;
// manifest.json is for `docker load`.
func writeImage(file string, img image, programFile, arch string) error {
	name := filepath.Base(programFile)
	layer, err := programLayer(programFile, name)
	if err != nil {
		return fmt.Errorf("image %s: %w", img.Ref, err)
	}
	built, err := assembleImage(img, layer, name, arch)
	if err != nil {
		return fmt.Errorf("image %s: %w", img.Ref, err)
	}
	if err := writeLayout(file, img.Ref, built, layer); err != nil {
		return fmt.Errorf("image %s: write %s: %w", img.Ref, file, err)
	}
	return nil
}

// programLayer is a layer with one executable, owned by root.
func programLayer(file, name string) (v1.Layer, error) {
	program, err := os.ReadFile(file) //nolint:gosec // a file that was just built
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	buf.Grow(len(program) + 4096)
	if err := writeTar(&buf, []tarFile{{name, 0o755, program}}); err != nil {
		return nil, err
	}
	return static.NewLayer(buf.Bytes(), types.OCIUncompressedLayer), nil
}

func assembleImage(img image, layer v1.Layer, name, arch string) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	built, err := mutate.ConfigFile(base, &v1.ConfigFile{
		OS: "linux", Architecture: arch,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
		Config: v1.Config{Entrypoint: []string{"/" + name}, User: img.User, WorkingDir: "/"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(built, layer)
}

// writeLayout puts index, manifest, config and layer into a tar file, in the order in which an
// importer asks for them.
func writeLayout(file, ref string, img v1.Image, layer v1.Layer) error {
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	index, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: types.OCIManifestSchema1, Digest: digest, Size: int64(len(manifest)),
			// containerd reads the first, everyone else the second (image-spec, annotations.md).
			Annotations: map[string]string{"io.containerd.image.name": ref, "org.opencontainers.image.ref.name": ref},
		}},
	})
	if err != nil {
		return err
	}
	content, err := layerBytes(layer)
	if err != nil {
		return err
	}
	docker, err := json.Marshal([]dockerManifest{{blobPath(config), []string{ref}, []string{blobPath(content)}}})
	if err != nil {
		return err
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // hosts read it
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // closed below where it counts
	err = writeTar(out, []tarFile{
		{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", 0o644, index},
		{"manifest.json", 0o644, docker},
		{blobPath(manifest), 0o644, manifest},
		{blobPath(config), 0o644, config},
		{blobPath(content), 0o644, content},
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// dockerManifest is an element of manifest.json, by which Docker before version 25 finds its way in
// an archive.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func layerBytes(layer v1.Layer) ([]byte, error) {
	r, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // memory
	return io.ReadAll(r)
}

// blobPath returns the path of content in an image layout.
func blobPath(content []byte) string { return path.Join("blobs", "sha256", bytesDigest(content)) }

type tarFile struct {
	name    string
	mode    int64
	content []byte
}

// writeTar writes files of root's, without times: the same files give the same bytes.
func writeTar(w io.Writer, files []tarFile) error {
	out := tar.NewWriter(w)
	for _, f := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Format: tar.FormatUSTAR}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if _, err := out.Write(f.content); err != nil {
			return err
		}
	}
	return out.Close()
}
