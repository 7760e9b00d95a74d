package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// faults are those that show at once, and are mended at once.
var faults = []fault{
	{name: "kubelet stopped", plant: on(0, "systemctl stop kubelet"), want: "unit-kubelet.service worker-1", says: "is stopped"},
	{name: "balancer stopped", plant: on(0, "systemctl stop slipway-balancer"), want: "unit-slipway-balancer.service worker-1"},
	{name: "kube-proxy stopped", plant: on(0, "systemctl stop kube-proxy"), want: "unit-kube-proxy.service worker-1"},
	{name: "flannel stopped", plant: on(0, "systemctl stop flanneld"), want: "unit-flanneld.service worker-1"},
	{name: "etcd stopped on one member", plant: on(2, "systemctl stop etcd"), want: "unit-etcd.service cp-2"},
	{name: "scheduler stopped", plant: on(1, "systemctl stop kube-scheduler"), want: "unit-kube-scheduler.service cp-1"},
	{name: "kubelet disabled", plant: on(0, "systemctl disable kubelet"), want: "unit-disabled worker-1"},
	{
		name: "pod network cut between two nodes", plant: on(0, "iptables -I INPUT -s {cp-1} -p udp --dport 8472 -j DROP"),
		want: "pod-network", says: "--dport 8472 -j DROP",
	},
	{name: "API port closed", plant: on(0, "iptables -I OUTPUT -p tcp --dport 6443 -j DROP"), want: "node-network worker-1", says: "6443/tcp"},
	{name: "packets not forwarded", plant: on(0, "sysctl -qw net.ipv4.ip_forward=0"), want: "kernel-setting worker-1"},
	{name: "CoreDNS scaled to zero", plant: kubectl("", "-n", "kube-system", "scale", "deployment", "coredns", "--replicas=0"), want: "coredns-off"},
	{
		name: "a missing image", plant: kubectl("", "create", "deployment", "diag-image", "--image=nosuch.invalid/web:1"), want: "image",
		says: "nosuch.invalid/web:1", mend: kubectl("", "delete", "deployment", "diag-image"),
	},
	{
		name: "a pod that crashes", plant: kubectl(crashing, "create", "-f", "-"), want: "crash-loop", says: "exit code",
		mend: kubectl("", "delete", "pod", "diag-crash", "--now"),
	},
	{
		name: "a pod that no node takes", plant: kubectl(homeless, "create", "-f", "-"), want: "pod-unschedulable",
		mend: kubectl("", "delete", "pod", "diag-homeless", "--now"),
	},
	{
		name: "a pod without its ConfigMap", plant: kubectl(unconfigured, "create", "-f", "-"), want: "container-config", says: `"diag-none" not found`,
		mend: kubectl("", "delete", "pod", "diag-config", "--now"),
	},
	{name: "a webhook that blocks", plant: kubectl(blocker, "create", "-f", "-"), want: "webhook", says: "diag.example.com"},
	{name: "an API without a server", plant: kubectl(unserved, "create", "-f", "-"), want: "api-service"},
	{
		name: "disk filled",
		plant: on(0, `mkdir /root/aside; cp -a /etc/kubernetes/. /root/aside; mount -t tmpfs -o size=1m none /etc/kubernetes
cp -a /root/aside/. /etc/kubernetes/; rm -r /root/aside; cat /dev/zero >/etc/kubernetes/filler 2>/dev/null || true`),
		want: "disk-full worker-1", says: "/etc/kubernetes", mend: on(0, "umount /etc/kubernetes"),
	},
	{name: "a node cordoned", plant: func(t *testing.T, d *diagnosed) { d.kube.ctl(t, "cordon", d.worker()) }, info: "cordoned worker-1"},
}

