package stack

import (
	"maps"
	"path"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/bundle"
)

// Set has the artifacts for one architecture, by the names that components use: programs by their
// own, images as "image/<name>".
type Set map[string]Artifact

// Sets has a set for each architecture of the cluster's machines, by Go's name for it (GOARCH).
type Sets map[string]Set

// Architectures returns those that slipway has programs for, sorted.
func Architectures() []string { return bundle.Architectures() }

// ArchitectureOf returns Go's name for what `uname -m` says, and whether slipway has programs for it:
// if not, it is that word itself.
func ArchitectureOf(uname string) (arch string, known bool) { return bundle.ArchitectureOf(uname) }

// Artifacts lists the artifacts of a bundle for hosts.
func Artifacts(b *bundle.Bundle) Set {
	artifacts := Set{}
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

// Taken is the architecture whose set a machine gets. For one that is unknown, or has no set, it is
// the first one: such a machine is not changed until it was observed (plan.Refuse).
func (s Sets) Taken(arch string) string {
	if _, ok := s[arch]; ok || len(s) == 0 {
		return arch
	}
	return slices.Sorted(maps.Keys(s))[0]
}

// For returns the set that a machine of an architecture gets: see Taken.
func (s Sets) For(arch string) Set { return s[s.Taken(arch)] }

// Same reports whether two sets are the same on hosts.
func (s Set) Same(other Set) bool { return maps.EqualFunc(s, other, Artifact.Same) }

// DeliveryPort is where hosts give programs to others during a run, unless it is taken: it can be
// opened in a firewall.
const DeliveryPort = 10245
