package e2e

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// checkSecurity wants the doors shut that the documentation says are shut, by trying them.
func (c *cluster) checkSecurity(t *testing.T, k *kube) {
	t.Helper()
	c.checkAnonymous(t, k)
	c.checkSecretsAtRest(t, k)
	c.checkAudit(t, k)
	c.checkExternalIPs(t, k)
	for _, node := range c.controlPlanes() {
		c.checkSandboxes(t, node)
	}
	for _, node := range c.nodes() {
		c.checkKeyFiles(t, node)
		// The kubelet serves nobody without a certificate, and its own is verified by the CA of the cluster.
		code := c.sshOK(t, node, "curl -s -o /dev/null -w '%{http_code}' --cacert /etc/kubernetes/pki/ca.crt https://$(hostname):10250/pods --resolve $(hostname):10250:$(hostname -i | cut -d' ' -f1)")
		if strings.TrimSpace(code) != "401" {
			t.Errorf("%s: the kubelet answers %q to somebody without a certificate", node, code)
		}
	}
}

// checkAnonymous asks the API server as nobody: health and cluster-info are all that nobody may see.
func (c *cluster) checkAnonymous(t *testing.T, k *kube) {
	t.Helper()
	client, err := rest.HTTPClientFor(rest.AnonymousClientConfig(k.config))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/livez":        http.StatusOK,
		"/readyz":       http.StatusOK,
		"/api/v1/nodes": http.StatusUnauthorized,
		"/version":      http.StatusUnauthorized,
		"/metrics":      http.StatusUnauthorized,
		"/debug/pprof/": http.StatusUnauthorized,
		"/api/v1/namespaces/kube-public/configmaps/cluster-info": http.StatusOK,
		"/api/v1/namespaces/kube-public/configmaps":              http.StatusUnauthorized,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, k.config.Host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Errorf("GET %s as nobody: %v", path, err)
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("GET %s as nobody gives %d, want %d", path, response.StatusCode, want)
		}
	}
	// Profiling is off for administrators, too.
	if result := k.CoreV1().RESTClient().Get().AbsPath("/debug/pprof/").Do(t.Context()); result.Error() == nil {
		t.Error("the API server serves profiles")
	}
}

// checkSecretsAtRest writes a Secret and looks for it in etcd and in the audit log.
func (c *cluster) checkSecretsAtRest(t *testing.T, k *kube) {
	t.Helper()
	const value = "only-for-your-eyes"
	secrets := k.CoreV1().Secrets(metav1.NamespaceDefault)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, StringData: map[string]string{"key": value}}
	if _, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := secrets.Delete(t.Context(), "probe", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}()
	node := c.controlPlanes()[0]
	const pki = "/etc/kubernetes/pki/etcd/"
	stored := c.sshOK(t, node, "etcdctl --cacert "+pki+"ca.crt --cert "+pki+"healthcheck-client.crt --key "+pki+
		"healthcheck-client.key get --print-value-only /registry/secrets/default/probe")
	if !strings.Contains(stored, "k8s:enc:secretbox:") || strings.Contains(stored, value) {
		t.Errorf("in etcd the secret is %.80q", stored)
	}
	var log strings.Builder
	for _, node := range c.controlPlanes() {
		if mode := c.sshOK(t, node, "stat -c %a /var/log/kubernetes /var/log/kubernetes/audit.log"); mode != "700\n600\n" {
			t.Errorf("%s: the audit log and its directory have modes %q", node, mode)
		}
		log.WriteString(c.sshOK(t, node, "grep '\"name\":\"probe\"' /var/log/kubernetes/audit.log || true"))
	}
	if !strings.Contains(log.String(), `"verb":"create"`) || strings.Contains(log.String(), value) {
		t.Errorf("the audit log has of the secret's creation: %.300q", log.String())
	}
}

// checkExternalIPs wants no Service to take the traffic of an address that is not its own.
func (c *cluster) checkExternalIPs(t *testing.T, k *kube) {
	t.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "thief"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}, ExternalIPs: []string{"192.0.2.1"}},
	}
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	if _, err := k.CoreV1().Services(metav1.NamespaceDefault).Create(t.Context(), service, dry); !apierrors.IsForbidden(err) {
		t.Errorf("a Service with an external IP gives %v", err)
	}
}

