package certs

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/secret"
)

// Item is one entry of the table, made.
type Item struct {
	// Cert is the certificate, PEM; of a KeyPair the public key. After an authority may come its parents, each the
	// issuer of the one before.
	Cert []byte
	// Key is the private key, PEM; empty for an authority whose key is kept elsewhere.
	Key secret.Bytes
}

// Material is every item, by Request.Name.
type Material map[string]Item

// The endings of the names under which Flatten puts the halves of an item.
const (
	certExt = ".crt"
	keyExt  = ".key"
)

// Flatten gives each half of each item a name of its own, "etcd/server@demo-cp-1.crt" and ".key", for a store that
// knows nothing of items. The public key of a KeyPair ends in ".crt" too.
func (m Material) Flatten() map[string]secret.Bytes {
	flat := make(map[string]secret.Bytes, 2*len(m))
	for name, item := range m {
		flat[name+certExt] = item.Cert
		flat[name+keyExt] = item.Key
	}
	return flat
}

// Unflatten is the inverse of Flatten.
func Unflatten(flat map[string]secret.Bytes) (Material, error) {
	m := make(Material, len(flat)/2)
	for name, content := range flat {
		if base, ok := strings.CutSuffix(name, certExt); ok {
			item := m[base]
			item.Cert = content.Reveal()
			m[base] = item
		} else if base, ok := strings.CutSuffix(name, keyExt); ok {
			item := m[base]
			item.Key = content
			m[base] = item
		} else {
			return nil, fmt.Errorf("read certificates: %q ends neither in %s nor in %s", name, certExt, keyExt)
		}
	}
	return m, nil
}

// PKI is the table, fulfilled.
type PKI struct {
	// Requests in the order of the table; Material has an item for each, but for those that Pending lists, and beside
	// these only what waits to be signed.
	Requests []Request
	Material Material
	// Drift names the authorities that were kept although they differ from what is asked, or that end soon.
	// They are replaced by a rotation, never by Ensure.
	Drift []Change
	// Limited names the authorities that the user brings and that end before a leaf issued now would.
	Limited []Change
	// Own names the user's own authorities that are in use: the same ones may have had another certificate before.
	Own []string
	// Pending are the leaves that an authority elsewhere has to sign, in the order of the table.
	Pending []Pending
	// Obsolete names what Ensure was given and nobody asks for any more, sorted.
	Obsolete []string
	// Rotation under way, or nil. Other has the one that is not used now of everything that is being replaced.
	Rotation *Rotation
	Other    Material
}

// File is a certificate or key with its place on a machine.
type File struct {
	// Path is absolute.
	Path string
	// Mode is 0644, or 0600 for what is secret. The owner is root.
	Mode    fs.FileMode
	Secret  bool
	Content secret.Bytes
}

// Files lists what belongs on a node, sorted by path.
func (p *PKI) Files(n Node) []File { return p.FilesOf([]Node{n})[n.Name] }

// FilesOf lists what belongs on each of some nodes, by name, sorted by path.
func (p *PKI) FilesOf(nodes []Node) map[string][]File {
	of := map[string][]Request{} // by Request.Node: a node has its own and the shared ones
	for _, q := range p.Requests {
		of[q.Node] = append(of[q.Node], q)
	}
	all, authorities := make(map[string][]File, len(nodes)), p.shown()
	for _, n := range nodes {
		var files []File
		for _, q := range slices.Concat(of[""], of[n.Name]) {
			files = append(files, p.files(q, n, authorities)...)
		}
		slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
		all[n.Name] = files
	}
	return all
}

// files are those of one item that belong on a node.
func (p *PKI) files(q Request, n Node, of map[string]shown) []File {
	var files []File
	item, ext := p.Material[q.Name], certExt
	switch q.Kind {
	case KeyPair:
		item.Cert, ext = p.Bundle(q.Name), ".pub"
	case Authority:
		item.Cert = of[q.Name].bundle
	case Leaf:
		item.Cert = of[q.CA].presents(item.Cert)
	}
	if q.belongs(q.CertOn, n) {
		files = append(files, File{Path: q.Path + ext, Mode: 0o644, Content: item.Cert})
	}
	if q.belongs(q.KeyOn, n) && len(item.Key) > 0 {
		files = append(files, File{Path: q.Path + keyExt, Mode: 0o600, Secret: true, Content: item.Key})
	}
	if q.Name == KubernetesCA && n.ControlPlane {
		files = append(files, p.forControllerManager()...)
	}
	return files
}

func (q Request) belongs(where Placement, n Node) bool {
	switch where {
	case OnNode:
		return q.Node == n.Name
	case OnControlPlanes:
		return n.ControlPlane
	case OnAllNodes:
		return true
	default:
		return false
	}
}