// slowFaults take longer; most are mended by apply.
var slowFaults = []fault{
	{name: "kubelet's configuration broken", plant: on(0, "echo 'foo: [' >>/var/lib/kubelet/config.yaml; systemctl restart --no-block kubelet"), want: "unit-kubelet.service worker-1", says: "failed to load"},
	{
		name:  "containerd killed and masked",
		plant: on(0, "ln -sf /dev/null /etc/systemd/system/containerd.service; systemctl daemon-reload; systemctl kill -s KILL containerd"),
		want:  "unit-containerd.service worker-1", says: "masked",
	},
	{name: "an API server's certificate of another CA", plant: replaced("apiserver", false), want: "certificate-authority cp-2"},
	{name: "an expired certificate", plant: replaced("apiserver", true), want: "certificate-expired cp-2"},
	{name: "a key that is not the certificate's", plant: on(0, "cp /etc/kubernetes/pki/kube-proxy.key /var/lib/kubelet/pki/kubelet.key"), want: "certificate-key worker-1"},
	{name: "a kubeconfig that leads elsewhere", plant: on(0, "sed -i s/:6444/:6555/ /etc/kubernetes/kube-proxy.conf"), want: "kubeconfig worker-1", says: "6555"},
	{name: "no CNI configuration", plant: on(0, "rm /etc/cni/net.d/10-flannel.conflist"), want: "cni-config worker-1"},
	{name: "no CNI plugin", plant: on(0, `rm "$(ls /opt/slipway/*/*/bin/portmap)"`), want: "cni-plugins worker-1", says: "portmap"},
	{name: "two etcd members stopped", plant: func(t *testing.T, d *diagnosed) {
		on(1, "systemctl stop etcd")(t, d)
		on(2, "systemctl stop etcd")(t, d)
	}, want: "unit-etcd.service cp-1, unit-etcd.service cp-2"},
	{
		name: "sshd behind a firewall", plant: func(t *testing.T, d *diagnosed) {
			docker(t, "exec", d.machine(t, d.worker()), "iptables", "-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
		}, want: "machine worker-1", says: "hop TCP", mend: func(t *testing.T, d *diagnosed) {
			docker(t, "exec", d.machine(t, d.worker()), "iptables", "-D", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
		},
	},
	{name: "a machine stopped", plant: func(t *testing.T, d *diagnosed) { docker(t, "stop", "-t", "1", d.machine(t, d.worker())) }, want: "machine worker-1"},
	{
		name: "etcd full", want: "etcd-no-space", says: "NOSPACE",
		plant: on(1, `export ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 ETCDCTL_CACERT=/etc/kubernetes/pki/etcd/ca.crt
export ETCDCTL_CERT=/etc/kubernetes/pki/etcd/healthcheck-client.crt ETCDCTL_KEY=/etc/kubernetes/pki/etcd/healthcheck-client.key
head -c 1000000 /dev/zero | tr '\0' a >/tmp/junk
for i in $(seq 60); do etcdctl put junk </tmp/junk >/dev/null 2>&1 || break; done
etcdctl alarm list | grep NOSPACE`),
	},
}

const crashing = `apiVersion: v1
kind: Pod
metadata: {name: diag-crash}
spec:
  containers: [{name: c, image: "{image}", args: [-nosuchflag]}]
`

const homeless = `apiVersion: v1
kind: Pod
metadata: {name: diag-homeless}
spec:
  nodeSelector: {diag: none}
  containers: [{name: c, image: "{image}"}]
`

const unconfigured = `apiVersion: v1
kind: Pod
metadata: {name: diag-config}
spec:
  containers: [{name: c, image: "{image}", envFrom: [{configMapRef: {name: diag-none}}]}]
`

const blocker = `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: diag-blocker}
webhooks:
- name: diag.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  clientConfig: {service: {namespace: default, name: diag-none}}
`

const unserved = `apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.diag.example.com}
spec:
  group: diag.example.com
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {namespace: default, name: diag-none}
`

// replaced puts another certificate in the place of one on the second control plane: expired and of the cluster's CA, or of
// another CA of the same name. The server of it is restarted.
func replaced(name string, expired bool) func(t *testing.T, d *diagnosed) {
	return func(t *testing.T, d *diagnosed) {
		t.Helper()
		node := d.cp(2)
		old := parsedPEM(t, d.read(t, name+".crt"))
		cert, err := x509.ParseCertificate(old)
		if err != nil {
			t.Fatal(err)
		}
		key, der := newKey(t)
		ca, signer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true}, key
		cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if expired {
			if ca, err = x509.ParseCertificate(parsedPEM(t, d.read(t, "ca.crt"))); err != nil {
				t.Fatal(err)
			}
			signer = parsedKey(t, d.read(t, "ca.key"))
			cert.NotAfter = time.Now().Add(-time.Minute)
		}
		cert.AuthorityKeyId = nil
		made, err := x509.CreateCertificate(rand.Reader, cert, ca, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		d.sshOK(t, node, fmt.Sprintf("cat >/etc/kubernetes/pki/%[1]s.crt <<'END'\n%[2]sEND\ncat >/etc/kubernetes/pki/%[1]s.key <<'END'\n%[3]sEND\nsystemctl restart --no-block kube-apiserver",
			name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	}
}

func newKey(t *testing.T) (key *ecdsa.PrivateKey, der []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		der, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// read reads a file of the second control plane's PKI: not through slipway, whose output has no keys.
func (d *diagnosed) read(t *testing.T, name string) []byte {
	t.Helper()
	return []byte(docker(t, "exec", d.machine(t, d.cp(2)), "cat", "/etc/kubernetes/pki/"+name) + "\n")
}

func parsedPEM(t *testing.T, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}

func parsedKey(t *testing.T, text []byte) *ecdsa.PrivateKey {
	t.Helper()
	der := parsedPEM(t, text)
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if key, ok := key.(*ecdsa.PrivateKey); ok {
			return key
		}
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