// checkSandboxes asks the kernel, not the unit files, what the processes of a node may do.
func (c *cluster) checkSandboxes(t *testing.T, node string) {
	t.Helper()
	script := `for u in etcd kube-apiserver kube-controller-manager kube-scheduler slipway-balancer; do
  pid=$(systemctl show --value -p MainPID $u)
  echo "$u $(ps -o user= -p $pid) $(sed -n 's/^NoNewPrivs:[[:space:]]*//p; s/^CapEff:[[:space:]]*//p; s/^Seccomp:[[:space:]]*//p' /proc/$pid/status | tr '\n' ' ')" \
    "$(nsenter -t $pid -m sh -c 'touch /usr/x 2>/dev/null && echo writes || echo reads')" "$(systemctl show --value -p Slice $u)"
done`
	for line := range strings.Lines(c.sshOK(t, node, script)) {
		// In the order of /proc/PID/status: CAP_DAC_OVERRIDE alone, no new privileges, system calls filtered. What is not
		// root's has CAP_DAC_READ_SEARCH instead.
		want := "root 0000000000000002 1 2  reads slipway.slice"
		unit, got, _ := strings.Cut(strings.TrimSpace(line), " ")
		if unit == "etcd" {
			want = "etcd 0000000000000004 1 2  reads slipway.slice"
		}
		if got != want {
			t.Errorf("%s: %s has %q, want %q", node, unit, got, want)
		}
	}
}

// checkEtcdOwner wants etcd to run as its user, and all of its data to be that user's alone, also what root has put there.
func (c *cluster) checkEtcdOwner(t *testing.T, node string) {
	t.Helper()
	const look = `stat -c '%U:%G %a' /var/lib/etcd; find /var/lib/etcd ! -user etcd -o ! -group etcd; ps -o user= -p $(systemctl show --value -p MainPID etcd)`
	if got := c.sshOK(t, node, look); got != "etcd:etcd 700\netcd\n" {
		t.Errorf("%s: etcd's data, and its process, are %q", node, got)
	}
	c.sshOK(t, node, "systemctl stop etcd; chown root:root /var/lib/etcd/member/snap/db /var/lib/etcd/member/wal/*; systemctl start etcd")
	if got := c.sshOK(t, node, look); got != "etcd:etcd 700\netcd\n" {
		t.Errorf("%s: after a restore by root, etcd's data, and its process, are %q", node, got)
	}
}

// checkKeyFiles wants every file with a private key in it to be its owner's alone.
func (c *cluster) checkKeyFiles(t *testing.T, node string) {
	t.Helper()
	list := c.sshOK(t, node, "grep -rlE 'PRIVATE KEY|client-key-data|secretbox' /etc/kubernetes /var/lib/kubelet/pki | xargs stat -c '%a %U %n'")
	lines := strings.Split(strings.TrimSpace(list), "\n")
	if len(lines) < 4 {
		t.Errorf("%s has fewer keys than a node needs: %q", node, lines)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "600 root ") {
			t.Errorf("%s: %s is not 0600 and root's", node, line)
		}
	}
}

// checkModes wants units, configuration and certificates to be root's alone.
func (c *cluster) checkModes(t *testing.T, node string) {
	t.Helper()
	list := c.sshOK(t, node, "cut -f2 /var/lib/slipway/owned | xargs -d '\\n' stat -c '%F %a %U:%G %n' | grep '^regular' | grep -v ' 600 root:root '; true")
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		switch line[strings.LastIndexByte(line, ' ')+1:] {
		case "/etc/crictl.yaml", "/etc/modules-load.d/slipway.conf", "/etc/sysctl.d/90-slipway.conf", "/etc/sysusers.d/slipway.conf", "/etc/kubernetes/resolv.conf":
		default:
			t.Errorf("%s: %s is for others than root", node, line)
		}
	}
}

// checkPodsBounded wants a pod's processes to be filtered and counted. CoreDNS is one that every node can have.
func (c *cluster) checkPodsBounded(t *testing.T, node string) {
	t.Helper()
	status := c.sshOK(t, node, "cat /proc/$(pgrep -o coredns)/status")
	if !strings.Contains(status, "\nSeccomp:\t2\n") {
		t.Errorf("%s: a pod runs without a seccomp filter:\n%s", node, status)
	}
	limit := c.sshOK(t, node, "find /sys/fs/cgroup -path '*kubepods*' -name pids.max | xargs grep -lx 4096 | wc -l")
	if strings.TrimSpace(limit) == "0" {
		t.Errorf("%s: no pod has a limit of processes", node)
	}
}
