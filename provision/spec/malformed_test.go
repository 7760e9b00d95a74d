package spec

import (
	"errors"
	"strings"
	"testing"
)

// mark stands in a test's YAML before the place that the diagnostic must point at, and is no part
// of the YAML.
const mark = "«"

// unmark removes the marks and gives their positions.
func unmark(t *testing.T, yaml string) (string, []position) {
	t.Helper()
	var places []position
	lines := strings.Split(yaml, "\n")
	for i := range lines {
		for {
			before, after, ok := strings.Cut(lines[i], mark)
			if !ok {
				break
			}
			places = append(places, position{i + 1, len([]rune(before)) + 1})
			lines[i] = before + after
		}
	}
	return strings.Join(lines, "\n"), places
}

// malformed are changes of the minimal spec that make one mistake each.
var malformed = []struct {
	name     string
	old, new string // new has the mark where the mistake is
	field    string
	message  string // a part of it
	remedy   string // a part of it
}{
	// The audit policy, which the API server reads strictly.
	{"policy without rules", "{version: v1.36.3}", "{version: v1.36.3, apiServer: {auditPolicy: «{omitStages: [RequestReceived]}}}", "spec.kubernetes.apiServer.auditPolicy", "has no rules", "rules: [{level: Metadata}]"},
	{"unknown audit level", "{version: v1.36.3}", "{version: v1.36.3, apiServer: {auditPolicy: {rules: [{level: «Everything}]}}}", "spec.kubernetes.apiServer.auditPolicy[rules][0].level", "Everything is not a level", "None, Metadata, Request, RequestResponse"},
	{"unknown field of an audit rule", "{version: v1.36.3}", "{version: v1.36.3, apiServer: {auditPolicy: {rules: [{level: None, «user: [a]}]}}}", "spec.kubernetes.apiServer.auditPolicy[rules][0].user", `unknown field "user"`, "users"},
	{"another kind of policy", "{version: v1.36.3}", "{version: v1.36.3, apiServer: {auditPolicy: {kind: «AuditPolicy, rules: [{level: None}]}}}", "spec.kubernetes.apiServer.auditPolicy[kind]", "AuditPolicy is not what", "write Policy"},

	// How pools are changed.
	{"nobody may be unavailable", "taints: []", "rollingUpdate: {maxUnavailable: «0}", "spec.nodePools[1].rollingUpdate.maxUnavailable", `"0" is neither a number`, "from 1"},
	{"more than all", "taints: []", `rollingUpdate: {maxUnavailable: «"101%"}`, "spec.nodePools[1].rollingUpdate.maxUnavailable", `"101%" is neither a number`, `"100%"`},
	{"two control planes at once", "role: control-plane,", "role: control-plane, rollingUpdate: {maxUnavailable: «2},", "spec.nodePools[0].rollingUpdate.maxUnavailable", "one at a time", "remove it"},

	// The shape of the document.
	{"unknown API version", "slipway.dev/v1alpha1", "«slipway.dev/v1", "apiVersion", `"slipway.dev/v1" is not supported`, `write "slipway.dev/v1alpha1"`},
	{"wrong kind", "kind: Cluster", "kind: «Clutser", "kind", `"Clutser" is not supported`, `write "Cluster"`},
	{"kind missing", "apiVersion: slipway.dev/v1alpha1\nkind: Cluster", "«apiVersion: slipway.dev/v1alpha1", "kind", "is missing", "kind: Cluster"},
	{"name missing", "{name: demo}", "«{}", "metadata.name", "is missing", "name: demo"},
	{"metadata empty", "metadata: {name: demo}", "«metadata:", "metadata", "has no value", "write {}"},
	{"metadata a string", "{name: demo}", "«demo", "metadata", "must be a mapping, not a string", "name"},
	{"unknown field at the top", "kind: Cluster", "kind: Cluster\n«status: {}", "status", "unknown field", "apiVersion, kind, metadata, spec"},
	{"mistyped field", "nodePools:", "network: {«podSubnett: 10.1.0.0/16}\n  nodePools:", "spec.network.podSubnett", "unknown field", "did you mean `podSubnet`?"},
	{"wrong case of a field", "nodePools:", "pki: {«caValiditY: 1y}\n  nodePools:", "spec.pki.caValiditY", "unknown field", "`caValidity`"},
	{"mistyped required field", "nodePools:", "«nodePool:", "spec.nodePool", "unknown field", "`nodePools`"},
	{"duplicate field", "kubernetes: {version: v1.36.3}", "kubernetes: {version: v1.36.3, «version: v1.35.0}", "spec.kubernetes.version", "duplicate field, first on line 5", "remove one"},
	{"duplicate block", "nodePools:", "network: {}\n  «network: {}\n  nodePools:", "spec.network", "duplicate field, first on line 7", "remove one"},
	{"section without a value", "nodePools:", "«network:\n  nodePools:", "spec.network", "has no value", "remove the field"},
	{"list without a value", "taints: []", "«taints: ", "spec.nodePools[1].taints", "has no value", "write []"},
	{"string without a value", "name: demo", "«name: ", "metadata.name", "has no value", "for example demo"},
	{"pool without a value", "labels: {}, taints: []}", "labels: {}, taints: []}\n  -«", "spec.nodePools[2]", "has no value", "write {}"},
	{"item without a value", "labels: {}", "labels: {«a: }", "spec.nodePools[1].labels[a]", "has no value", "write a value"},
	{"number as a key", "nodePools:", "network: {«1: a}\n  nodePools:", "spec.network", "a number, and must be a string", "in quotes"},
	{"list for a mapping", "{version: v1.36.3}", "«[v1.36.3]", "spec.kubernetes", "must be a mapping, not a list", "version"},
	{"mapping for a list", "nodePools:", "controlPlane: {certSANs: «{a: b}}\n  nodePools:", "spec.controlPlane.certSANs", "must be a list, not a mapping", "dash"},
	{"tag", "name: demo", "name: «!!str demo", "metadata.name", "!!str", "remove the tag"},
	{"alias without an anchor", "name: demo", "name: «*name", "metadata.name", "no anchor named name", "before its first alias"},
	{"alias within its own value", "labels: {}", "labels: &l {a: «*l}", "spec.nodePools[1].labels[a]", "contains it", "write the value out"},
	{"merge of a scalar", "labels: {}", "labels: {<<: «x}", "spec.nodePools[1].labels", "only a mapping can be merged", "merge a mapping"},

	// Names and versions.
	{"upper-case name", "name: demo", "name: «Demo", "metadata.name", `"Demo" is not a DNS label`, "lower-case"},
	{"empty name", "name: demo", `name: «""`, "metadata.name", "is empty", "for example demo"},
	{"name with a dot", "name: demo", "name: «demo.example", "metadata.name", "not a DNS label", "dashes"},
	{"number for a name", "name: demo", "name: «12", "metadata.name", "must be a string, not a number", `"12"`},
	{"boolean for a name", "name: demo", "name: «true", "metadata.name", "must be a string, not a boolean", `"true"`},
	{"version as a number", "v1.36.3", "«1.36", "spec.kubernetes.version", "must be a string, not a number", "write it in full, such as v1.36.3"},
	{"version without v", "v1.36.3", "«1.36.3", "spec.kubernetes.version", "lacks the leading v", "such as v1.36.3"},
	{"version without patch", "v1.36.3", "«v1.36", "spec.kubernetes.version", "not a complete version", "v1.36.3"},
	{"version not released", "v1.36.3", "«v1.36.0-rc.1", "spec.kubernetes.version", "is not a release", "such as v1.36.3"},
	{"version a word", "v1.36.3", "«latest", "spec.kubernetes.version", "not a Kubernetes version", "v1.36.3"},
	{"version missing", "{version: v1.36.3}", "«{}", "spec.kubernetes.version", "is missing", "version: v1.36.3"},

	// Providers.
	{"no provider", "provider: {local: {}}", "provider: «{}", "spec.provider", "names no provider", "local: {}"},
	{"provider without a value", "provider: {local: {}}", "provider: {«local: }", "spec.provider.local", "has no value", "write {}"},
	{"provider unknown", "provider: {local: {}}", "provider: {«lokal: {}}", "spec.provider.lokal", "unknown field", "`local`"},
	{"provider aws", "provider: {local: {}}", "provider: {aws: «{}}", "spec.provider.aws", "the aws provider is not available yet", "local: {}"},
	{"port out of range", "local: {}", "local: {apiPort: «65536}", "spec.provider.local.apiPort", "65536 is out of range", "from 0 to 65535"},
	{"port negative", "local: {}", "local: {apiPort: «-1}", "spec.provider.local.apiPort", "-1 is out of range", "from 0 to 65535"},
	{"unknown delivery", "local: {}", "local: {bundle: «download}", "spec.provider.local.bundle", "download", "copy"},
	{"port octal", "local: {}", "local: {apiPort: «0100}", "spec.provider.local.apiPort", "not a plain decimal", "without leading zeros"},
	{"port too large for a number", "local: {}", "local: {apiPort: «99999999999999999999}", "spec.provider.local.apiPort", "99999999999999999999 is too large", "a smaller number"},
	{"port a fraction", "local: {}", "local: {apiPort: «1.5}", "spec.provider.local.apiPort", "must be a whole number", "whole number"},

	// Pools.
	{"no pools", "  nodePools:\n  - {name: cp, role: control-plane, replicas: 3}\n  - {name: worker, role: worker, replicas: 1, labels: {}, taints: []}\n", "  nodePools: «[]\n", "spec.nodePools", "no control-plane node", "role: control-plane"},
	{"no control plane", "- {name: cp, role: control-plane", "«- {name: cp, role: worker", "spec.nodePools", "no control-plane node", "role: control-plane"},
	{"even control planes", "replicas: 3", "replicas: «2", "spec.nodePools[0].replicas", "an even number tolerates no more failures than 1", "3 or 5"},
	{"too many control planes", "{name: cp, role: control-plane, replicas: 3}", "{name: cp, role: control-plane, replicas: «9}", "spec.nodePools[0].replicas", "etcd has at most 7", "use 3 or 5; 7 are the most"},
	{"too many and even", "{name: cp, role: control-plane, replicas: 3}", "{name: cp, role: control-plane, replicas: «8}", "spec.nodePools[0].replicas", "etcd has at most 7", "use 3 or 5; 7 are the most"},
	{"UID as a number", "metadata: {name: demo", "metadata: {uid: «1, name: demo", "metadata.uid", "must be a string, not a number", "in quotes: \"1\""},
	{"even over two pools", "role: worker, replicas: 1", "role: control-plane, replicas: «1", "spec.nodePools[1].replicas", "4 control-plane nodes", "3 or 5"},
	{"replicas zero", "replicas: 1", "replicas: «0", "spec.nodePools[1].replicas", "0 is out of range", "from 1 to 5000"},
	{"replicas in quotes", "replicas: 1", `replicas: «"1"`, "spec.nodePools[1].replicas", "must be a whole number, not a string", "without quotes: 1"},
	{"replicas a word", "replicas: 1", "replicas: «one", "spec.nodePools[1].replicas", "must be a whole number, not a string", "whole number"},
	{"replicas missing", "{name: worker, role: worker, replicas: 1, labels", "«{name: worker, role: worker, labels", "spec.nodePools[1].replicas", "is missing", "replicas: 1"},
	{"too many nodes", "replicas: 1", "replicas: «5001", "spec.nodePools[1].replicas", "5001 is out of range", "from 1 to 5000"},
	{"role unknown", "role: worker", "role: «wroker", "spec.nodePools[1].role", `"wroker" is not an allowed value`, `did you mean "worker"? write one of control-plane, worker`},
	{"role missing", "{name: worker, role: worker, replicas", "«{name: worker, replicas", "spec.nodePools[1].role", "is missing", "role: worker"},
	{"duplicate pool", "name: worker", "name: «cp", "spec.nodePools[1].name", `"cp" is already the name of nodePools[0]`, "a different name"},
	{"pool name with an underscore", "name: worker", "name: «my_pool", "spec.nodePools[1].name", "not a DNS label", "dashes"},
	{"node name too long", "name: worker", "name: «wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww", "spec.nodePools[1].name", "has 64 characters, more than 63", "shorten"},
	{"ssh with local", "replicas: 1", "replicas: 1, ssh: «{user: a}", "spec.nodePools[1].ssh", "only the hosts provider uses it", "use the hosts provider"},
	{"hosts with local", "replicas: 1", "hosts: «[{address: 192.0.2.1}]", "spec.nodePools[1].hosts", "only the hosts provider uses hosts", "write replicas"},
	{"label key", "labels: {}", "labels: {«a b: c}", "spec.nodePools[1].labels[a b]", `"a b" is not the key of a label`, "example.com/team"},
	{"label value", "labels: {}", "labels: {a: «b/c}", "spec.nodePools[1].labels[a]", `"b/c" is not the value of a label`, "63"},
	{"label value a number", "labels: {}", "labels: {a: «1}", "spec.nodePools[1].labels[a]", "must be a string, not a number", `"1"`},
	{"label value a boolean", "labels: {}", "labels: {a: «true}", "spec.nodePools[1].labels[a]", "must be a string, not a boolean", `"true"`},
	{"label of a role", "labels: {}", `labels: {«node-role.kubernetes.io/worker: ""}`, "spec.nodePools[1].labels[node-role.kubernetes.io/worker]", "NodeRestriction", "example.com/"},
	{"label of Kubernetes", "labels: {}", "labels: {«kubernetes.io/hostname: a}", "spec.nodePools[1].labels[kubernetes.io/hostname]", "reserved", "example.com/"},
	{"duplicate label", "labels: {}", "labels: {a: b, «a: c}", "spec.nodePools[1].labels[a]", "duplicate field", "remove one"},
	{"taint effect missing", "taints: []", "taints: [«{key: a}]", "spec.nodePools[1].taints[0].effect", "is missing", "effect: NoSchedule"},
	{"taint effect unknown", "taints: []", "taints: [{key: a, effect: «NoScheduling}]", "spec.nodePools[1].taints[0].effect", "not an allowed value", `did you mean "NoSchedule"?`},
	{"taint key", "taints: []", "taints: [{key: «-a, effect: NoExecute}]", "spec.nodePools[1].taints[0].key", "not the key of a taint", "example.com/team"},
	{"taint value", "taints: []", "taints: [{key: a, value: «a b, effect: NoExecute}]", "spec.nodePools[1].taints[0].value", "not the value of a taint", "63"},
	{"taint of a role", "taints: []", "taints: [{key: «node-role.kubernetes.io/control-plane, effect: NoSchedule}]", "spec.nodePools[1].taints[0].key", "reserved", "remove it"},
	{"duplicate taint", "taints: []", "taints: [{key: a, effect: NoExecute}, «{key: a, value: b, effect: NoExecute}]", "spec.nodePools[1].taints[1]", "the same key and effect", "remove one"},

	// Networks.
	{"pod subnet not a CIDR", "nodePools:", "network: {podSubnet: «10.244.0.0}\n  nodePools:", "spec.network.podSubnet", "not a network in CIDR notation", "10.244.0.0/16"},
	{"machine subnet nonsense", "local: {}", "local: {subnet: «10.89.0.0/33}", "spec.provider.local.subnet", "not a network in CIDR notation", "such as 10.89.0.0/24"},
	{"service subnet nonsense", "nodePools:", "network: {serviceSubnet: «x}\n  nodePools:", "spec.network.serviceSubnet", "not a network in CIDR notation", "such as 10.96.0.0/12"},
	{"pod subnet nonsense", "nodePools:", "network: {podSubnet: «10.300.0.0/16}\n  nodePools:", "spec.network.podSubnet", "not a network in CIDR notation", "10.244.0.0/16"},
	{"pod subnet with host bits", "nodePools:", "network: {podSubnet: «10.244.0.1/16}\n  nodePools:", "spec.network.podSubnet", "bits set after its prefix", "write 10.244.0.0/16"},
	{"pod subnet IPv6", "nodePools:", "network: {podSubnet: «'fd00:1::/48'}\n  nodePools:", "spec.network.podSubnet", "IPv6 is not supported yet", "IPv4"},
	{"dual stack", "nodePools:", "network: {serviceSubnet: «'10.96.0.0/16,fd00::/112'}\n  nodePools:", "spec.network.serviceSubnet", "not a network in CIDR notation", "IPv4"},
	{"pod subnet too small", "nodePools:", "network: {podSubnet: «10.244.0.0/25}\n  nodePools:", "spec.network.podSubnet", "every node gets a /24", "/16"},
	{"pod subnet too small for the nodes", "nodePools:", "network: {podSubnet: «10.244.0.0/23}\n  nodePools:", "spec.network.podSubnet", "holds 2 nodes (a /24 each), and the node pools have 4", "larger"},
	{"pod subnet too large", "nodePools:", "network: {podSubnet: «16.0.0.0/7}\n  nodePools:", "spec.network.podSubnet", "/7 is too large", "/8"},
	{"loopback", "nodePools:", "network: {podSubnet: «127.1.0.0/16}\n  nodePools:", "spec.network.podSubnet", "loopback", "private"},
	{"service subnet too small", "nodePools:", "network: {serviceSubnet: «10.96.0.0/25}\n  nodePools:", "spec.network.serviceSubnet", "/25 is not between /12 and /24", "/12"},
	{"service subnet too large", "nodePools:", "network: {serviceSubnet: «172.0.0.0/11}\n  nodePools:", "spec.network.serviceSubnet", "/11 is not between /12 and /24", "/12"},
	{"pods and services overlap", "nodePools:", "network:\n    serviceSubnet: 10.0.0.0/16\n    podSubnet: «10.0.0.0/14\n  nodePools:", "spec.network.podSubnet", "the pod subnet 10.0.0.0/14 overlaps the service subnet 10.0.0.0/16", "do not overlap"},
	{"overlap with a default", "nodePools:", "network: {podSubnet: «10.100.0.0/16}\n  nodePools:", "spec.network.podSubnet", "overlaps the service subnet 10.96.0.0/12, its default", "do not overlap"},
	{"machines and pods overlap", "local: {}", "local: {subnet: «10.244.7.0/24}", "spec.provider.local.subnet", "overlaps the pod subnet 10.244.0.0/16, its default", "do not overlap"},
	{"machines and services overlap", "local: {}", "local: {subnet: «10.97.0.0/24}", "spec.provider.local.subnet", "overlaps the service subnet", "do not overlap"},
	{"machine subnet without room", "local: {}", "local: {subnet: «10.89.0.0/30}", "spec.provider.local.subnet", "room for 0 machines, and the node pools have 4", "/24"},
	{"plugin unknown", "nodePools:", "network: {plugin: «calico}\n  nodePools:", "spec.network.plugin", `"calico" is not an allowed value`, "flannel, none"},
	{"backend unknown", "nodePools:", "network: {flannelBackend: «host-gateway}\n  nodePools:", "spec.network.flannelBackend", "not an allowed value", "vxlan, host-gw"},
	{"backend without flannel", "nodePools:", "network: {plugin: none, flannelBackend: «vxlan}\n  nodePools:", "spec.network.flannelBackend", "no meaning with plugin: none", "remove it"},
	{"proxy mode mistyped", "nodePools:", "network: {proxyMode: «nftable}\n  nodePools:", "spec.network.proxyMode", "not an allowed value", `did you mean "nftables"?`},
	{"DNS domain", "nodePools:", "network: {dnsDomain: «cluster.local.}\n  nodePools:", "spec.network.dnsDomain", "not a DNS domain", "cluster.local"},

	// The control plane, PKI, policies.
	{"SAN with a scheme", "nodePools:", "controlPlane: {certSANs: [«'https://a.example.com']}\n  nodePools:", "spec.controlPlane.certSANs[0]", "neither a DNS name nor an IP address", "without scheme"},
	{"SAN a mistyped address", "nodePools:", "controlPlane: {certSANs: [a, «192.0.2.300]}\n  nodePools:", "spec.controlPlane.certSANs[1]", "neither a DNS name nor an IP address", "IP address"},
	{"duplicate SAN", "nodePools:", "controlPlane: {certSANs: [a, «a]}\n  nodePools:", "spec.controlPlane.certSANs[1]", `"a" is certSANs[0] already`, "remove it"},
	{"endpoint port", "nodePools:", "controlPlane: {endpoint: «'a.example.com:0'}\n  nodePools:", "spec.controlPlane.endpoint", `"0" is not a port`, "1 to 65535"},
	{"endpoint IPv6", "nodePools:", "controlPlane: {endpoint: «'[fd00::1]:6443'}\n  nodePools:", "spec.controlPlane.endpoint", "IPv6 is not supported yet", "IPv4"},
	{"endpoint a URL", "nodePools:", "controlPlane: {endpoint: «'https://a.example.com'}\n  nodePools:", "spec.controlPlane.endpoint", "neither a host", "k8s.example.com:6443"},
	{"duration in months", "nodePools:", "pki: {leafValidity: «1y6m}\n  nodePools:", "spec.pki.leafValidity", "months are not supported", "30y"},
	{"administrators that outlive their authority", "nodePools:", "pki: {adminValidity: «31y}\n  nodePools:", "spec.pki.adminValidity", "would outlive their CAs (30y)", "make adminValidity shorter"},
	{"what is signed for others outlives its authority", "nodePools:", "pki: {csrValidity: «31y}\n  nodePools:", "spec.pki.csrValidity", "would outlive their CAs (30y)", "make csrValidity shorter"},
	{"csrValidity in months", "nodePools:", "pki: {csrValidity: «1y6m}\n  nodePools:", "spec.pki.csrValidity", "months are not supported", "30y"},
	{"csrValidity of seconds", "nodePools:", "pki: {csrValidity: «0m}\n  nodePools:", "spec.pki.csrValidity", "shorter than a minute", "1m"},
	{"duration without unit", "nodePools:", `pki: {leafValidity: «"10"}` + "\n  nodePools:", "spec.pki.leafValidity", "has no unit", "30y"},
	{"duration a number", "nodePools:", "pki: {leafValidity: «10}\n  nodePools:", "spec.pki.leafValidity", "must be a string, not a number", `"10"`},
	{"duration a word", "nodePools:", "pki: {caValidity: «forever}\n  nodePools:", "spec.pki.caValidity", `"forever" is not a duration`, "30y"},
	{"more than a century", "nodePools:", "pki: {caValidity: «101y}\n  nodePools:", "spec.pki.caValidity", "longer than 100 years", "100y"},
	{"zero", "nodePools:", "pki: {leafValidity: «0h}\n  nodePools:", "spec.pki.leafValidity", "shorter than a minute", "1m"},
	{"leaf longer than CA", "nodePools:", "pki: {caValidity: 1y, leafValidity: «2y}\n  nodePools:", "spec.pki.leafValidity", "would outlive", "shorter"},
	{"CA shorter than the default leaf", "nodePools:", "pki: {caValidity: «1y}\n  nodePools:", "spec.pki.caValidity", "certificates (10y) would outlive", "caValidity longer"},
	{"key algorithm", "nodePools:", "pki: {keyAlgorithm: «RSA-1024}\n  nodePools:", "spec.pki.keyAlgorithm", "not an allowed value", "RSA-2048"},
	{"minutes beside days", "nodePools:", "pki: {renewalWindow: «30d1m}\n  nodePools:", "spec.pki.renewalWindow", "months are not supported", "12h"},
	{"window wider than the life", "nodePools:", "pki: {leafValidity: 10d, renewalWindow: «9d}\n  nodePools:", "spec.pki.renewalWindow", "more than four fifths of leafValidity (10d)", "shorter"},
	{"window wider than the default life", "nodePools:", "pki: {renewalWindow: «9y}\n  nodePools:", "spec.pki.renewalWindow", "due at once", "leafValidity longer"},
	{"CA key algorithm", "nodePools:", "pki: {caKeyAlgorithm: «ED25519-1}\n  nodePools:", "spec.pki.caKeyAlgorithm", "not an allowed value", `did you mean "Ed25519"?`},
	{"organization in the subject", "nodePools:", "pki: {subject: {«organizations: [a]}}\n  nodePools:", "spec.pki.subject.organizations", "unknown field", "organizationalUnits"},
	{"country by its name", "nodePools:", "pki: {subject: {countries: [DE, «Germany]}}\n  nodePools:", "spec.pki.subject.countries[1]", "not a country code", "such as DE"},
	{"unit twice", "nodePools:", "pki: {subject: {organizationalUnits: [a, «a]}}\n  nodePools:", "spec.pki.subject.organizationalUnits[1]", "organizationalUnits[0] already", "remove it"},
	{"unit too long", "nodePools:", "pki: {subject: {organizationalUnits: [«" + strings.Repeat("ä", 65) + "]}}\n  nodePools:", "spec.pki.subject.organizationalUnits[0]", "has 65 characters, more than 64", "shorten"},
	{"empty locality", "nodePools:", `pki: {subject: {localities: [«""]}}` + "\n  nodePools:", "spec.pki.subject.localities[0]", "is empty", "write a value"},
	{"kubelet domain", "nodePools:", "pki: {kubeletDomains: [«.example.com]}\n  nodePools:", "spec.pki.kubeletDomains[0]", "not a DNS domain", "nodes.example.com"},
	{"authority without a certificate", "nodePools:", "pki: {authorities: {etcd: «{keyFile: a}}}\n  nodePools:", "spec.pki.authorities.etcd.certFile", "is missing", "certFile: pki/ca.crt"},
	{"authority that is none of ours", "nodePools:", "pki: {authorities: {«front-proxy: {certFile: a}}}\n  nodePools:", "spec.pki.authorities.front-proxy", "unknown field", "did you mean `frontProxy`?"},
	{"authority in somebody's home", "nodePools:", "pki: {authorities: {kubernetes: {certFile: a, keyFile: «~bob/ca.key}}}\n  nodePools:", "spec.pki.authorities.kubernetes.keyFile", "is not a file", "~/pki"},
	{"key in the spec", "nodePools:", "pki: {authorities: {kubernetes: {certFile: a, «key: abc}}}\n  nodePools:", "spec.pki.authorities.kubernetes.key", "unknown field", "certFile, keyFile"},
	{"etcd SAN with a port", "nodePools:", "etcd: {certSANs: [«'a.example.com:2379']}\n  nodePools:", "spec.etcd.certSANs[0]", "neither a DNS name nor an IP address", "port"},
	{"pod security level", "nodePools:", "podSecurity: {enforce: «strict}\n  nodePools:", "spec.podSecurity.enforce", "not an allowed value", "privileged, baseline, restricted"},
	{"boolean in words", "nodePools:", "allowCgroupV1: «yes\n  nodePools:", "spec.allowCgroupV1", "must be true or false, not a string", "without quotes"},

	// Components.
	{"flag with dashes", "v1.36.3}", `v1.36.3, apiServer: {extraArgs: {«--v: "4"}}}`, "spec.kubernetes.apiServer.extraArgs[--v]", "without dashes", "write `v`"},
	{"flag with its value", "v1.36.3}", `v1.36.3, apiServer: {extraArgs: {«v=4: ""}}}`, "spec.kubernetes.apiServer.extraArgs[v=4]", "contains its value", "`v: \"4\"`"},
	{"flag in camel case", "v1.36.3}", `v1.36.3, kubelet: {extraArgs: {«maxPods: "4"}}}`, "spec.kubernetes.kubelet.extraArgs[maxPods]", "not the name of a flag", "--help"},
	{"flag value a number", "v1.36.3}", "v1.36.3, apiServer: {extraArgs: {v: «4}}}", "spec.kubernetes.apiServer.extraArgs[v]", "must be a string, not a number", `"4"`},
	{"flag value of two lines", "v1.36.3}", `v1.36.3, apiServer: {extraArgs: {v: «"4\n5"}}}`, "spec.kubernetes.apiServer.extraArgs[v]", "more than one line", "one line"},
	{"owned flag of the API server", "v1.36.3}", "v1.36.3, apiServer: {extraArgs: {«service-cluster-ip-range: 10.0.0.0/16}}}", "spec.kubernetes.apiServer.extraArgs[service-cluster-ip-range]", "slipway owns the flag --service-cluster-ip-range", "spec.network.serviceSubnet"},
	{"owned flag of etcd", "nodePools:", "etcd: {extraArgs: {«data-dir: /data}}\n  nodePools:", "spec.etcd.extraArgs[data-dir]", "slipway owns the flag --data-dir", "/var/lib/etcd"},
	{"log of etcd where it cannot write", "nodePools:", "etcd: {extraArgs: {log-outputs: «'stderr,/var/log/etcd.log'}}\n  nodePools:", "spec.etcd.extraArgs[log-outputs]", "cannot write \"/var/log/etcd.log\"", "/var/log/etcd/etcd.log"},
	{"owned flag of the kubelet", "v1.36.3}", "v1.36.3, kubelet: {extraArgs: {«node-labels: a=b}}}", "spec.kubernetes.kubelet.extraArgs[node-labels]", "slipway owns the flag --node-labels", "spec.nodePools[].labels"},
	{"owned field of the kubelet", "v1.36.3}", "v1.36.3, kubelet: {configPatch: {authentication: {x509: {«clientCAFile: /a}}}}}", "spec.kubernetes.kubelet.configPatch[authentication].x509.clientCAFile", "slipway owns authentication.x509.clientCAFile", "writes this file"},
	{"owned field of kube-proxy", "v1.36.3}", "v1.36.3, proxy: {configPatch: {«mode: ipvs}}}", "spec.kubernetes.proxy.configPatch[mode]", "slipway owns mode", "spec.network.proxyMode"},
	{"owned field replaced from above", "v1.36.3}", "v1.36.3, kubelet: {configPatch: {«authentication: null}}}", "spec.kubernetes.kubelet.configPatch[authentication]", "slipway owns authentication.", "remove it"},
	{"NodeRestriction disabled", "v1.36.3}", "v1.36.3, apiServer: {extraArgs: {disable-admission-plugins: «'A,NodeRestriction'}}}", "spec.kubernetes.apiServer.extraArgs[disable-admission-plugins]", "nodes could change each other", "remove NodeRestriction"},
	{"NodeRestriction disabled after a space", "v1.36.3}", "v1.36.3, apiServer: {extraArgs: {disable-admission-plugins: «'A, NodeRestriction'}}}", "spec.kubernetes.apiServer.extraArgs[disable-admission-plugins]", "nodes could change each other", "remove NodeRestriction"},
	{"PodSecurity disabled", "v1.36.3}", "v1.36.3, apiServer: {extraArgs: {disable-admission-plugins: «PodSecurity}}}", "spec.kubernetes.apiServer.extraArgs[disable-admission-plugins]", "spec.podSecurity has no effect", "enforce to privileged"},
	{"all admission plugins", "v1.36.3}", "v1.36.3, apiServer: {extraArgs: {«admission-control: A}}}", "spec.kubernetes.apiServer.extraArgs[admission-control]", "slipway owns", "enable-admission-plugins"},
	{"patch with infinity", "v1.36.3}", "v1.36.3, kubelet: {configPatch: {a: «.inf}}}", "spec.kubernetes.kubelet.configPatch[a]", "cannot be represented in JSON", "write a number"},
	{"patch of a component without file", "v1.36.3}", "v1.36.3, apiServer: {«configPatch: {}}}", "spec.kubernetes.apiServer.configPatch", "unknown field", "extraArgs"},

	// State.
	{"state in two places", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: abc}, directory: «a}\n  nodePools:", "spec.state.directory", "in one place", "keep one of directory, s3"},
	{"state in two places, S3 last", "nodePools:", "state: {encryption: {none: true}, directory: a, s3: «{bucket: abc}}\n  nodePools:", "spec.state.s3", "in one place", "keep one of directory, s3"},
	{"state in a home of others", "nodePools:", "state: {directory: «~bob/a}\n  nodePools:", "spec.state.directory", "is not a directory", "~/slipway"},
	{"state in an empty directory", "nodePools:", `state: {directory: «""}` + "\n  nodePools:", "spec.state.directory", "is empty", "for example state"},
	{"bucket missing", "nodePools:", "state: {encryption: {none: true}, s3: «{}}\n  nodePools:", "spec.state.s3.bucket", "is missing", "bucket: example-slipway"},
	{"bucket a URL", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: «s3://abc}}\n  nodePools:", "spec.state.s3.bucket", "not a bucket name", "without s3://"},
	{"bucket with two dots", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: «a..b}}\n  nodePools:", "spec.state.s3.bucket", "not a bucket name", "3 to 63"},
	{"prefix with a slash at its end", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: abc, prefix: «a/b/}}\n  nodePools:", "spec.state.s3.prefix", "not a prefix", "clusters/demo"},
	{"prefix that leads out", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: abc, prefix: «a/../b}}\n  nodePools:", "spec.state.s3.prefix", "not a prefix", "clusters/demo"},
	{"prefix with a space", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: abc, prefix: «a b}}\n  nodePools:", "spec.state.s3.prefix", "not a prefix", "clusters/demo"},
	{"endpoint without a scheme", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: abc, endpoint: «s3.example.com}}\n  nodePools:", "spec.state.s3.endpoint", "not the URL of a server", "https://s3.example.com"},
	{"endpoint with credentials", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: abc, endpoint: «'https://a:b@example.com'}}\n  nodePools:", "spec.state.s3.endpoint", "contains credentials", "AWS SDK"},
	{"credentials in the spec", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: abc, «accessKey: a}}\n  nodePools:", "spec.state.s3.accessKey", "unknown field", "bucket"},
	{"mirror with credentials", "nodePools:", "bundle: {url: «'https://a:b@mirror.example.com'}\n  nodePools:", "spec.bundle.url", "contains credentials", "remove them"},
	{"mirror with odd credentials", "nodePools:", "bundle: {url: «'https://a:b%@mirror.example.com'}\n  nodePools:", "spec.bundle.url", "contains credentials", "remove them"},
	{"mirror that is a directory", "nodePools:", "bundle: {url: «/srv/mirror}\n  nodePools:", "spec.bundle.url", `"/srv/mirror" is not the URL of a mirror`, "https://mirror.example.com"},
	{"mirror over FTP", "nodePools:", "bundle: {url: «'ftp://mirror.example.com'}\n  nodePools:", "spec.bundle.url", "not the URL of a mirror", "https://mirror.example.com"},
	{"mirror with a signature", "nodePools:", "bundle: {url: «'https://mirror.example.com/?signature=1'}\n  nodePools:", "spec.bundle.url", "not the URL of a mirror", "https://mirror.example.com"},
	{"mirror without a host", "nodePools:", "bundle: {url: «'https://:443/a'}\n  nodePools:", "spec.bundle.url", "not the URL of a mirror", "https://mirror.example.com"},
	{"mirror for machines that mount", "nodePools:", "bundle: {url: «'https://mirror.example.com'}\n  nodePools:", "spec.bundle.url", "has no meaning", "bundle: copy"},
	{"encryption without a key", "nodePools:", "state: {encryption: «{}}\n  nodePools:", "spec.state.encryption", "neither recipients nor a passphrase", "list recipients"},
	{"encryption without recipients", "nodePools:", "state: {encryption: «{recipients: []}}\n  nodePools:", "spec.state.encryption", "neither recipients nor a passphrase", "passphrase: true"},
	{"encryption off", "nodePools:", "state: {encryption: «{passphrase: false}}\n  nodePools:", "spec.state.encryption", "neither recipients nor a passphrase", "none: true"},
	{"a bucket in plain, unsaid", "nodePools:", "state: «{s3: {bucket: abc}}\n  nodePools:", "spec.state.encryption", "its encryption must be set", "encryption: {none: true}"},
	{"endpoint in plain", "nodePools:", "state: {encryption: {none: true}, s3: {bucket: abc, endpoint: «'http://s3.example.com'}}\n  nodePools:", "spec.state.s3.endpoint", "not encrypted in transit", "insecureHTTP: true"},
	{"encrypted and not", "nodePools:", "state: {encryption: {passphrase: true, none: «true}}\n  nodePools:", "spec.state.encryption.none", "none excludes recipients", "keep one"},
	{"both kinds of encryption", "nodePools:", "state: {encryption: {recipients: [" + anAgeKey + "], passphrase: «true}}\n  nodePools:", "spec.state.encryption.passphrase", "either to recipients or with a passphrase", "keep one"},
	{"passphrase in the spec", "nodePools:", "state: {encryption: {passphrase: «hunter2}}\n  nodePools:", "spec.state.encryption.passphrase", "must be true or false", "without quotes"},
	{"recipient cut off", "nodePools:", "state: {encryption: {recipients: [«age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8]}}\n  nodePools:", "spec.state.encryption.recipients[0]", "it is mistyped or incomplete", "age-keygen"},
	{"recipient a word", "nodePools:", "state: {encryption: {recipients: [" + anAgeKey + ", «alice]}}\n  nodePools:", "spec.state.encryption.recipients[1]", "does not start with age1 or ssh-", "ssh-ed25519"},
	{"recipient of another algorithm", "nodePools:", "state: {encryption: {recipients: [«ssh-dss AAAA]}}\n  nodePools:", "spec.state.encryption.recipients[0]", "not an ssh-ed25519 or ssh-rsa", "ssh-keygen"},
	{"duplicate recipient", "nodePools:", "state: {encryption: {recipients: ['" + anSSHKey + " a', «'" + anSSHKey + " b']}}\n  nodePools:", "spec.state.encryption.recipients[1]", "is already recipients[0]", "remove it"},
	{"recipients not in a list", "nodePools:", "state: {encryption: {recipients: «" + anAgeKey + "}}\n  nodePools:", "spec.state.encryption.recipients", "must be a list", "dash"},
}

