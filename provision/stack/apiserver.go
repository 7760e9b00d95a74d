package stack

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/templates"
)

// The API server's unit, port, files and names.
const (
	// APIServerService is the unit of kube-apiserver.
	APIServerService = "kube-apiserver.service"
	// APIPort is the same as kubeadm's.
	APIPort = 6443

	auditPolicyFile    = KubernetesDir + "/audit-policy.yaml"
	AuthenticationFile = KubernetesDir + "/authentication.yaml"
	admissionFile      = KubernetesDir + "/admission.yaml"
	EncryptionFile     = KubernetesDir + "/encryption.yaml"
	// EncryptionKeysFile lists the keys of Secrets at rest by fingerprint; it holds neither their
	// order nor a secret.
	EncryptionKeysFile = "/var/lib/slipway/encryption-keys"

	// LoopbackName is the server name under which an API server reaches itself
	// (k8s.io/apiserver/pkg/server, LoopbackClientServerNameOverride).
	LoopbackName = "apiserver-loopback-client"
	// ProbeName is the user in a probe's certificate. It has no rights.
	ProbeName = "slipway:probe"
)

// LoopbackAge bounds how long an API server may run: when it starts, it makes the certificate for
// connections to itself, and it never renews that (kubernetes#86552). The certificate is valid for
// a year before v1.36, and for 1096 days since (k8s.io/apiserver, serving_with_loopback.go); the
// shorter one counts for all. With an apply every three months it never expires.
const LoopbackAge = 274 * 24 * time.Hour

const noAPI = "the API is down meanwhile, since this is the only control plane; pods continue to run"

// apiServer is a control plane's API server, with the kubeconfig for people there.
var apiServer = Component{
	Name: "kube-apiserver", On: Node.ControlPlane,
	Unit: &Service{
		Name: APIServerService, Text: apiServerUnit, Programs: []string{"kube-apiserver"},
		Files:    []string{auditPolicyFile, admissionFile, PKIDir + "/sa.pub", PKIDir + "/sa.key", etcdCAFile, CAFile},
		Partly:   map[string]func() []byte{AuthenticationFile: templates.Anonymous}, // it cannot reload a change of it (KEP-4633)
		Issuers:  []string{certs.KubernetesCA, certs.FrontProxyCA},
		Needs:    EtcdService, // otherwise it waits for answers until systemd kills it
		Health:   "https://127.0.0.1:6443/readyz",
		MaxAge:   LoopbackAge,
		Disturbs: "clients continue with the other API servers; pods continue to run", IfSingle: noAPI,
	},
	Files: []ConfigFile{
		{Path: auditPolicyFile, Render: Node.auditPolicy},
		{Path: AuthenticationFile, Render: Node.authentication},
		{Path: admissionFile, Render: Node.podSecurity},
		{Path: EncryptionFile, Render: Node.encryption, Secret: true},
		{Path: EncryptionKeysFile, Render: func(n Node) ([]byte, error) { return keyRing(n.EncryptionKeys...), nil }},
	},
	Programs: []string{"kube-apiserver"},
	Embedded: []EmbeddedKubeconfig{
		{Name: "admin.conf", User: AdminUser, Port: BalancerPort, Item: func(string) string { return certs.Admin }},
	},
	Endpoints: []Endpoint{
		{
			ControlPlane: true, Port: APIPort,
			Cert: PKIDir + "/apiserver.crt", Server: certs.KubernetesCA, Client: certs.KubernetesCA, Path: "/api",
		},
		{
			ControlPlane: true, Port: APIPort, Server: certs.KubernetesCA,
			Client: certs.FrontProxyCA, Path: "/api", Header: http.Header{"X-Remote-User": {ProbeName}},
		},
		{ControlPlane: true, Port: APIPort, ServerName: LoopbackName},
	},
	Clients: []Client{{
		Cert: PKIDir + "/apiserver-kubelet-client.crt", Port: kubeletPort,
		Disturbs: "sessions of kubectl exec, attach, port-forward and logs --follow end within 5 minutes, and can be started again",
	}},
}

