package certs

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/secret"
)

// Item is the certificate and key of one entry of the table.
type Item struct {
	// Cert is the certificate (PEM), or the public key of a KeyPair. A CA may be followed by its
	// parents, each the issuer of the previous one.
	Cert []byte
	// Key is the private key (PEM); empty for an external CA.
	Key secret.Bytes
}

// Material has the items by Request.Name.
type Material map[string]Item

// The suffixes of the names that Flatten uses for the two halves of an item.
const (
	certExt = ".crt"
	keyExt  = ".key"
)

// Flatten gives each half of each item its own name, "etcd/server@demo-cp-1.crt" and ".key", for a
// store of plain bytes. The name of a KeyPair's public key also ends in ".crt".
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
			return nil, fmt.Errorf("read certificates: %q does not end in %s or %s", name, certExt, keyExt)
		}
	}
	return m, nil
}

// PKI is the table with its material.
type PKI struct {
	// Requests in the order of the table. Material has an item for each, except those in Pending;
	// in addition, it has the keys and requests that wait to be signed.
	Requests []Request
	Material Material
	// Drift lists CAs that were kept although they differ from the request or expire soon. A
	// rotation replaces them, Ensure never does.
	Drift []Change
	// Limited lists the user's own CAs that expire before a leaf issued now would.
	Limited []Change
	// Own names the user's own CAs that are in use, even if their certificate was renewed.
	Own []string
	// Pending lists the leaves that an external CA has to sign, in the order of the table.
	Pending []Pending
	// Obsolete names the items given to Ensure that are no longer requested, sorted.
	Obsolete []string
	// Rotation in progress, or nil. Other has, for each replaced item, the one that is not in use
	// now.
	Rotation *Rotation
	Other    Material
}

// File is a certificate or key with its path on a machine.
type File struct {
	// Path is absolute.
	Path string
	// Mode is 0644, or 0600 for secrets. The owner is root.
	Mode    fs.FileMode
	Secret  bool
	Content secret.Bytes
}

// Files lists the files of a node, sorted by path.
func (p *PKI) Files(n Node) []File { return p.FilesOf([]Node{n})[n.Name] }

// FilesOf lists the files of each of the given nodes by name, sorted by path.
func (p *PKI) FilesOf(nodes []Node) map[string][]File {
	of := map[string][]Request{} // by Request.Node; a node has its own and the shared ones
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

// files returns the files of one item on a node.
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