const (
	anAgeKey = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	anSSHKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN"
)

func TestMalformed(t *testing.T) {
	if len(malformed) < 50 {
		t.Fatalf("%d malformed specs, and the promise is fifty", len(malformed))
	}
	for _, tc := range malformed {
		t.Run(tc.name, func(t *testing.T) {
			changed := strings.Replace(minimal, tc.old, tc.new, 1)
			if changed == minimal {
				t.Fatalf("%q is not in the minimal spec", tc.old)
			}
			data, places := unmark(t, changed)
			if len(places) != 1 {
				t.Fatalf("%d marks", len(places))
			}
			errs := mistakes(t, data)
			if len(errs) != 1 {
				t.Fatalf("want one mistake, got %v", errs)
			}
			checkDiagnostic(t, errs[0], data, places[0], tc.field, tc.message, tc.remedy)
		})
	}
}

func TestHostsProvider(t *testing.T) {
	for _, tc := range []struct{ name, pool, field, message, remedy string }{
		{"listed twice", "hosts: [{address: a}], hostsFrom: «{command: [x]}", "spec.nodePools[0].hostsFrom", "lists its hosts already", "remove"},
		{"listed nowhere", "hostsFrom: «{}", "spec.nodePools[0].hostsFrom", "names no place", "terraformOutput"},
		{"two lists", "hostsFrom: {command: «[x], ansibleGroup: {inventory: i, group: g}}", "spec.nodePools[0].hostsFrom.command", "this is the second", "keep one of ansibleGroup, command"},
		{"address among pods", "hosts: [{address: a, privateAddress: «10.244.3.1}]", "spec.nodePools[0].hosts[0].privateAddress", "is in the pod subnet 10.244.0.0/16", "podSubnet"},
		{"same name", "hosts: [{address: a, name: x}, {address: b, name: «x}, {address: c}]", "spec.nodePools[0].hosts[1].name", "already the name of spec.nodePools[0].hosts[0]", "different name"},
		{"not a name", "hosts: [{address: a, name: «A_b}]", "spec.nodePools[0].hosts[0].name", "not the name of a node", "lower-case"},
		{"same private address", "hosts: [{address: a, privateAddress: 10.0.0.1}, {address: b, privateAddress: «10.0.0.1}, {address: c}]", "spec.nodePools[0].hosts[1].privateAddress", "already the private address of spec.nodePools[0].hosts[0]", "its own"},
		{"private address a name", "hosts: [{address: a, privateAddress: «b}]", "spec.nodePools[0].hosts[0].privateAddress", "not the address of a machine", "interface"},
		{"none among jumps", "hosts: [{address: a, ssh: {jumps: [b, «none]}}]", "spec.nodePools[0].hosts[0].ssh.jumps[1]", "none stands alone", "remove"},
		{"jump without a user", "hosts: [{address: a, ssh: {jumps: [«'@b']}}]", "spec.nodePools[0].hosts[0].ssh.jumps[0]", "no user before the @", "admin@bastion"},
		{"port of a jump", "ssh: {jumps: [«'b:99999']}, hosts: [{address: a}]", "spec.nodePools[0].ssh.jumps[0]", "number from 1 to 65535", "admin@bastion"},
		{"another's home", "ssh: {identityFiles: [«~bob/key]}, hosts: [{address: a}]", "spec.nodePools[0].ssh.identityFiles[0]", "only supported as ~/", "path of a file"},
		{"user with a host", "ssh: {user: «a@b}, hosts: [{address: a}]", "spec.nodePools[0].ssh.user", "not the name of a user", "admin"},
		{"duplicate address", "hosts: [{address: 192.0.2.1}, {address: «192.0.2.1}, {address: c}]", "spec.nodePools[0].hosts[1].address", "already the address of spec.nodePools[0].hosts[0]", "once"},
		{"IPv6", "hosts: [{address: «'fd00::1'}]", "spec.nodePools[0].hosts[0].address", "IPv6 is not supported yet", "IPv4"},
		{"mistyped address", "hosts: [{address: «192.0.2.256}]", "spec.nodePools[0].hosts[0].address", "neither an IP address nor a DNS name", "IPv4"},
		{"address with port", "hosts: [{address: «'a:22'}]", "spec.nodePools[0].hosts[0].address", "neither an IP address nor a DNS name", "alone"},
		{"address missing", "hosts: [«{}]", "spec.nodePools[0].hosts[0].address", "is missing", "address: 192.0.2.10"},
		{"jump with a port, not quoted", "hosts: [{address: a, ssh: {jumps: [«b:22]}}]", "spec.nodePools[0].hosts[0].ssh.jumps[0]", "must be a string, not a mapping", "has a colon, write it in quotes"},
		{"replicas", "replicas: «1, hosts: [{address: a}]", "spec.nodePools[0].replicas", "creates no machines", "hosts lists the machines"},
		{"no hosts", "hosts: «[]", "spec.nodePools[0].hosts", "the pool has no hosts", "list the machines"},
		{"even number", "hosts: «[{address: a}, {address: b}]", "spec.nodePools[0].hosts", "2 control-plane nodes", "3 or 5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data, places := unmark(t, `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {hosts: {ssh: {user: admin, port: 2222}}}
  nodePools:
  - {name: cp, role: control-plane, `+tc.pool+`}
`)
			errs := mistakes(t, data)
			if len(errs) != 1 {
				t.Fatalf("want one mistake, got %v", errs)
			}
			checkDiagnostic(t, errs[0], data, places[0], tc.field, tc.message, tc.remedy)
		})
	}
}

// TestRemedyOfRequiredField: what is required is not to be left out.
func TestRemedyOfRequiredField(t *testing.T) {
	for value, want := range map[string]string{
		"address: ''":           "write a value, for example 192.0.2.10",
		"address:":              "write a value, for example 192.0.2.10",
		"address: a, name: ''":  "write a value, for example worker-a, or leave the field out",
		"address: a, name: ":    "write a value, for example worker-a, or remove the field",
		"address: a, ssh: ":     "write {}, or remove the field",
		"ssh: {}, address: { }": "write a string, for example 192.0.2.10; if the value has a colon, write it in quotes",
	} {
		errs := mistakes(t, `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {hosts: {}}
  nodePools:
  - {name: cp, role: control-plane, hosts: [{`+value+`}]}
`)
		if len(errs) != 1 || errs[0].Remedy != want {
			t.Errorf("%s: got %v, want %q", value, errs, want)
		}
	}
}

// TestHostsProviderWithReplicas: a pool of a spec that is moved to the hosts provider lacks its hosts.
func TestHostsProviderWithReplicas(t *testing.T) {
	data, places := unmark(t, `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {hosts: {}}
  nodePools:
  - {name: cp, role: control-plane, replicas: «3}
`)
	errs := mistakes(t, data)
	if len(errs) != 1 {
		t.Fatalf("want one mistake, got %v", errs)
	}
	checkDiagnostic(t, errs[0], data, places[0], "spec.nodePools[0].replicas", "the hosts provider creates no machines", "list the machines")
}

// TestReleases wants a version that there is, at its place in the file, and one mistake where it is written wrongly, too.
func TestReleases(t *testing.T) {
	const path = "spec.kubernetes.version"
	one, two := []string{"v1.36.3"}, []string{"v1.36.3", "v1.35.9"}
	for _, tc := range []struct {
		version         string
		have            []string
		message, remedy string // none where it is valid
	}{
		{"v1.36.3", one, "", ""},
		{"v1.35.9", two, "", ""},
		{"v1.34.1", one, "no bundle for Kubernetes v1.34.1", "choose v1.36.3"},
		{"v1.35.0", two, "no bundle for Kubernetes v1.35.0", "choose one of v1.36.3, v1.35.9"},
		{"v1.36.4", one, "no bundle for Kubernetes v1.36.4", "choose v1.36.3"},
		{"v2.0.0", one, "no bundle for Kubernetes v2.0.0", "choose v1.36.3"},
		{"v1.35", one, "not a complete version", "v1.36.3"},
		{"1.35.0", one, "lacks the leading v", "v1.36.3"},
		{"v1.35.0-rc.1", one, "is not a release", "v1.36.3"},
		{"latest", one, "not a Kubernetes version", "v1.36.3"},
	} {
		data, places := unmark(t, strings.Replace(minimal, "v1.36.3", mark+tc.version, 1))
		if tc.message == "" {
			if _, err := Parse("cluster.yaml", []byte(data), Releases(tc.have)); err != nil {
				t.Errorf("%s of %v: %v", tc.version, tc.have, err)
			}
			continue
		}
		errs := mistakes(t, data, Releases(tc.have))
		if len(errs) != 1 {
			t.Fatalf("want one mistake, got %v", errs)
		}
		checkDiagnostic(t, errs[0], data, places[0], path, tc.message, tc.remedy)
	}
}

// mistakes parses what must be refused.
func mistakes(t *testing.T, data string, checks ...Check) Errors {
	t.Helper()
	c, err := Parse("cluster.yaml", []byte(data), checks...)
	var errs Errors
	if !errors.As(err, &errs) || c != nil {
		t.Fatalf("want Errors, got %v and %+v for\n%s", err, c, data)
	}
	return errs
}

func checkDiagnostic(t *testing.T, d Diagnostic, data string, at position, field, message, remedy string) {
	t.Helper()
	if d.File != "cluster.yaml" || d.Line != at.line || d.Column != at.column {
		t.Errorf("at %s:%d:%d, want line %d, column %d\n%v", d.File, d.Line, d.Column, at.line, at.column, d)
	}
	if d.Field != field {
		t.Errorf("field %q, want %q", d.Field, field)
	}
	if message == "" || !strings.Contains(d.Message, message) {
		t.Errorf("message %q, want %q in it", d.Message, message)
	}
	if remedy == "" || !strings.Contains(d.Remedy, remedy) {
		t.Errorf("remedy %q, want %q in it", d.Remedy, remedy)
	}
	if lines := strings.Split(data, "\n"); d.Source != strings.TrimRight(lines[d.Line-1], "\r") {
		t.Errorf("source %q is not line %d", d.Source, d.Line)
	}
}
