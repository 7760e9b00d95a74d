package spec

// Infrastructure is what a provider found or made: the machines of one cluster and the way in.
type Infrastructure struct {
	// Machines that the spec asks for and that exist, in the order of Cluster.Nodes.
	Machines []Machine
	// Surplus machines belong to the cluster but are not in the spec, by name.
	Surplus []Machine
	// States says of every machine, by name, MachineRunning or the provider's own words for why it is not.
	States map[string]string
	// Endpoint is "host:port" of the API for the operator; empty where the provider offers none.
	Endpoint string
	// ExtraSANs are names and addresses by which Endpoint is reached, for the API server's certificate.
	ExtraSANs []string
}

// MachineRunning is the state of a machine that is up.
const MachineRunning = "running"
