package stack

import (
	"path"
	"strings"

	"slipway.dev/slipway/provision/bundle"
)

// Artifacts lists the artifacts of a bundle for hosts, by the names that components use: programs
// by their own, images as "image/<name>".
func Artifacts(b *bundle.Bundle) map[string]Artifact {
	artifacts := map[string]Artifact{}
	for _, a := range b.Artifacts {
		name := a.Name
		if a.Kind == bundle.Image {
			name = "image/" + strings.TrimSuffix(a.Name, ".tar")
		}
		artifacts[name] = Artifact{
			Name: a.Name, Component: a.Component, Version: a.Version, SHA256: a.SHA256, Image: a.Ref,
			Mounted: path.Join(b.Digest, a.Path), Identity: bundle.Identity(b.File(a)),
			Local: b.File(a), Size: a.Size,
		}
	}
	return artifacts
}

// DeliveryPort is where hosts give programs to others during a run, unless it is taken: it can be
// opened in a firewall.
const DeliveryPort = 10245
