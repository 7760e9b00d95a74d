package spec

// Infrastructure is what a provider found or made: the machines of one cluster and the way in.
type Infrastructure struct {
	// Machines that the spec asks for and that exist, in the order of Cluster.Nodes.
	Machines []Machine
	// Surplus machines belong to the cluster but are not in the spec, by name.
	Surplus []Machine
	// Disks of machines that do not exist, by the machine's name, in the provider's words. A machine that is made again gets
	// its disk back.
	Disks map[string]string
	// Failed says why nothing can be done with a machine, by name: that it could not be made or started, or is not as it was made.
	Failed map[string]error
	// Foreign things carry the cluster's name and belong to another cluster: nobody touches them.
	Foreign []Foreign
	// States says of every machine, by name, MachineRunning or the provider's own words for why it is not.
	States map[string]string
	// Endpoint is "host:port" of the API for the operator; empty where the provider offers none.
	Endpoint string
	// ExtraSANs are names and addresses by which Endpoint is reached, for the API server's certificate.
	ExtraSANs []string
}

// MachineRunning is the state of a machine that is up.
const MachineRunning = "running"

// Foreign is something that belongs to another cluster of the same name, or to a state that this one is not.
type Foreign struct {
	// Kind is "machine", "disk", "network" or "balancer"; Name is the provider's.
	Kind, Name string
	// UID is that of the cluster that it belongs to; empty if an older slipway made it.
	UID string
	// Remove is a command that removes it, for the owner to run.
	Remove string
}
