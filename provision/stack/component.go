package stack

import (
	"net/http"
	"net/netip"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/templates"
)

// Components are the parts of nodes, one file each. The order is for readers: systemd starts all
// units at once, ordered by After. Desired state, plans, proofs and inventories are loops over
// them.
var Components = []Component{
	base, containerd, balancer, etcd, apiServer, controllerManager, scheduler, kubelet, proxy, coreDNS, flannel, images, certificates,
}

// Component is one part of the stack: everything that a host has because of it. An addon is one
// without a unit.
//
// The flags that a component's spec cannot override are in package spec (owned.go), which checks a
// spec without a stack. TestOwnedFlags checks that both agree.
type Component struct {
	Name string
	// On selects the nodes that have it.
	On func(Node) bool
	// Unit is its service, nil for none, and Timer a program that it runs periodically.
	Unit  *Service
	Timer *Timer
	// Files are its configuration.
	Files []ConfigFile
	// Programs and Images are artifacts of the bundle, by name: images are "image/<name>", and are
	// imported into the container runtime.
	Programs, Images []string
	// Plugins are CNI plugins, in one directory. Network means that they provide the pod network:
	// without such a component a user has to install one, and nodes are not Ready before that.
	Plugins []string
	Network bool
	// Commands are programs that need a path that does not change with their version.
	Commands []Command
	// Certs are its client certificates. Those of Kubernetes' own components are in certs.Table.
	Certs []certs.Client
	// Kubeconfigs refer to certificate files; Embedded contain the certificates.
	Kubeconfigs []Kubeconfig
	Embedded    []EmbeddedKubeconfig
	// Endpoints are the places where it serves certificates, and verifies those of clients.
	Endpoints []Endpoint
	// Clients are its certificates that it uses on long-lived connections.
	//
	// Clients of etcd are not among them: their connections last as long as the process, and their
	// certificates are not reread. Nor is front-proxy-client: its connections go to any port of any
	// pod. API servers read it when its file changes, or within a minute, and open new connections
	// for every request that begins then (k8s.io/kube-aggregator/pkg/apiserver, updateAPIService);
	// if its CA changes, they restart (Service.Issuers).
	Clients []Client
	// Objects renders its objects in the API as one YAML stream; nil or an empty stream is none.
	Objects func(Input) ([]byte, error)
	// Accounts are system users that it needs, each with a group of its name.
	Accounts []string
	// Modules are kernel modules that it uses; nil is none.
	Modules func(Node) []string
}

// Service is a component's systemd service.
type Service struct {
	// Name of the unit, with its suffix.
	Name string
	Text func(Node) templates.Unit
	// Programs and Files are what the service reads at its start and does not reload, or not soon:
	// a change restarts it. Images means that it also reads all images of the node. Certificates
	// with their keys are reloaded by all services, and client CAs by all except etcd. Not reloaded
	// are etcd's CAs, the keys of service accounts, and the certificates that the controller
	// manager publishes; a client rereads its CA after 5 min at the earliest (client-go 0.36,
	// ClientsAllowCARotation), flanneld never.
	Programs, Files []string
	Images          bool
	// Partly are files that it reloads except for a part, which is returned here: that part is read
	// only when it starts.
	Partly map[string]func() []byte
	// Issuers are the CAs and keys of the credentials that the service holds in memory: connections
	// with a client certificate, tokens of pods. It is restarted if one of them is replaced, since
	// the service would notice that only after minutes; not if a certificate is renewed. API
	// servers use certificates with kubelets, and those of the front proxy with extension API
	// servers.
	Issuers []string
	// Needs is another unit that must be running while this one stops: this one is stopped before
	// both are restarted. (systemd stops units in the reverse of their order, but not those that it
	// restarts.)
	Needs string
	// Health is a URL that returns 200 once the service works, for services that cannot notify
	// systemd (Type=simple is active as soon as it has begun).
	Health string
	// MaxAge is how long it may run before the next apply restarts it; 0 is unlimited.
	MaxAge time.Duration
	// Late services have nothing to do before the API answers. On a first start they begin then, so
	// that they take no processor time from what the others wait for, and are not in a back-off
	// when the API is up.
	Late bool
	// Disturbs is the effect of a restart on the cluster's workloads; IfSingle the effect if this
	// is the only control plane, and Ends the effect of stopping it permanently, if that differs.
	Disturbs, IfSingle, Ends string
}

// Timer is a program that runs periodically. Its timer is a unit like others; its service is only a
// file: it is not enabled, and not active in between. Its program is loaded at every run: nothing
// has to be restarted.
type Timer struct {
	Name        string // of both, without the suffix
	Description string
	Every       string // as systemd.time(7) has it
	Service     func(Node) templates.Unit
}

func (t Timer) timer() string { return t.Name + ".timer" }

func (t Timer) program() string { return t.Name + ".service" }

// ConfigFile is one configuration file.
type ConfigFile struct {
	Path string
	// On narrows the component's nodes; nil is all of them.
	On     func(Node) bool
	Render func(Node) ([]byte, error)
	Secret bool
	// Public files are readable for users other than root.
	Public bool
	// Unread files are read by no process of the node, only by programs that people start: to write
	// one disturbs nothing, and no gate has to follow.
	Unread bool
}

// Command is a program at a path that does not change with its version, on the PATH of a node, for
// people.
type Command struct{ Name, At string }

