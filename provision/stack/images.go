package stack

import (
	"slipway.dev/slipway/templates"
)

// ImagesService imports the bundle's images; a restart imports them again.
const ImagesService = "slipway-images.service"

// images imports the images of all components, since they are in no registry.
var images = Component{
	Name: "slipway-images", On: Everywhere,
	Unit: &Service{Name: ImagesService, Text: imagesUnit, Images: true},
}

func imagesUnit(n Node) templates.Unit {
	u := templates.Unit{
		Description: "Images that come with the bundle", Type: "oneshot", After: []string{containerdService},
		Stamp: ImagesService,
	}
	for _, name := range n.imageNames() {
		if u.Exec != "" {
			u.Pre = append(u.Pre, u.Exec)
		}
		// Pinned; otherwise the kubelet's garbage collection would remove images that cannot be
		// pulled again.
		u.Exec = n.path("ctr") + " --namespace=k8s.io images import --label=io.cri-containerd.pinned=pinned " + n.path(name)
	}
	return u
}

// imageNames are the images of the node's components.
func (n Node) imageNames() []string {
	var names []string
	for _, c := range n.components {
		names = append(names, c.Images...)
	}
	return names
}

// images returns the references that the runtime has once the bundle's images are imported.
func (n Node) images() []string {
	var refs []string
	for _, name := range n.imageNames() {
		refs = append(refs, n.set[name].Image)
	}
	return refs
}
