package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kube is the operator's view of a running cluster, through the kubeconfig that slipway gives.
type kube struct {
	kubernetes.Interface
	config     *rest.Config
	kubeconfig string // a file
	kubectl    string // the bundle's
}

func (c *cluster) kube(t *testing.T) *kube {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(c.ok(t, "kubeconfig", "-f", c.file).stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	return newKube(t, file)
}

// newKube is the view of whoever has a kubeconfig.
func newKube(t *testing.T, file string) *kube {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1 // polling is paced by eventually
	config.Timeout = 10 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &kube{Interface: client, config: config, kubeconfig: file, kubectl: findKubectl(t)}
}

// patient is a client without a timeout, which would end watches, too.
func (k *kube) patient(t *testing.T) kubernetes.Interface {
	t.Helper()
	config := rest.CopyConfig(k.config)
	config.Timeout = 0
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// findKubectl takes kubectl from the newest bundle in the cache.
func findKubectl(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("SLIPWAY_CACHE_DIR")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache", "slipway")
	}
	out, err := exec.CommandContext(t.Context(), "find", "-L", filepath.Join(cache, "bundles"), "-name", "kubectl", "-type", "f", "-perm", "-u+x").Output()
	if err != nil {
		t.Fatalf("looking for kubectl in %s: %v", cache, err)
	}
	found := strings.Fields(string(out))
	if len(found) == 0 {
		t.Fatalf("no kubectl in the bundles under %s", cache)
	}
	return found[len(found)-1]
}

// ctl runs kubectl, which must succeed, and returns its stdout.
func (k *kube) ctl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.kubectl, append([]string{"--kubeconfig", k.kubeconfig}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// waitReady waits until exactly the cluster's nodes are Ready at the right version.
func (c *cluster) waitReady(t *testing.T, k *kube, limit time.Duration) {
	t.Helper()
	eventually(t, limit, fmt.Sprintf("%d nodes Ready", len(c.nodes())), func(ctx context.Context) error {
		return c.checkReady(ctx, k)
	})
}

func (c *cluster) checkReady(ctx context.Context, k *kube) error {
	list, err := k.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	seen := map[string]corev1.Node{}
	for _, n := range list.Items {
		seen[n.Name] = n
	}
	for _, name := range c.nodes() {
		n, ok := seen[name]
		switch {
		case !ok:
			return fmt.Errorf("node %s has not registered", name)
		case !nodeReady(n):
			return fmt.Errorf("node %s is not Ready: %s", name, conditions(n))
		case n.Status.NodeInfo.KubeletVersion != kubernetesVersion:
			return fmt.Errorf("node %s runs kubelet %s, want %s", name, n.Status.NodeInfo.KubeletVersion, kubernetesVersion)
		}
		delete(seen, name)
	}
	for name := range seen {
		return fmt.Errorf("node %s is not in the spec", name)
	}
	return nil
}

func nodeReady(n corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func conditions(n corev1.Node) string {
	var all []string
	for _, c := range n.Status.Conditions {
		all = append(all, fmt.Sprintf("%s=%s (%s)", c.Type, c.Status, c.Message))
	}
	return strings.Join(all, ", ")
}

// units that must be active, by role. Every node runs the first list.
var (
	nodeUnits         = []string{"containerd", "kubelet", "kube-proxy", "flanneld", "slipway-balancer"}
	controlPlaneUnits = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
)

// checkUnits wants every unit active on a node, and none failed.
func (c *cluster) checkUnits(t *testing.T, node string) {
	t.Helper()
	units := nodeUnits
	if strings.Contains(node, "-cp-") {
		units = append(append([]string{}, controlPlaneUnits...), units...)
	}
	eventually(t, time.Minute, node+": units active", func(context.Context) error {
		r := c.ssh(t, node, "systemctl is-active "+strings.Join(units, " "))
		states := strings.Fields(r.stdout)
		if len(states) != len(units) {
			return fmt.Errorf("systemctl is-active printed %q (%s)", r.stdout, r.stderr)
		}
		for i, s := range states {
			if s != "active" {
				return fmt.Errorf("%s is %s", units[i], s)
			}
		}
		return nil
	})
}
