package stack

import (
	"net/http"
	"net/netip"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/templates"
)

// Components are what nodes are made of, one file each. The order is for readers: systemd starts all units at once, along
// After. Desired state, plans, proofs and inventories are loops over them.
var Components = []Component{
	base, containerd, balancer, etcd, apiServer, controllerManager, scheduler, kubelet, proxy, coreDNS, flannel, images, certificates,
}

// Component is one part of the stack: all that a host has because of it. An addon is one without a unit.
//
// What a component's spec cannot override of it is not here but in package spec (owned.go), which checks a spec before there
// is any stack. TestOwnedFlags says that both agree.
type Component struct {
	Name string
	// On tells which nodes have it.
	On func(Node) bool
	// Unit is its service, nil for none, and Timer a program that it runs now and then.
	Unit  *Service
	Timer *Timer
	// Files are its configuration.
	Files []ConfigFile
	// Programs and Images are artifacts of the bundle, by name: images are "image/<name>", and the container runtime gets them.
	Programs, Images []string
	// Plugins are programs that are plugins of CNI, in one directory. Network says that they give pods their
	// network: without such a component somebody has to install one, and nodes are not Ready before.
	Plugins []string
	Network bool
	// Commands are programs that are wanted at places that do not change with their versions.
	Commands []Command
	// Certs are its client certificates. Those of Kubernetes' own components are in certs.Table.
	Certs []certs.Client
	// Kubeconfigs point at files of certificates; Embedded have them inside.
	Kubeconfigs []Kubeconfig
	Embedded    []EmbeddedKubeconfig
	// Endpoints are where it shows certificates to others, and checks those of others.
	Endpoints []Endpoint
	// Clients are its certificates that it shows to others on connections that last.
	//
	// Clients of etcd are not among them: their connections last for as long as the process, and are not looked at again.
	// Nor is front-proxy-client: its connections go to any port of any pod. API servers read it when its file changes, or
	// within a minute, and take new connections for every request that begins then (k8s.io/kube-aggregator/pkg/apiserver,
	// updateAPIService); under another authority they restart (Service.Issuers).
	Clients []Client
	// Objects are what the cluster gets in its API, one YAML stream of them; nil, and an empty stream, is none.
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
	// Programs and Files are what the service reads at its start and does not reload, or not soon: a change restarts it.
	// Images says that it reads all images of the node, too.
	// Certificates with their keys are reloaded by all services, and the authorities of clients by all but etcd. Not
	// reloaded are etcd's authorities, the keys of service accounts, and what the controller manager publishes; a client
	// looks at its authority again after 5 min at the earliest (client-go 0.36, ClientsAllowCARotation), flanneld never.
	Programs, Files []string
	Images          bool
	// Partly are files that it reloads but for a part, which is given here: that part is read when it starts.
	Partly map[string]func() []byte
	// Issuers are authorities and keys with which others make what the service holds in memory: connections with a client
	// certificate, tokens of pods. It is restarted where another takes the place of one, since it would only be looked
	// for after minutes; not where a certificate is renewed. API servers show certificates to kubelets, and those of the
	// front proxy to extension API servers.
	Issuers []string
	// Needs is another unit that has to be there while this one stops: it is stopped before both are restarted.
	// (systemd stops units in the reverse of their order, but not those that it restarts.)
	Needs string
	// Health is a URL that answers 200 once the service does its work, for those that cannot tell systemd so themselves
	// (Type=simple is active as soon as it has begun).
	Health string
	// MaxAge is how long it may run before the next apply restarts it; 0 is for ever.
	MaxAge time.Duration
	// Late services have nothing to do before the API answers. On a first start they begin then, so that they take no
	// processor time from what everybody waits for, and do not sit in a back-off when it is there.
	Late bool
	// Disturbs says what a restart means for what runs in the cluster; IfSingle what it means if this is the only control
	// plane, and Ends what it means that it stops for good, if that is something else.
	Disturbs, IfSingle, Ends string
}

