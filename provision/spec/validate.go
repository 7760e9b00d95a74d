package spec

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/validation"
)

// validate checks every field of a decoded and completed spec, and reports mistakes to d.
func validate(d *document, c *Cluster) {
	d.dnsLabel("metadata.name", c.Metadata.Name)
	if uid := c.Metadata.UID; uid != "" && uuid.Validate(uid) != nil {
		d.judge("metadata.uid", "leave it out, or write the one that `slipway status` shows", "%q is not a UID", uid)
	}
	validateVersion(d, c.Spec.Kubernetes.Version)
	validateProvider(d, c)
	validatePools(d, c)
	validateNetworks(d, c)
	validatePlugin(d, c.Spec.Network)
	validateDNS(d, c.Spec.Network.DNS)
	validateEndpoint(d, c.Spec.ControlPlane)
	validateSANs(d, "spec.etcd.certSANs", c.Spec.Etcd.CertSANs)
	validatePKI(d, c.Spec.PKI)
	validateExpiryMetrics(d, c.Spec.PKI.ExpiryMetrics)
	validateComponents(d, c)
	validateState(d, c.Spec.State)
	validateBundle(d, c)
	validateAuditPolicy(d, c.Spec.Kubernetes.APIServer.AuditPolicy)
}

// judge reports a mistake in the field at path, unless its value could not be read.
func (d *document) judge(path, remedy, format string, args ...any) {
	d.judgeAt(d.at(path), path, remedy, format, args...)
}

// judgeKey is judge for a mistake in a key of a map rather than in its value.
func (d *document) judgeKey(path, remedy, format string, args ...any) {
	d.judgeAt(d.keys[path], path, remedy, format, args...)
}

func (d *document) judgeAt(at position, path, remedy, format string, args ...any) {
	for bad := range d.bad {
		if bad == "" || within(path, bad) {
			return
		}
	}
	d.report(at, path, remedy, format, args...)
}

// isBad reports whether the field, or one above or below it, could not be read.
func (d *document) isBad(path string) bool {
	for bad := range d.bad {
		if bad == "" || within(path, bad) || within(bad, path) {
			return true
		}
	}
	return false
}

// within reports whether the field at path is the one at parent or below it.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func (d *document) present(path string) bool {
	_, ok := d.fields[path]
	return ok
}

// at returns the position of a field, or of the nearest present one above it.
func (d *document) at(path string) position {
	for {
		if p, ok := d.fields[path]; ok {
			return p
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return d.fields[""]
		}
		path = path[:i]
	}
}

func (p position) after(q position) bool {
	return p.line > q.line || p.line == q.line && p.column > q.column
}

func (d *document) dnsLabel(path, name string) bool {
	if d.isBad(path) {
		return false
	}
	if len(validation.IsDNS1123Label(name)) > 0 {
		d.judge(path, "use up to 63 lower-case letters, digits and dashes, with a letter or digit at both ends", "%q is not a DNS label", name)
		return false
	}
	return true
}

const versionField = "spec.kubernetes.version"

var version = regexp.MustCompile(`^(v?)(?:0|[1-9]\d{0,5})\.(?:0|[1-9]\d{0,5})(\.(?:0|[1-9]\d{0,5}))?([-+].*)?$`)

// validateVersion checks the format of a version; Releases checks whether it is available.
func validateVersion(d *document, v string) {
	m := version.FindStringSubmatch(v)
	switch {
	case m == nil:
		d.judge(versionField, "write a release such as v1.36.3", "%q is not a Kubernetes version", v)
	case m[2] == "":
		d.judge(versionField, "name the patch release too, such as v1.36.3", "%q is not a complete version", v)
	case m[3] != "":
		d.judge(versionField, "write a release such as v1.36.3", "%q is not a release", v)
	case m[1] == "":
		d.judge(versionField, "add the v, such as v1.36.3", "%q lacks the leading v", v)
	}
}

// Releases returns a check that the spec's version of Kubernetes is one of have. A malformed
// version was already reported.
func Releases(have []string) Check {
	return func(c *Cluster) []Mistake {
		v := c.Spec.Kubernetes.Version
		m := version.FindStringSubmatch(v)
		if m == nil || m[1] == "" || m[2] == "" || m[3] != "" || slices.Contains(have, v) {
			return nil
		}
		remedy := "choose " + strings.Join(have, ", ")
		if len(have) > 1 {
			remedy = "choose one of " + strings.Join(have, ", ")
		}
		return []Mistake{{Field: versionField, Message: "this slipway has no bundle for Kubernetes " + v, Remedy: remedy}}
	}
}

