package observe

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/stack"
)

const (
	// inventoryTimeout bounds a whole inventory: what has not answered by then is reported as not
	// answering.
	inventoryTimeout = 30 * time.Second
	// inventoryAPITimeout is the API's part, and handshakeTimeout that of one server.
	inventoryAPITimeout = 10 * time.Second
)

// Inventory reads every certificate of a cluster where it is used: served certificates, files and
// kubeconfigs on hosts, the trust of objects in the API, and the state. All are read in parallel,
// each host in one session; nothing is changed. Whatever does not answer becomes an entry with an
// Error. in needs Machines and a PKI with its Requests; unreachable has the reasons, by name, why a
// machine is not among hosts.
func Inventory(ctx context.Context, in stack.Input, hosts map[string]host.Host, unreachable map[string]error) []certs.Use {
	ctx, cancel := context.WithTimeout(ctx, inventoryTimeout)
	defer cancel()
	var nodes []certs.Node
	for _, m := range in.Machines {
		nodes = append(nodes, stack.CertsNode(m))
	}
	known, files := newKnown(in.PKI), in.PKI.FilesOf(nodes)
	found := make([][]certs.Use, len(nodes)+1)
	var wait sync.WaitGroup
	for i, n := range nodes {
		if h, ok := hosts[n.Name]; ok {
			l := newHostInventory(h, n, files[n.Name], known)
			l.clients = true
			wait.Go(func() { found[i] = l.look(ctx) })
		}
	}
	wait.Go(func() { found[len(nodes)] = apiUses(ctx, in, hosts, known) })
	wait.Wait()
	return slices.Concat(append(found, absentHosts(nodes, hosts, unreachable), known.stateUses())...)
}

// LocalInventory is the part of Inventory on one node, without the state.
func LocalInventory(ctx context.Context, h host.Host, n certs.Node) []certs.Use {
	ctx, cancel := context.WithTimeout(ctx, inventoryTimeout)
	defer cancel()
	clients := stack.ClientCerts()
	pki := &certs.PKI{Requests: certs.Table(certs.Inputs{Nodes: []certs.Node{n}, Clients: map[string][]certs.Client{n.Name: clients}})}
	l := newHostInventory(h, n, pki.Files(n), newKnown(pki))
	// Whether it has those is unknown here: they are found if kubeconfigs refer to them.
	l.paths = slices.DeleteFunc(l.paths, func(p string) bool {
		return slices.ContainsFunc(clients, func(c certs.Client) bool { return c.Path() == p })
	})
	return l.look(ctx)
}

// absentHosts returns an entry for each machine that could not be read.
func absentHosts(nodes []certs.Node, hosts map[string]host.Host, unreachable map[string]error) []certs.Use {
	why := map[string]string{}
	for _, n := range nodes {
		why[n.Name] = "the machine is not connected"
	}
	for name, err := range unreachable {
		why[name] = err.Error()
	}
	var uses []certs.Use
	for _, name := range slices.Sorted(maps.Keys(why)) {
		if _, ok := hosts[name]; !ok {
			uses = append(uses, certs.Use{Host: name, Place: certs.UnreadHost, Error: why[name]})
		}
	}
	return uses
}

// known is the content of the state, to identify the certificates of others.
type known struct {
	pki *certs.PKI
	// names of items by fingerprint.
	names map[string]string
}

func newKnown(pki *certs.PKI) known {
	k := known{pki: pki, names: map[string]string{}}
	for name, item := range pki.Material {
		for _, u := range certs.Read(certs.Use{}, item.Cert) {
			k.names[u.SHA256] = name
		}
	}
	return k
}

// named fills in the item's name by the fingerprint if none was expected.
func (k known) named(uses []certs.Use) []certs.Use {
	for i, u := range uses {
		if u.Name == "" && u.SHA256 != "" {
			uses[i].Name = k.names[u.SHA256]
		}
	}
	return uses
}

// stateUses returns the items of the state that belong to no node: CAs, people's certificates, and
// the keys of tokens.
func (k known) stateUses() []certs.Use {
	var uses []certs.Use
	for _, q := range k.pki.Requests {
		item, ok := k.pki.Material[q.Name]
		if ok && q.Node == "" {
			uses = append(uses, certs.Read(certs.Use{Place: certs.InState, Location: q.Name, Name: q.Name}, item.Cert)...)
		}
	}
	return uses
}

// placeOf returns the kind of place of an object.
var placeOf = map[string]certs.Place{
	"ValidatingWebhookConfiguration": certs.InWebhook,
	"MutatingWebhookConfiguration":   certs.InWebhook,
	"APIService":                     certs.InAPIService,
	"CustomResourceDefinition":       certs.InCRD,
	"CertificateSigningRequest":      certs.InCSR,
}

func apiUses(ctx context.Context, in stack.Input, hosts map[string]host.Host, known known) []certs.Use {
	ctx, cancel := context.WithTimeout(ctx, inventoryAPITimeout)
	defer cancel()
	unread := certs.Use{Place: certs.UnreadAPI, Location: stack.LoopbackURL(stack.BalancerPort)}
	client, err := live.API(in, hosts)
	if err != nil {
		unread.Error = err.Error()
		return []certs.Use{unread}
	}
	list, err := client.Certificates(ctx)
	var uses []certs.Use
	for _, c := range list {
		uses = append(uses, certs.Read(certs.Use{Place: placeOf[c.Kind], Location: c.Object}, c.PEM)...)
	}
	if err != nil {
		unread.Error = err.Error()
		uses = append(uses, unread)
	}
	return known.named(uses)
}
