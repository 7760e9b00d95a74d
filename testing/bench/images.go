package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// packImages writes the images that kubeadm's static pods run, packed from the bundle's own binaries under the names
// that kubeadm asks for, to a docker-archive. kube-proxy's has the machine's base system beneath it, for its iptables.
func (b *bench) packImages(ctx context.Context, bundle, file string) error {
	out, err := exec.CommandContext(ctx, filepath.Join(bundle, "bin", "kubeadm"),
		"config", "images", "list", "--kubernetes-version", kubernetesVersion).Output()
	if err != nil {
		return fmt.Errorf("kubeadm config images list: %w", err)
	}
	base, err := b.baseLayer()
	if err != nil {
		return err
	}
	images := map[name.Tag]v1.Image{}
	for ref := range strings.FieldsSeq(string(out)) {
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		if images[tag], err = packImage(bundle, path.Base(tag.RepositoryStr()), base); err != nil {
			return fmt.Errorf("pack %s: %w", ref, err)
		}
	}
	return tarball.MultiWriteToFile(file, images)
}

// packImage takes the bundle's image of a program, or makes one.
func packImage(bundle, program string, base v1.Layer) (v1.Image, error) {
	made := filepath.Join(bundle, "images", program+".tar")
	if _, err := os.Stat(made); err == nil {
		return tarball.ImageFromPath(made, nil)
	}
	layer, err := programLayer(filepath.Join(bundle, "bin", program))
	if err != nil {
		return nil, err
	}
	layers := []v1.Layer{layer}
	if program == "kube-proxy" {
		layers = []v1.Layer{base, layer}
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Env: []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, layers...)
}

// baseLayer is the root file system of local machines, as slipway keeps it in its cache.
func (b *bench) baseLayer() (v1.Layer, error) {
	found, err := filepath.Glob(filepath.Join(b.cache, "machine", "*.tar"))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no machine image is cached under %s", b.cache)
	}
	content, err := os.ReadFile(found[len(found)-1])
	return static.NewLayer(content, types.DockerUncompressedLayer), err
}

// programLayer holds one program, in /usr/local/bin.
func programLayer(file string) (v1.Layer, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	header := &tar.Header{Name: "usr/local/bin/" + filepath.Base(file), Mode: 0o755, Size: int64(len(content))}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return static.NewLayer(layer.Bytes(), types.DockerUncompressedLayer), nil
}