func validateProvider(d *document, c *Cluster) {
	p := c.Spec.Provider
	var set []string
	for name, isSet := range map[string]bool{"local": p.Local != nil, "aws": p.AWS != nil, "hosts": p.Hosts != nil} {
		if isSet {
			set = append(set, name)
		}
	}
	slices.SortFunc(set, func(a, b string) int {
		if d.at("spec.provider." + b).after(d.at("spec.provider." + a)) {
			return -1
		}
		return 1
	})
	switch {
	case len(set) == 0 && !d.isBad("spec.provider"):
		d.judge("spec.provider", "write `local: {}` for machines on this computer, or `hosts: {}` for machines that exist", "names no provider")
	case len(set) > 1:
		d.judge("spec.provider."+set[1], "keep one of "+strings.Join(set, ", "), "a cluster has one provider, and this is the second")
	}
	if p.AWS != nil {
		d.judge("spec.provider.aws", "use `hosts: {}` for machines that exist, or `local: {}`", "the aws provider is not available yet")
	}
}

func validatePlugin(d *document, n Network) {
	const path = "spec.network.flannelBackend"
	if n.Plugin == "none" && n.FlannelBackend != "" {
		d.judge(path, "remove it, or use plugin: flannel", "has no meaning with plugin: none")
	}
	if domain := n.DNSDomain; len(validation.IsDNS1123Subdomain(domain)) > 0 {
		d.judge("spec.network.dnsDomain", "use lower-case DNS labels joined by dots, without a dot at the end, such as cluster.local",
			"%q is not a DNS domain", domain)
	}
}

// validateDNS reports mistakes in a Corefile that would stop CoreDNS, as far as they can be found
// without it.
func validateDNS(d *document, dns DNS) {
	const path = "spec.network.dns.extraCorefile"
	const remedy = "write complete server blocks, such as `corp.example:53 { forward . 192.0.2.53 }`, over several lines"
	depth := 0
	for line := range strings.Lines(dns.ExtraCorefile) {
		line, _, _ = strings.Cut(line, "#")
		for i, word := range strings.Fields(line) {
			switch {
			case word == "{" || i > 0 && strings.HasSuffix(word, "{"):
				depth++
			case word == "}":
				depth--
			case depth == 0 && slices.Contains([]string{".", ".:53", "dns://.", "dns://.:53"}, strings.TrimSuffix(word, ",")):
				d.judge(path, "name the domains that the block is for", "%s is the cluster's server block, and there can only be one", word)
			}
			if depth < 0 {
				d.judge(path, remedy, "a } has no matching {")
				return
			}
		}
	}
	if depth > 0 {
		d.judge(path, remedy, "a { has no matching }")
	}
}

func validateEndpoint(d *document, e EndpointSpec) {
	if e.Endpoint != "" {
		validateHostPort(d, "spec.controlPlane.endpoint", e.Endpoint)
	}
	validateSANs(d, "spec.controlPlane.certSANs", e.CertSANs)
}

func validateHostPort(d *document, path, value string) {
	const remedy = "write a DNS name or an IPv4 address, and a port if it is not 6443: k8s.example.com:6443"
	host := value
	if h, port, err := net.SplitHostPort(value); err == nil && !strings.HasPrefix(port, "//") { // else it is a URL
		host = h
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			d.judge(path, "write a port from 1 to 65535", "%q is not a port", port)
			return
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		d.judge(path, remedy, "IPv6 is not supported yet")
		return
	}
	if !isHost(host) {
		d.judge(path, remedy, "%q is neither a host nor a host with a port", value)
	}
}

var numeric = regexp.MustCompile(`^[0-9.]+$`)

// isHost reports whether s is an IP address or a DNS name. A name of only digits and dots is a
// mistyped address.
func isHost(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Zone() == ""
	}
	return len(validation.IsDNS1123Subdomain(s)) == 0 && !numeric.MatchString(s)
}

