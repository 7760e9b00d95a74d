package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// answer is what the test server says of one URL (see testserver).
type answer struct {
	URL   string `json:"url"`
	Body  string `json:"body"`
	Error string `json:"error"`
}

// checkNetwork wants every pod and every node to reach every pod by IP, and the Service by ClusterIP and by name.
func (c *cluster) checkNetwork(t *testing.T, k *kube, pods []corev1.Pod) {
	t.Helper()
	service, err := k.CoreV1().Services("default").Get(t.Context(), "echo", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dns, err := k.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]string{ // URL to the body wanted; empty for any pod's name
		"http://" + service.Spec.ClusterIP + "/": "",
		"http://echo.default.svc.cluster.local/": "",
	}
	for _, p := range pods {
		targets[fmt.Sprintf("http://%s:%d/", p.Status.PodIP, serverPort)] = p.Name
	}
	for _, p := range pods {
		eventually(t, time.Minute, "network from a pod on "+p.Spec.NodeName, func(ctx context.Context) error {
			// kube-proxy and DNS follow the API with a little delay, thus the deadline.
			return c.fetchFromPod(ctx, k, p, withKeys(targets, "http://echo/"))
		})
	}
	for _, node := range c.nodes() {
		eventually(t, time.Minute, "network from node "+node, func(context.Context) error {
			return c.fetchFromNode(t, node, dns.Spec.ClusterIP, targets)
		})
	}
}

func withKeys(m map[string]string, keys ...string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = v
	}
	for _, k := range keys {
		out[k] = ""
	}
	return out
}

// fetchFromPod asks a pod, through the API server's proxy, to fetch all targets.
func (c *cluster) fetchFromPod(ctx context.Context, k *kube, p corev1.Pod, targets map[string]string) error {
	req := k.CoreV1().RESTClient().Get().Namespace(p.Namespace).Resource("pods").
		Name(fmt.Sprintf("%s:%d", p.Name, serverPort)).SubResource("proxy").Suffix("fetch")
	for url := range targets {
		req = req.Param("url", url)
	}
	raw, err := req.DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("ask pod %s: %w: %s", p.Name, err, raw)
	}
	return checkAnswers(raw, targets)
}

// fetchFromNode runs the test server's fetch on a node. Nodes do not use the cluster's DNS, so it is named.
func (c *cluster) fetchFromNode(t *testing.T, node, dns string, targets map[string]string) error {
	script := serverPath + " fetch -dns " + dns + ":53"
	for url := range targets {
		script += " '" + url + "'"
	}
	r := c.ssh(t, node, script)
	if r.code != 0 {
		return fmt.Errorf("%v", r)
	}
	return checkAnswers([]byte(r.stdout), targets)
}

func checkAnswers(raw []byte, targets map[string]string) error {
	var answers []answer
	if err := json.Unmarshal(raw, &answers); err != nil {
		return fmt.Errorf("read %q: %w", raw, err)
	}
	if len(answers) != len(targets) {
		return fmt.Errorf("%d answers to %d questions", len(answers), len(targets))
	}
	for _, a := range answers {
		want := targets[a.URL]
		switch {
		case a.Error != "":
			return fmt.Errorf("%s: %s", a.URL, a.Error)
		case want != "" && a.Body != want:
			return fmt.Errorf("%s answered %q, want %q", a.URL, a.Body, want)
		case !strings.HasPrefix(a.Body, "echo-"):
			return fmt.Errorf("%s answered %q, want the name of an echo pod", a.URL, a.Body)
		}
	}
	return nil
}

// checkKubelets goes from the API server to every kubelet and to its pod, in all the ways that kubectl has.
func (c *cluster) checkKubelets(t *testing.T, k *kube, pods []corev1.Pod) {
	t.Helper()
	for _, p := range pods {
		if got := k.ctl(t, "logs", p.Name); !strings.Contains(got, "serving on") {
			t.Errorf("kubectl logs %s printed %q", p.Name, got)
		}
		got := k.ctl(t, "exec", p.Name, "--", "/testserver", "fetch", fmt.Sprintf("http://127.0.0.1:%d/", serverPort))
		if !strings.Contains(got, p.Name) {
			t.Errorf("kubectl exec in %s printed %q", p.Name, got)
		}
		if got := k.ctl(t, "get", "--raw", "/api/v1/nodes/"+p.Spec.NodeName+"/proxy/metrics/resource"); !strings.Contains(got, "node_cpu_usage_seconds_total") {
			t.Errorf("%s: metrics/resource printed %q", p.Spec.NodeName, got)
		}
	}
	k.portForward(t, pods[len(pods)-1])
	for _, node := range c.controlPlanes() {
		line := c.sshOK(t, node, `tr '\0' '\n' < /proc/$(systemctl show -p MainPID --value kube-apiserver)/cmdline`)
		if !strings.Contains(line, "--kubelet-certificate-authority=") {
			t.Errorf("%s: the API server does not verify kubelets; it was started with:\n%s", node, line)
		}
	}
}

// portForward fetches from a pod through kubectl port-forward.
func (k *kube) portForward(t *testing.T, p corev1.Pod) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.kubectl, "--kubeconfig", k.kubeconfig, "port-forward", p.Name, fmt.Sprintf(":%d", serverPort))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n') // Forwarding from 127.0.0.1:PORT -> 8080
	if err != nil {
		t.Fatalf("kubectl port-forward said nothing: %v", err)
	}
	address := strings.Fields(strings.TrimPrefix(line, "Forwarding from "))[0]
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("through kubectl port-forward: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := bufio.NewReader(resp.Body).ReadString(0); body != p.Name {
		t.Errorf("through kubectl port-forward: got %q, want %q", body, p.Name)
	}
}
