package spec

// Infrastructure is what a provider found or made: the machines of one cluster and its endpoint.
type Infrastructure struct {
	// Machines are those in the spec that exist, in the order of Cluster.Nodes.
	Machines []Machine
	// Surplus are the names of machines that belong to the cluster but are not in the spec.
	Surplus []Machine
	// Disks are the disks of machines that do not exist: the provider's description by machine
	// name. A recreated machine uses its old disk.
	Disks map[string]string
	// Failed has, by machine name, why a machine cannot be used: it could not be made or started,
	// or has been altered.
	Failed map[string]error
	// Foreign resources have the cluster's name but belong to another cluster. Slipway does not
	// change them.
	Foreign []Foreign
	// States has, by machine name, MachineRunning or the provider's reason why the machine is not
	// running.
	States map[string]string
	// Endpoint is "host:port" of the API for the operator; empty if the provider has none.
	Endpoint string
	// EndpointDown is why Endpoint cannot answer ("balancer demo-balancer does not exist"); empty if
	// nothing is known against it.
	EndpointDown string
	// ExtraSANs are the names and addresses of Endpoint, for the API server's certificate.
	ExtraSANs []string
}

// Running returns the machines that run and can be used.
func (i *Infrastructure) Running() []Machine {
	var all []Machine
	for _, m := range i.Machines {
		if i.States[m.Name] == MachineRunning && i.Failed[m.Name] == nil {
			all = append(all, m)
		}
	}
	return all
}

// MachineRunning is the state of a running machine.
const MachineRunning = "running"

// Foreign is a resource of another cluster with the same name, or of another state.
type Foreign struct {
	// Kind is "machine", "disk", "network" or "balancer"; Name is the provider's.
	Kind, Name string
	// UID of its cluster; empty if an older slipway made it.
	UID string
	// Remove is a command with which the owner can remove it.
	Remove string
}

// ResourceChange is a resource besides machines and their disks, such as a network or a balancer,
// that a provider would create or change.
type ResourceChange struct {
	// Kind is "network" or "balancer"; Name is the provider's.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Exists means that it is changed or replaced; otherwise it is created.
	Exists bool `json:"exists,omitempty"`
	// Reason says what is wrong with it ("does not exist").
	Reason string `json:"reason"`
}
