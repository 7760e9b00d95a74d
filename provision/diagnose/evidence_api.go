package diagnose

import (
	"net/netip"
	"time"
)

// API is what the cluster's API says.
type API struct {
	// Asked means that there is a cluster to ask. Error is why nothing was learned.
	Asked bool   `json:"asked"`
	Error string `json:"error,omitempty"`
	// Servers are the API servers, each asked on its own machine.
	Servers []APIServer `json:"servers"`
	// Partial are the questions that were not answered.
	Partial  []string `json:"partial,omitempty"`
	Nodes    []Node   `json:"nodes"`
	Pods     []Pod    `json:"pods"`
	PodCount int      `json:"podCount"`
	// Targets has, by node, the address of its oldest pod that is ready and has a network of its own.
	Targets     map[string]netip.AddrPort `json:"podTargets,omitempty"`
	Events      []Event                   `json:"events"`
	Leases      []Lease                   `json:"leases"`
	Webhooks    []Webhook                 `json:"webhooks"`
	APIServices []APIService              `json:"apiServices"`
	Terminating []Namespace               `json:"terminatingNamespaces"`
	Tokens      []Token                   `json:"bootstrapTokens"`
	DNS         DNS                       `json:"dns"`
	// Tries are the errors of creations that were tried without effect (dry runs).
	Tries []string `json:"tries,omitempty"`
}

// Known reports whether the API was read.
func (a *API) Known() bool { return a.Asked && a.Error == "" }

// APIServer is one API server.
type APIServer struct {
	Host string `json:"host"`
	// Error is why it is not ready; empty if it is.
	Error string `json:"error,omitempty"`
	// Refused means that nothing listens.
	Refused bool `json:"refused,omitempty"`
}

// Node is a node in the API.
type Node struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Ready   bool   `json:"ready"`
	// Reason and Message are the kubelet's or, if it is silent, the controller manager's.
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	Cordoned bool   `json:"cordoned,omitempty"`
	// Pressure has the messages of the conditions that are true, by type.
	Pressure map[string]string `json:"pressure,omitempty"`
	PodCIDR  string            `json:"podCIDR,omitempty"`
	// Silent means that the kubelet has not reported for longer than it may.
	Silent bool `json:"silent,omitempty"`
}

// Pod is a pod that is not well.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Node      string `json:"node,omitempty"`
	// Owner is "Deployment/web"; the pod itself if nothing owns it.
	Owner string `json:"owner"`
	Phase string `json:"phase"`
	// Reason is why a container waits ("CrashLoopBackOff"), or why the pod is not scheduled
	// ("Unschedulable"); Message is the kubelet's or the scheduler's.
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
	Container string `json:"container,omitempty"`
	Image     string `json:"image,omitempty"`
	Restarts  int32  `json:"restarts"`
	// Last is how the container ended the last time ("OOMKilled", "Error"), with its exit code.
	Last     string `json:"last,omitempty"`
	ExitCode int32  `json:"exitCode,omitempty"`
	// LastLine is the end of that container's log.
	LastLine string `json:"lastLine,omitempty"`
	// For is how long the pod has existed.
	For time.Duration `json:"for"`
}

// Event is a warning.
type Event struct {
	Object  string    `json:"object"` // "Pod kube-system/coredns-x"
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int32     `json:"count"`
	Last    time.Time `json:"last"`
}

// Lease is the lease of a leader or of a node.
type Lease struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Holder    string `json:"holder"`
	// Age is the time since it was renewed, compared with the newest of all leases; Duration is how
	// long it holds.
	Age      time.Duration `json:"age"`
	Duration time.Duration `json:"duration"`
}

// Webhook is an admission webhook with a Service.
type Webhook struct {
	// Kind is "validatingwebhookconfiguration" or "mutatingwebhookconfiguration".
	Kind   string `json:"kind"`
	Config string `json:"config"`
	Name   string `json:"name"`
	// Fail means that requests are refused if the webhook does not answer.
	Fail    bool   `json:"fail"`
	Service string `json:"service"` // "namespace/name"
	// Problem is why the Service has nothing behind it; empty if it has.
	Problem string `json:"problem,omitempty"`
}

// APIService is an API that another server provides.
type APIService struct {
	Name    string `json:"name"`
	Service string `json:"service"`
	// Problem is why it is not available; empty if it is.
	Problem string `json:"problem,omitempty"`
}

// Namespace is one that is being deleted.
type Namespace struct {
	Name string        `json:"name"`
	For  time.Duration `json:"for"`
	Why  []string      `json:"why"`
}

// Token is a bootstrap token; its secret half is not kept.
type Token struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expires,omitzero"`
	Expired bool      `json:"expired"`
}

// DNS is the cluster's DNS.
type DNS struct {
	// Exists means that the Deployment exists; Want and Ready are its replicas.
	Exists bool  `json:"exists"`
	Want   int32 `json:"want"`
	Ready  int32 `json:"ready"`
	// Endpoints of its Service that are ready.
	Endpoints int `json:"endpoints"`
	// Nodes of its pods.
	Nodes []string `json:"nodes,omitempty"`
}
