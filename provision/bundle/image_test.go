package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func writeTestImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "coredns")
	must(t, os.WriteFile(program, bytes.Repeat([]byte("program "), 1000), 0o700))
	file := filepath.Join(dir, "coredns.tar")
	must(t, writeImage(file, image{Ref: "slipway.invalid/coredns:v1.15.0", User: "65532:65532"}, program, "amd64"))
	return file
}

func readTar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		if !header.ModTime.IsZero() && header.ModTime.Unix() != 0 || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s: time %v, owner %d:%d", header.Name, header.ModTime, header.Uid, header.Gid)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImageIsTheSameEveryTime(t *testing.T) {
	first, err := os.ReadFile(writeTestImage(t))
	must(t, err)
	second, err := os.ReadFile(writeTestImage(t))
	must(t, err)
	if !bytes.Equal(first, second) {
		t.Error("two images of one program differ")
	}
}

// Follows the archive as an importer of OCI layouts does: index, manifest, config, layer, each by its digest.
func TestImageLayout(t *testing.T) {
	f, err := os.Open(writeTestImage(t))
	must(t, err)
	defer f.Close() //nolint:errcheck // only read
	files := readTar(t, f)
	if got := string(files["oci-layout"]); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout: %s", got)
	}
	blob := func(d v1.Descriptor) []byte {
		content := files["blobs/sha256/"+d.Digest.Hex]
		if int64(len(content)) != d.Size || bytesDigest(content) != d.Digest.Hex {
			t.Fatalf("%s: %d bytes with the digest %s, want %d", d.Digest, len(content), bytesDigest(content), d.Size)
		}
		return content
	}
	var index v1.IndexManifest
	must(t, json.Unmarshal(files["index.json"], &index))
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations["io.containerd.image.name"] != "slipway.invalid/coredns:v1.15.0" {
		t.Fatalf("index: %+v", index)
	}
	var manifest v1.Manifest
	must(t, json.Unmarshal(blob(index.Manifests[0]), &manifest))
	var config v1.ConfigFile
	must(t, json.Unmarshal(blob(manifest.Config), &config))
	if config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/coredns" || config.Architecture != "amd64" || config.OS != "linux" {
		t.Errorf("config: %+v", config)
	}
	if len(manifest.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Fatalf("layers %+v, diff ids %v", manifest.Layers, config.RootFS.DiffIDs)
	}
	layer := readTar(t, bytes.NewReader(blob(manifest.Layers[0])))
	if len(layer) != 1 || !bytes.Equal(layer["coredns"], bytes.Repeat([]byte("program "), 1000)) {
		t.Errorf("the layer has %d files", len(layer))
	}
}

// The same archive is one of `docker save` too; go-containerregistry's own reader and validator judge it.
func TestImageAsDockerArchive(t *testing.T) {
	img, err := tarball.ImageFromPath(writeTestImage(t), nil)
	must(t, err)
	must(t, validate.Image(img))
}
