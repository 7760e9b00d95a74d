package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// machine is the Docker container of a node.
func (c *cluster) machine(t *testing.T, node string) string {
	t.Helper()
	id := docker(t, "ps", "-aq", "--filter", "name=^/?"+node+"$")
	if id == "" {
		t.Fatalf("no container is named %s", node)
	}
	return id
}

// TestLongSurvival stops each control plane in turn.
func TestLongSurvival(t *testing.T) {
	long(t)
	parallel(t, 3*time.Minute)
	c := newCluster(t, "e2e-survival", clusterSpec{subnet: "10.88.53.0/24", controlPlanes: 3, workers: 1})
	c.apply(t)
	c.deliverServer(t)
	k := c.kube(t)
	for _, node := range c.controlPlanes() {
		t.Run("without "+node, func(t *testing.T) { c.checkSurvives(t, k, node) })
	}
	c.checkNoChange(t)
}

// checkSurvives stops one control-plane machine, wants the cluster to live on, and starts it again.
func (c *cluster) checkSurvives(t *testing.T, k *kube, stopped string) {
	t.Helper()
	id := c.machine(t, stopped)
	docker(t, "stop", id)
	began := time.Now()
	started := false
	defer func() {
		if !started {
			docker(t, "start", id) // the next part of the test wants it
		}
	}()
	eventually(t, 30*time.Second, "API on 127.0.0.1 without "+stopped, func(ctx context.Context) error {
		_, err := k.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	for _, node := range c.nodes() {
		if node != stopped {
			c.checkBalancer(t, node)
		}
	}
	t.Logf("every way to the API open %.1fs after the stop", time.Since(began).Seconds())
	app := "without-" + stopped
	c.deploy(t, k, app, 2)
	if err := k.AppsV1().Deployments("default").Delete(t.Context(), app, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	restarted := time.Now()
	docker(t, "start", id)
	started = true
	c.checkHealed(t, k, stopped, restarted)
}

// checkBalancer wants a node's own balancer to answer, twice in a row per remaining backend: a dead one must be out.
func (c *cluster) checkBalancer(t *testing.T, node string) {
	t.Helper()
	script := `for i in 1 2 3 4 5 6; do curl -sS --max-time 5 --cacert /etc/kubernetes/pki/ca.crt https://127.0.0.1:6444/readyz || exit 1; done`
	eventually(t, 30*time.Second, node+": its balancer answers", func(context.Context) error {
		if r := c.ssh(t, node, script); r.code != 0 || r.stdout != "okokokokokok" {
			return fmt.Errorf("got %q %s", r.stdout, r.stderr)
		}
		return nil
	})
}

// checkHealed wants a machine that was started again to be a full member, without any help from slipway.
// Since is when it was started: what the API says from before that is not to be believed.
func (c *cluster) checkHealed(t *testing.T, k *kube, node string, since time.Time) {
	t.Helper()
	eventually(t, 2*time.Minute, node+": its kubelet reports again", func(ctx context.Context) error {
		lease, err := k.CoordinationV1().Leases("kube-node-lease").Get(ctx, node, metav1.GetOptions{})
		if err == nil && !lease.Spec.RenewTime.After(since) {
			err = fmt.Errorf("the node's lease was last renewed at %v, before the start at %v", lease.Spec.RenewTime, since)
		}
		return err
	})
	c.waitReady(t, k, 2*time.Minute)
	eventually(t, 2*time.Minute, node+": its API server is ready", func(context.Context) error {
		if r := c.ssh(t, node, "curl -sS --max-time 5 --cacert /etc/kubernetes/pki/ca.crt https://127.0.0.1:6443/readyz"); r.stdout != "ok" {
			return fmt.Errorf("got %q %s", r.stdout, r.stderr)
		}
		return nil
	})
	c.checkUnits(t, node)
	c.checkEtcd(t, node)
	c.checkBalancer(t, node)
}

// checkEtcd wants every member to be healthy, asked on one node.
func (c *cluster) checkEtcd(t *testing.T, node string) {
	t.Helper()
	script := `export ETCDCTL_CACERT=/etc/kubernetes/pki/etcd/ca.crt ETCDCTL_CERT=/etc/kubernetes/pki/etcd/healthcheck-client.crt ETCDCTL_KEY=/etc/kubernetes/pki/etcd/healthcheck-client.key
etcdctl --endpoints https://127.0.0.1:2379 endpoint health --cluster`
	eventually(t, time.Minute, node+": etcd healthy", func(context.Context) error {
		if r := c.ssh(t, node, script); r.code != 0 {
			return fmt.Errorf("%s%s", r.stdout, r.stderr)
		}
		return nil
	})
}

// checkRestart restarts a worker's and a control plane's machine and wants them back.
func (c *cluster) checkRestart(t *testing.T, k *kube) {
	t.Helper()
	nodes := c.nodes()
	began := time.Now()
	for _, node := range slices.Compact([]string{nodes[len(nodes)-1], nodes[0]}) {
		boot := c.bootID(t, node)
		docker(t, "restart", c.machine(t, node))
		eventually(t, time.Minute, node+" booted anew", func(context.Context) error {
			if now := c.ssh(t, node, bootScript); now.code != 0 || now.stdout == boot {
				return fmt.Errorf("got %q %s", now.stdout, now.stderr)
			}
			return nil
		})
	}
	c.checkUnits(t, nodes[len(nodes)-1])
	c.checkHealed(t, k, nodes[0], began)
	eventually(t, 2*time.Minute, "pods of restarted machines run anew", func(ctx context.Context) error {
		list, err := k.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=echo"})
		if err != nil {
			return err
		}
		for _, p := range list.Items {
			restarted := p.Spec.NodeName == nodes[0] || p.Spec.NodeName == nodes[len(nodes)-1]
			if restarted && !startedAfter(p, began) {
				return fmt.Errorf("%s on %s has not been started again: %+v", p.Name, p.Spec.NodeName, p.Status.ContainerStatuses)
			}
		}
		return nil
	})
	c.checkNetwork(t, k, c.waitPods(t, k, "echo", len(nodes)))
}

func startedAfter(p corev1.Pod, t time.Time) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running == nil || c.State.Running.StartedAt.Time.Before(t.Truncate(time.Second)) {
			return false
		}
	}
	return len(p.Status.ContainerStatuses) > 0
}

// bootScript prints when the machine's init began: the kernel's boot id is the computer's.
const bootScript = "stat -c %Y.%y /proc/1; cut -d' ' -f22 /proc/1/stat"

func (c *cluster) bootID(t *testing.T, node string) string {
	t.Helper()
	return c.sshOK(t, node, bootScript)
}
