package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// checkAudit goes into a pod and through to it, as kubectl does, and wants to read of it in the audit log.
func (c *cluster) checkAudit(t *testing.T, k *kube) {
	t.Helper()
	pod := c.waitPods(t, k, "echo", len(c.nodes()))[0].Name
	if out := k.ctl(t, "exec", pod, "--", "/testserver", "fetch", fmt.Sprintf("http://127.0.0.1:%d/", serverPort)); !strings.Contains(out, pod) {
		t.Errorf("kubectl exec printed %q", out)
	}
	if body := k.forward(t, pod); body != pod {
		t.Errorf("through kubectl port-forward came %q, want %q", body, pod)
	}
	if body, err := k.CoreV1().Pods("default").ProxyGet("http", pod, fmt.Sprint(serverPort), "/", nil).DoRaw(t.Context()); err != nil || string(body) != pod {
		t.Errorf("through the proxy of the API server came %q: %v", body, err)
	}
	for _, subresource := range []string{"exec", "portforward", "proxy"} {
		eventually(t, 20*time.Second, subresource+" in the audit log", func(context.Context) error {
			return c.audited(t, pod, subresource)
		})
	}
}

// audited wants an event of an administrator's request in the log of one of the API servers.
func (c *cluster) audited(t *testing.T, pod, subresource string) error {
	t.Helper()
	for _, node := range c.controlPlanes() {
		lines := c.sshOK(t, node, `grep -h '"subresource":"`+subresource+`"' /var/log/kubernetes/audit*.log || true`)
		for line := range strings.Lines(lines) {
			var event auditv1.Event
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				return err
			}
			if event.ObjectRef.Resource == "pods" && strings.Contains(event.ObjectRef.Name, pod) && event.User.Username == "kubernetes-admin" {
				return nil
			}
		}
	}
	return fmt.Errorf("the audit logs have no %s of pod %s", subresource, pod)
}

// forward fetches / of a pod through kubectl port-forward.
func (k *kube) forward(t *testing.T, pod string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.kubectl, "--kubeconfig", k.kubeconfig, "port-forward", "pod/"+pod, fmt.Sprintf(":%d", serverPort))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("kubectl port-forward said %q: %v", line, err)
	}
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