func validateComponents(d *document, c *Cluster) {
	k := c.Spec.Kubernetes
	validateAdmission(d, k.APIServer.ExtraArgs)
	validateAuthentication(d, c)
	validateEtcdLogs(d, c.Spec.Etcd.ExtraArgs)
	for _, p := range []struct {
		path  string
		args  map[string]string
		patch map[string]any
		owned owned
	}{
		{"spec.kubernetes.apiServer", k.APIServer.ExtraArgs, nil, ownedByAPIServer},
		{"spec.kubernetes.controllerManager", k.ControllerManager.ExtraArgs, nil, ownedByControllerManager},
		{"spec.kubernetes.scheduler", k.Scheduler.ExtraArgs, k.Scheduler.ConfigPatch, ownedByScheduler},
		{"spec.kubernetes.kubelet", k.Kubelet.ExtraArgs, k.Kubelet.ConfigPatch, ownedByKubelet},
		{"spec.kubernetes.proxy", k.Proxy.ExtraArgs, k.Proxy.ConfigPatch, ownedByProxy},
		{"spec.etcd", c.Spec.Etcd.ExtraArgs, nil, ownedByEtcd},
	} {
		for _, flag := range slices.Sorted(maps.Keys(p.args)) {
			validateArg(d, joinKey(p.path+".extraArgs", flag), flag, p.args[flag], p.owned)
		}
		validatePatch(d, p.path+".configPatch", p.patch, p.owned)
	}
}

// validatePatch reports each position once, even if one value replaces several fields.
func validatePatch(d *document, path string, patch map[string]any, o owned) {
	reported := map[string]bool{}
	for _, field := range slices.Sorted(maps.Keys(o.config)) {
		if !hasField(patch, strings.Split(field, ".")) {
			continue
		}
		first, rest, nested := strings.Cut(field, ".")
		at := joinKey(path, first)
		if _, ok := d.keys[join(at, rest)]; nested && ok {
			at = join(at, rest)
		}
		if !reported[at] {
			d.judgeKey(at, o.config[field], "slipway owns %s", field)
		}
		reported[at] = true
	}
}

// validateAdmission refuses to disable plugins that the rest of the spec needs. Enabled plugins add
// to slipway's.
func validateAdmission(d *document, args map[string]string) {
	disabled := strings.FieldsFunc(args["disable-admission-plugins"], func(r rune) bool { return r == ',' || r == ' ' })
	path := joinKey("spec.kubernetes.apiServer.extraArgs", "disable-admission-plugins")
	if slices.Contains(disabled, "NodeRestriction") {
		d.judge(path, "remove NodeRestriction from the list", "without NodeRestriction, nodes could change each other")
	}
	if slices.Contains(disabled, "PodSecurity") {
		d.judge(path, "remove PodSecurity from the list, and set spec.podSecurity.enforce to privileged", "without PodSecurity, spec.podSecurity has no effect")
	}
}

// EtcdLogOutputs is etcd's flag for its log outputs, and EtcdLogDir the directory where etcd's user
// can write log files.
const (
	EtcdLogOutputs = "log-outputs"
	EtcdLogDir     = "/var/log/etcd/"
)

var etcdLogOutput = regexp.MustCompile(`^(|default|stdout|stderr|systemd/journal|` + EtcdLogDir + `[A-Za-z0-9_][A-Za-z0-9_.-]*)$`)

// validateEtcdLogs requires log files to be where etcd, which does not run as root, can write them;
// otherwise it would not start.
func validateEtcdLogs(d *document, args map[string]string) {
	for out := range strings.SplitSeq(args[EtcdLogOutputs], ",") {
		if !etcdLogOutput.MatchString(out) {
			d.judge(joinKey("spec.etcd.extraArgs", EtcdLogOutputs), "name a file in "+EtcdLogDir+", such as "+EtcdLogDir+"etcd.log",
				"etcd does not run as root and cannot write %q", out)
		}
	}
}

var flagName = regexp.MustCompile(`^[a-z0-9]+([-.][a-z0-9]+)*$`)

func validateArg(d *document, path, flag, value string, o owned) {
	bare, given, hasValue := strings.Cut(strings.TrimLeft(flag, "-"), "=")
	switch remedy, isOwned := o.flags[bare]; {
	case hasValue:
		d.judgeKey(path, fmt.Sprintf("write `%s: %q`", bare, given), "the flag's name contains its value")
	case bare != flag:
		d.judgeKey(path, fmt.Sprintf("write `%s`", bare), "flags are written without dashes")
	case !flagName.MatchString(flag):
		d.judgeKey(path, "use lower-case letters, digits and dashes, as in the component's --help", "%q is not the name of a flag", flag)
	case isOwned:
		d.judgeKey(path, remedy, "slipway owns the flag --%s", flag)
	case strings.ContainsAny(value, "\n\r\x00"):
		d.judge(path, "write it on one line", "the value has more than one line")
	}
}

// hasField reports whether a patch changes the field at the given path, or replaces a parent of it
// with a scalar.
func hasField(patch map[string]any, path []string) bool {
	v, ok := patch[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	below, isMap := v.(map[string]any)
	return !isMap || hasField(below, path[1:])
}