// Kubeconfig refers to certificate files, which clients reread: a renewal needs no restart and
// changes no kubeconfig.
//
// Clients that act for the whole cluster connect to the API server on their own node, whose version
// they must not exceed during an upgrade (the version skew policy); clients that act for the node
// connect through the node's balancer.
type Kubeconfig struct {
	Name string // of the file in /etc/kubernetes
	User string
	Port int
	Cert string // path without extension
}

func (k Kubeconfig) path() string { return KubernetesDir + "/" + k.Name }

func (k EmbeddedKubeconfig) path() string { return KubernetesDir + "/" + k.Name }

// EmbeddedKubeconfig contains a certificate, for people and for kubeadm's tools, which reject other
// forms under these names (`kubeadm certs check-expiration`). No component reads it.
type EmbeddedKubeconfig struct {
	Name string // of the file in /etc/kubernetes
	User string
	Port int
	// Item is the certificate of a node.
	Item func(node string) string
}

// Endpoint is a place where a component of the stack serves TLS.
type Endpoint struct {
	// Unit is its component's unit.
	Unit string
	// ControlPlane means that only control planes have it, Loopback that it listens on 127.0.0.1
	// and not on the node's address.
	ControlPlane, Loopback bool
	Port                   int
	// ServerName asks for another certificate than the usual one (SNI).
	ServerName string
	// Cert is the file of the certificate that it serves, "" if the process made that itself, and
	// Server its CA.
	Cert, Server string
	// Client is a CA of the clients that it accepts, "" if it is not checked here. Path is what a
	// client without rights may request: the answer to an unknown client is 401, or no handshake.
	Client, Path string
	// Header is sent with the request, for a CA whose clients act for other users.
	Header http.Header
}

// Client is a client certificate that a unit uses, with the port of the server.
type Client struct {
	// Unit is its component's unit.
	Unit, Cert string
	Port       int
	// Mixed means that the unit has other long-lived connections to that port that use tokens:
	// those of controllers.
	Mixed bool
	// Disturbs says what people notice when the unit ends its connections, which client-go does once
	// it sees that the certificate was renewed. Empty if they notice nothing.
	Disturbs string
}

// Units are the services of the stack.
func Units() []Service {
	var all []Service
	for _, c := range Components {
		if c.Unit != nil {
			all = append(all, *c.Unit)
		}
	}
	return all
}

// IsLate reports whether a unit of the stack is late.
func IsLate(name string) bool {
	return slices.ContainsFunc(Units(), func(s Service) bool { return s.Name == name && s.Late })
}

// Unread reports whether only people's programs, and slipway itself, read a file: see
// ConfigFile.Unread.
func Unread(path string) bool {
	return path == OwnedFile || slices.ContainsFunc(Components, func(c Component) bool {
		return slices.ContainsFunc(c.Files, func(f ConfigFile) bool { return f.Path == path && f.Unread })
	})
}

// Endpoints returns every place where certificates are served, and where those of clients are
// verified.
func Endpoints() []Endpoint {
	var all []Endpoint
	for _, c := range Components {
		for _, e := range c.Endpoints {
			e.Unit = c.Unit.Name
			all = append(all, e)
		}
	}
	return all
}

// Clients returns the client certificates that units use on long-lived connections.
func Clients() []Client {
	var all []Client
	for _, c := range Components {
		for _, client := range c.Clients {
			client.Unit = c.Unit.Name
			all = append(all, client)
		}
	}
	return all
}

// Manifests renders the objects that every cluster gets.
func Manifests(in Input) ([]byte, error) {
	var all []byte
	for _, c := range Components {
		if c.Objects == nil {
			continue
		}
		text, err := c.Objects(in)
		if err != nil {
			return nil, err
		}
		if len(text) > 0 {
			all = append(append(all, "---\n"...), text...)
		}
	}
	return all, nil
}

// Embedded returns the kubeconfigs with embedded certificates, which control planes have.
func Embedded() []EmbeddedKubeconfig {
	var all []EmbeddedKubeconfig
	for _, c := range Components {
		all = append(all, c.Embedded...)
	}
	return all
}

// Programs returns the names of the artifacts that the hosts of a cluster get, sorted; images are
// "image/<name>".
func Programs() []string {
	var all []string
	for _, c := range Components {
		all = append(all, c.artifacts()...)
	}
	slices.Sort(all)
	return all
}

// artifacts returns the artifacts of the bundle that a node with the component gets.
func (c Component) artifacts() []string { return slices.Concat(c.Programs, c.Plugins, c.Images) }

// Everywhere selects all nodes.
func Everywhere(Node) bool { return true }

// narrowed reports whether on selects a node; nil selects all.
func narrowed(on func(Node) bool, n Node) bool { return on == nil || on(n) }

// On reports whether the node has the endpoint.
func (e Endpoint) On(n certs.Node) bool { return n.ControlPlane || !e.ControlPlane }

// Address of an endpoint on a node.
func (e Endpoint) Address(n certs.Node) string {
	address := n.Address
	if e.Loopback {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(address, uint16(e.Port)).String() //nolint:gosec // G115: a port of the table
}

// Shows reports whether the endpoint serves a certificate of its own; the others check further CAs
// on one that does.
func (e Endpoint) Shows() bool { return e.Cert != "" || e.ServerName != "" }
