package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// held are connections that last: a watch, an exec and a port-forward. They were open before and must be the same after.
type held struct {
	kube    *kube
	watch   watch.Interface
	input   io.Writer
	output  *bufio.Reader
	forward net.Conn
	answers *bufio.Reader
	pod     string
}

// hold opens them, to a pod of the test server.
func (c *cluster) hold(t *testing.T, k *kube, pod corev1.Pod) *held {
	t.Helper()
	h := &held{kube: k, pod: pod.Name}
	create(t, "the watched ConfigMap", func(ctx context.Context) error {
		_, err := k.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "watched"}}, metav1.CreateOptions{})
		return err
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	hour := int64(3600)
	var err error
	h.watch, err = k.patient(t).CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{TimeoutSeconds: &hour, FieldSelector: "metadata.name=watched"})
	if err != nil {
		t.Fatal(err)
	}
	h.openStreams(t)
	h.checkWatch(t, "opened")
	return h
}

// openStreams opens an exec and a port-forward, and uses them.
func (h *held) openStreams(t *testing.T) {
	t.Helper()
	k := h.kube
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	var err error
	run := exec.CommandContext(ctx, k.kubectl, "--kubeconfig", k.kubeconfig, "exec", "-i", h.pod, "--", "/testserver", "echo")
	if h.input, err = run.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.output = bufio.NewReader(out)
	forward := exec.CommandContext(ctx, k.kubectl, "--kubeconfig", k.kubeconfig, "port-forward", h.pod, fmt.Sprintf(":%d", serverPort))
	said, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{run, forward} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cancel()
			_ = cmd.Wait() // it was ended
		})
	}
	line, err := bufio.NewReader(said).ReadString('\n') // Forwarding from 127.0.0.1:PORT -> 8080
	if err != nil {
		t.Fatalf("kubectl port-forward said nothing: %v", err)
	}
	address := strings.Fields(strings.TrimPrefix(line, "Forwarding from "))[0]
	if h.forward, err = net.Dial("tcp", address); err != nil { //nolint:noctx // it lasts
		t.Fatal(err)
	}
	h.answers = bufio.NewReader(h.forward)
	h.checkStreams(t, "opened")
}

// checkWatch uses the watch once more.
func (h *held) checkWatch(t *testing.T, when string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"data":{"when":%q}}`, when)
	if _, err := h.kube.CoreV1().ConfigMaps("default").Patch(t.Context(), "watched", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	for limit := time.After(10 * time.Second); ; {
		select {
		case e, ok := <-h.watch.ResultChan():
			if !ok {
				t.Fatalf("%s: the watch has ended", when)
			}
			if m, is := e.Object.(*corev1.ConfigMap); is && m.Data["when"] == when {
				return
			}
		case <-limit:
			t.Fatalf("%s: the watch says nothing", when)
		}
	}
}

// checkStreams uses the exec and the port-forward once more.
func (h *held) checkStreams(t *testing.T, when string) {
	t.Helper()
	if _, err := fmt.Fprintln(h.input, when); err != nil {
		t.Errorf("%s: kubectl exec: %v", when, err)
	}
	if got, err := h.output.ReadString('\n'); err != nil || got != when+"\n" {
		t.Errorf("%s: kubectl exec gave back %q: %v", when, got, err)
	}
	if _, err := fmt.Fprintf(h.forward, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", h.pod); err != nil {
		t.Errorf("%s: kubectl port-forward: %v", when, err)
	}
	response, err := http.ReadResponse(h.answers, nil)
	if err != nil {
		t.Fatalf("%s: kubectl port-forward: %v", when, err)
	}
	body, err := io.ReadAll(response.Body)
	if _ = response.Body.Close(); err != nil || string(body) != h.pod {
		t.Errorf("%s: through kubectl port-forward: %q, %v", when, body, err)
	}
}
