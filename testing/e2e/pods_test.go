package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	serverImage = "slipway.invalid/testserver:e2e" // never pulled
	serverPort  = 8080
	serverPath  = "/usr/local/bin/testserver" // on nodes
)

// serverBinary builds the test server, once for all tests.
var serverBinary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "slipway-e2e-testserver-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bin := filepath.Join(dir, "testserver")
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./testserver")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the test server: %w: %s", err, out)
	}
	return os.ReadFile(bin)
})

// serverImageTar packs the test server as an image, in docker-archive form.
func serverImageTar(binary []byte) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "testserver", Mode: 0o755, Size: int64(len(binary))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer.Bytes())), nil
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux",
		Config: v1.Config{Entrypoint: []string{"/testserver"}},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(image)},
	})
	if err != nil {
		return nil, err
	}
	tag, err := name.NewTag(serverImage)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = tarball.Write(tag, image, &out)
	return out.Bytes(), err
}

func diffIDs(image v1.Image) []v1.Hash {
	config, err := image.ConfigFile()
	if err != nil {
		return nil
	}
	return config.RootFS.DiffIDs
}

// deliverServer puts the test server on every node, as a program and as an image, over slipway's own ssh.
func (c *cluster) deliverServer(t *testing.T) {
	t.Helper()
	binary, err := serverBinary()
	if err != nil {
		t.Fatal(err)
	}
	image, err := serverImageTar(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range c.nodes() {
		if r := c.sshWith(t, binary, node, "dd", "of="+serverPath, "bs=1M"); r.code != 0 {
			t.Fatal(r)
		}
		if r := c.sshWith(t, image, node, "ctr", "-n", "k8s.io", "images", "import", "-"); r.code != 0 {
			t.Fatal(r)
		}
		c.sshOK(t, node, "chmod 0755 "+serverPath)
	}
}

func serverPod(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "server", Image: serverImage, ImagePullPolicy: corev1.PullNever,
				Args:           []string{"serve", fmt.Sprintf(":%d", serverPort)},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(serverPort)}}, PeriodSeconds: 1},
			}},
			TerminationGracePeriodSeconds: new(int64),
		},
	}
}

// create makes an object, again where the answer got lost with the connection to a server that stopped.
func create(t *testing.T, what string, try func(ctx context.Context) error) {
	t.Helper()
	eventually(t, time.Minute, what+" accepted", func(ctx context.Context) error {
		err := try(ctx)
		if errors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

// startServers runs one test server on every node, control planes too, behind the Service "echo", and waits for them.
func (c *cluster) startServers(t *testing.T, k *kube) []corev1.Pod {
	t.Helper()
	labels := map[string]string{"app": "echo"}
	template := serverPod("echo")
	template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	create(t, "the echo DaemonSet", func(ctx context.Context) error {
		_, err := k.AppsV1().DaemonSets("default").Create(ctx, &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Name: "echo"},
			Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
		}, metav1.CreateOptions{})
		return err
	})
	create(t, "the echo Service", func(ctx context.Context) error {
		_, err := k.CoreV1().Services("default").Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "echo"},
			Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(serverPort)}}},
		}, metav1.CreateOptions{})
		return err
	})
	return c.waitPods(t, k, "echo", len(c.nodes()))
}

// deploy runs n replicas of the test server as a Deployment and waits until they are ready.
func (c *cluster) deploy(t *testing.T, k *kube, app string, n int32) {
	t.Helper()
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, Template: serverPod(app),
		},
	}
	create(t, "Deployment "+app, func(ctx context.Context) error {
		_, err := k.AppsV1().Deployments("default").Create(ctx, deployment, metav1.CreateOptions{})
		return err
	})
	c.waitPods(t, k, app, int(n))
}

// waitPods waits for exactly n ready pods of an app.
func (c *cluster) waitPods(t *testing.T, k *kube, app string, n int) []corev1.Pod {
	t.Helper()
	var ready []corev1.Pod
	eventually(t, 2*time.Minute, fmt.Sprintf("%d pods of %s ready", n, app), func(ctx context.Context) error {
		list, err := k.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return err
		}
		ready = ready[:0]
		var waiting string
		for _, p := range list.Items {
			if podReady(p) {
				ready = append(ready, p)
				continue
			}
			waiting += fmt.Sprintf("; %s on %s: %s %s", p.Name, p.Spec.NodeName, p.Status.Phase, waitingFor(p))
		}
		if len(ready) != n {
			return fmt.Errorf("%d of %d pods ready%s", len(ready), n, waiting)
		}
		return nil
	})
	return ready
}

func podReady(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

func waitingFor(p corev1.Pod) string {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Waiting != nil {
			return c.State.Waiting.Reason + ": " + c.State.Waiting.Message
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status != corev1.ConditionTrue {
			return c.Message
		}
	}
	return ""
}