func apiServerUnit(n Node) templates.Unit {
	network := n.Cluster.Spec.Network
	args := map[string]string{
		"advertise-address": n.address(), "secure-port": strconv.Itoa(APIPort),
		"allow-privileged":   "true",
		"authorization-mode": "Node,RBAC", "authentication-config": AuthenticationFile,
		"client-ca-file":                PKIDir + "/ca.crt",
		"admission-control-config-file": admissionFile,
		"enable-bootstrap-token-auth":   "true",
		"etcd-servers":                  "https://127.0.0.1:" + strconv.Itoa(EtcdClientPort),
		"etcd-cafile":                   PKIDir + "/etcd/ca.crt",
		"etcd-certfile":                 PKIDir + "/apiserver-etcd-client.crt", "etcd-keyfile": PKIDir + "/apiserver-etcd-client.key",
		"kubelet-certificate-authority":   PKIDir + "/ca.crt",
		"kubelet-client-certificate":      PKIDir + "/apiserver-kubelet-client.crt",
		"kubelet-client-key":              PKIDir + "/apiserver-kubelet-client.key",
		"kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
		"proxy-client-cert-file":          PKIDir + "/front-proxy-client.crt", "proxy-client-key-file": PKIDir + "/front-proxy-client.key",
		"requestheader-client-ca-file": PKIDir + "/front-proxy-ca.crt", "requestheader-allowed-names": "front-proxy-client",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-", "requestheader-group-headers": "X-Remote-Group",
		"requestheader-username-headers":   "X-Remote-User",
		"service-account-issuer":           n.Cluster.ServiceAccountIssuer(),
		"service-account-key-file":         PKIDir + "/sa.pub",
		"service-account-signing-key-file": PKIDir + "/sa.key",
		// Pod tokens expire after the hour that they state, not after a year: all clients reread
		// theirs by now.
		"service-account-extend-token-expiration": "false",
		"service-cluster-ip-range":                network.ServiceSubnet,
		"tls-cert-file":                           PKIDir + "/apiserver.crt", "tls-private-key-file": PKIDir + "/apiserver.key",
		"tls-min-version":            "VersionTLS12",
		"encryption-provider-config": EncryptionFile, "encryption-provider-config-automatic-reload": "true",
		"audit-policy-file": auditPolicyFile, "audit-log-path": "/var/log/kubernetes/audit.log",
		"audit-log-maxage": "30", "audit-log-maxbackup": "10", "audit-log-maxsize": "100",
		"profiling": "false",
		// A graceful restart: for 3 s /readyz fails while requests are served, and balancers, which
		// check every second, send new ones to other servers. Then watches are ended; otherwise
		// they would hold the server for 60 s.
		"shutdown-delay-duration": "3s", "shutdown-watch-termination-grace-period": "5s",
	}
	return templates.Unit{
		Description: "kube-apiserver", Type: "notify", After: []string{EtcdService},
		Slice: stackSlice, Sandbox: templates.Sealed, Logs: "kubernetes",
		Exec: n.path("kube-apiserver"), Args: flags(args, withAdmission(n.Cluster.Spec.Kubernetes.APIServer.ExtraArgs)),
		OOMScoreAdjust: n.protect(-997),
	}
}

func (n Node) auditPolicy() ([]byte, error) {
	return templates.AuditPolicy{Policy: n.Cluster.Spec.Kubernetes.APIServer.AuditPolicy}.Render()
}

func (n Node) authentication() ([]byte, error) {
	return templates.Authentication{JWT: n.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT}.Render()
}

func (n Node) podSecurity() ([]byte, error) {
	p := n.Cluster.Spec.PodSecurity
	return templates.PodSecurity{Enforce: p.Enforce, Warn: p.Warn, Audit: p.Audit}.Render()
}

func (n Node) encryption() ([]byte, error) {
	return EncryptionConfig(n.EncryptionKeys)
}

// ConfigHash is the form in which API servers report the configuration that they use.
func ConfigHash(config []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(config)) }
