package spec

// constraint has what the type of a field does not express. The loader, the defaults and the JSON
// Schema use this table.
type constraint struct {
	enum    []string // the allowed values
	def     string   // the value when the field is absent
	example string   // shown in remedies and in the schema
	pattern string   // only for the schema: necessary, not sufficient; the loader checks more, with better messages
	empty   bool     // the empty string is a value
	must    bool     // the field cannot be left out; from its type, not in the table
	number  bool     // a whole number is also allowed, and becomes a string of its digits
	min     int      // of an integer
	max     int      // of an integer; 0 means no limit, for min and max
}

const (
	dnsLabel    = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	ipv4CIDR    = `^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$`
	duration    = `^([0-9]+[ydhm])+$`
	maxNodes    = 5000 // kubernetes.io/docs/setup/best-practices/cluster-large
	nodeCIDRLen = 24   // every node gets a /24 of the pod subnet, kube-controller-manager's default
)

var (
	podSecurityLevels = []string{"privileged", "baseline", "restricted"}
	keyAlgorithms     = []string{"ECDSA-P256", "ECDSA-P384", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"}
	taintEffects      = []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}
	proxyModes        = []string{"nftables", "iptables", "ipvs"}
)

// constraints is keyed by Go type and YAML field.
var constraints = map[string]constraint{
	"Cluster.apiVersion": {enum: []string{APIVersion}, example: APIVersion},
	"Cluster.kind":       {enum: []string{Kind}, example: Kind},
	"Metadata.name":      {example: "demo", pattern: dnsLabel},
	"Kubernetes.version": {example: "v1.36.3", pattern: `^v[0-9]+\.[0-9]+\.[0-9]+$`},

	"LocalProvider.subnet":  {def: "10.89.0.0/24", pattern: ipv4CIDR},
	"LocalProvider.apiPort": {example: "6443", max: 65535},
	"LocalProvider.bundle":  {enum: []string{string(MountBundle), string(CopyBundle)}, example: string(CopyBundle)},
	"Bundle.keepVersions":   {example: "2", max: 100},
	"Bundle.url":            {example: "https://mirror.example.com/slipway", pattern: `^https?://`},
	"AWSProvider.region":    {example: "eu-central-1"},

	"HostsProvider.sshConfig":     {example: "~/.ssh/config"},
	"SSHSettings.user":            {example: "admin"},
	"SSHSettings.port":            {example: "22", min: 1, max: 65535},
	"SSHSettings.agent":           {example: "none"},
	"SSHSettings.identityFiles":   {example: "~/.ssh/id_ed25519"},
	"SSHSettings.knownHostsFiles": {example: "~/.ssh/known_hosts"},
	"SSHSettings.jumps":           {example: "admin@bastion.example.com"},
	"PoolHost.privateAddress":     {example: "10.0.0.10"},
	"HostsFrom.command":           {example: "./inventory.sh"},
	"TerraformOutput.directory":   {example: "infra"},
	"TerraformOutput.output":      {example: "workers"},
	"TerraformOutput.program":     {example: "tofu"},
	"AnsibleGroup.inventory":      {example: "hosts.ini"},
	"AnsibleGroup.group":          {example: "workers"},
	"PoolHost.name":               {example: "worker-a"},

	"NodePool.name":                {example: "workers", pattern: dnsLabel},
	"NodePool.role":                {enum: []string{string(ControlPlane), string(Worker)}, example: string(Worker)},
	"NodePool.replicas":            {example: "3", min: 1, max: maxNodes},
	"NodePool.proxyMode":           {enum: proxyModes},
	"RollingUpdate.maxUnavailable": {example: "25%", number: true, pattern: `^[1-9][0-9]*%?$`},
	"PoolHost.address":             {example: "192.0.2.10"},
	"Taint.key":                    {example: "example.com/dedicated"},
	"Taint.value":                  {empty: true},
	"Taint.effect":                 {enum: taintEffects, example: taintEffects[0]},

	"Network.podSubnet":      {def: "10.244.0.0/16", pattern: ipv4CIDR},
	"Network.serviceSubnet":  {def: "10.96.0.0/12", pattern: ipv4CIDR},
	"Network.dnsDomain":      {def: "cluster.local"},
	"Network.plugin":         {enum: []string{"flannel", "none"}, def: "flannel"},
	"Network.flannelBackend": {enum: []string{"vxlan", "host-gw"}, def: "vxlan"},
	"Network.proxyMode":      {enum: proxyModes, def: "nftables"},
	"DNS.replicas":           {example: "3", min: 1, max: 1000},
	"DNS.extraCorefile":      {example: "corp.example:53 {\n  forward . 192.0.2.53\n}\n"},
	"EndpointSpec.endpoint":  {example: "k8s.example.com:6443"},

	"PKI.caValidity":     {def: "30y", pattern: duration},
	"PKI.leafValidity":   {def: "10y", pattern: duration},
	"PKI.adminValidity":  {pattern: duration, example: "1y"},
	"PKI.csrValidity":    {pattern: duration, example: "1y"},
	"PKI.renewalWindow":  {example: "30d", pattern: duration},
	"PKI.keyAlgorithm":   {enum: keyAlgorithms, def: "ECDSA-P256"},
	"PKI.caKeyAlgorithm": {enum: keyAlgorithms},
	"Authority.certFile": {example: "pki/ca.crt"},
	"Authority.keyFile":  {example: "pki/ca.key"},

	"ExpiryMetrics.directory": {example: "/var/lib/prometheus/node-exporter", pattern: `^/`},

	"State.directory":  {example: "state"},
	"S3State.bucket":   {example: "example-slipway", pattern: `^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`},
	"S3State.prefix":   {example: "clusters/demo"},
	"S3State.region":   {example: "eu-central-1"},
	"S3State.endpoint": {example: "https://s3.example.com"},

	"PodSecurity.enforce": {enum: podSecurityLevels, def: "privileged"},
	"PodSecurity.warn":    {enum: podSecurityLevels, def: "baseline"},
	"PodSecurity.audit":   {enum: podSecurityLevels, def: "baseline"},
}