// Timer is a program that runs now and then. Its timer is a unit like others; its service is only a file: it is not
// enabled, and not active in between. What it runs is read anew each time: nothing has to be restarted.
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
	// Public files are for others than root, too.
	Public bool
}

// Command is a program at a place that does not change with its version: people expect it on the PATH of a node.
type Command struct{ Name, At string }

// Kubeconfig points at certificate files, which clients reread: a renewal needs no restart and changes no kubeconfig.
//
// What speaks for the whole cluster goes to the API server beside it, whose version it must not exceed during an upgrade
// (the version skew policy); what speaks for the node goes through the node's balancer.
type Kubeconfig struct {
	Name string // of the file in /etc/kubernetes
	User string
	Port int
	Cert string // path without extension
}

func (k Kubeconfig) path() string { return KubernetesDir + "/" + k.Name }

func (k EmbeddedKubeconfig) path() string { return KubernetesDir + "/" + k.Name }

// EmbeddedKubeconfig has a certificate inside, for people and for kubeadm's tools, which refuse others under these names
// (`kubeadm certs check-expiration`). No component reads it.
type EmbeddedKubeconfig struct {
	Name string // of the file in /etc/kubernetes
	User string
	Port int
	// Item is the certificate of a node.
	Item func(node string) string
}

// Endpoint is a place where a component of the stack answers TLS.
type Endpoint struct {
	// Unit is that of its component.
	Unit string
	// ControlPlane says that only those have it, Loopback that it listens on 127.0.0.1 and not on the node's address.
	ControlPlane, Loopback bool
	Port                   int
	// ServerName asks for another certificate than the usual (SNI).
	ServerName string
	// Cert is the file of what it serves, "" for what the process made itself, and Server the authority of that.
	Cert, Server string
	// Client is an authority of the clients that it takes, "" where that is not asked here, and Path what a client may
	// ask that has no rights: the answer to one that is not known is 401, or no handshake.
	Client, Path string
	// Header goes with the question, for an authority whose clients speak for others.
	Header http.Header
}

// Client is a client certificate that a unit shows to others, and to which port.
type Client struct {
	// Unit is that of its component.
	Unit, Cert string
	Port       int
	// Mixed says that the unit has other connections to there, which show tokens and last: those of controllers.
	Mixed bool
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

// Endpoints is every place where certificates are shown to others, and where those of others are checked.
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

// Clients are the client certificates that units show on connections that last.
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

// Embedded are the kubeconfigs with their certificates inside, which control planes have.
func Embedded() []EmbeddedKubeconfig {
	var all []EmbeddedKubeconfig
	for _, c := range Components {
		all = append(all, c.Embedded...)
	}
	return all
}

// Programs are the names of the artifacts that the hosts of a cluster get, sorted; images are "image/<name>".
func Programs() []string {
	var all []string
	for _, c := range Components {
		all = append(all, c.artifacts()...)
	}
	slices.Sort(all)
	return all
}

// artifacts of the bundle that a node with the component gets.
func (c Component) artifacts() []string { return slices.Concat(c.Programs, c.Plugins, c.Images) }

// Everywhere is the condition of what every node has.
func Everywhere(Node) bool { return true }

// narrowed tells whether a node has what on narrows.
func narrowed(on func(Node) bool, n Node) bool { return on == nil || on(n) }

// On says whether a node has the endpoint.
func (e Endpoint) On(n certs.Node) bool { return n.ControlPlane || !e.ControlPlane }

// Address of an endpoint on a node.
func (e Endpoint) Address(n certs.Node) string {
	address := n.Address
	if e.Loopback {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(address, uint16(e.Port)).String() //nolint:gosec // G115: a port of the table
}

// Shows says whether the endpoint has a certificate of its own to show; the others ask more of one that has.
func (e Endpoint) Shows() bool { return e.Cert != "" || e.ServerName != "" }
