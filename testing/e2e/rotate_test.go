package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
)

const failuresDir = "/var/tmp/testserver" // on nodes

// threeWithClients is a cluster whose pods use the API behind budgets, and what its clients trust.
func threeWithClients(t *testing.T, name, subnet string) (*cluster, *oldTrust) {
	t.Helper()
	c := newCluster(t, name, clusterSpec{subnet: subnet, controlPlanes: 3, workers: 1})
	c.apply(t)
	c.deliverServer(t)
	k := c.kube(t)
	c.startClients(t, k)
	return c, c.keepOld(t, k)
}

// TestLongRotation rotates everything on three control planes, killed in each stage. All the while nodes, clients that trust
// both, and pods with their tokens use the API, and no budget is violated.
func TestLongRotation(t *testing.T) {
	long(t)
	parallel(t, 7*time.Minute)
	c, old := threeWithClients(t, "e2e-rotation", "10.88.51.0/24")
	began := time.Now()
	c.ok(t, "certs", "rotate-ca", "all", "-f", c.file, "--yes", "--pause-after", "trust")
	trusting := c.kube(t) // trusts both
	users, budgets := c.useAPI(t, trusting, c.nodes()[len(c.nodes())-1]), c.watchBudgets(t, trusting)
	c.killRotation(t, "tokens", "apply changes ... done")
	c.killRotation(t, "rollout", "rollout restart")
	c.killRotation(t, "issue", "apply changes ... done")
	c.ok(t, "certs", "rotate-ca", "-f", c.file, "--yes", "--pause-after", "issue")
	users.stop(t) // whose certificate is of the authority that goes
	budgets.stop(t)
	trusting = c.kube(t)
	users, budgets = c.useAPI(t, trusting, c.nodes()[len(c.nodes())-1]), c.watchBudgets(t, trusting)
	c.killRotation(t, "drop", "check that it refuses the old CA ... done")
	if r := c.run(t, nil, "certs", "rotate-ca", "-f", c.file, "--rollback", "--yes"); r.code != 1 {
		t.Errorf("it goes back from the last stage: %v", r)
	}
	c.ok(t, "certs", "rotate-ca", "-f", c.file, "--yes")
	t.Logf("rotated in %.0fs", time.Since(began).Seconds())
	users.stop(t)
	budgets.stop(t)
	c.checkClients(t)
	old.refused(t, c)
	c.checkNoChange(t)
	c.checkCertsStatus(t)
	c.checkTable(t)
}

// TestLongRollback begins to rotate everything on three control planes, is killed in the second stage, and goes back.
func TestLongRollback(t *testing.T) {
	long(t)
	parallel(t, 4*time.Minute)
	c, old := threeWithClients(t, "e2e-back", "10.88.52.0/24")
	c.ok(t, "certs", "rotate-ca", "all", "-f", c.file, "--yes", "--pause-after", "trust")
	trusting := c.kube(t)
	users, budgets := c.useAPI(t, trusting, c.nodes()[len(c.nodes())-1]), c.watchBudgets(t, trusting)
	c.killRotation(t, "tokens", "apply changes ... done")
	began := time.Now()
	c.ok(t, "certs", "rotate-ca", "-f", c.file, "--yes", "--rollback")
	t.Logf("went back in %.0fs", time.Since(began).Seconds())
	c.checkNoChange(t)
	users.stop(t)
	budgets.stop(t)
	c.checkClients(t)
	old.stillGood(t)
	c.checkTable(t)
}

// TestRotation goes back from a rotation, and then to its end, on a single control plane, where nobody expects the API
// never to pause. A worker joins while two authorities are trusted, and is taken back with the others.
func TestRotation(t *testing.T) {
	parallel(t, 260*time.Second)
	spec := clusterSpec{subnet: "10.88.31.0/24", controlPlanes: 1, extra: "  pki: {keyAlgorithm: Ed25519, caKeyAlgorithm: ECDSA-P384}\n"}
	c := newCluster(t, "e2e-rollback", spec)
	c.apply(t)
	old := c.keepOld(t, c.kube(t))
	c.checkAlgorithms(t, c.nodes()[0], "ECDSA-P384", "Ed25519")
	c.ok(t, "certs", "rotate-ca", "all", "-f", c.file, "--yes", "--pause-after", "trust")
	spec.workers = 1
	c.write(t, spec)
	c.apply(t)
	c.killRotation(t, "tokens", "apply changes ... done")
	if r := c.run(t, nil, "certs", "rotate-ca", "etcd", "-f", c.file, "--yes"); r.code != 1 {
		t.Errorf("two rotations at once: %v", r)
	}
	c.ok(t, "certs", "rotate-ca", "-f", c.file, "--yes", "--rollback")
	old.stillGood(t)
	c.checkNoChange(t)
	c.wellCerts(t)
	c.waitReady(t, c.kube(t), 30*time.Second)
	c.killRotation(t, "trust", "apply changes ... done", "all")
	c.killRotation(t, "drop", "check that it refuses the old CA ... done")
	c.ok(t, "certs", "rotate-ca", "-f", c.file, "--yes")
	old.refused(t, c)
	c.checkNoChange(t)
	c.wellCerts(t)
}

// killRotation goes on with a rotation, and kills it once it has printed something in a stage.
func (c *cluster) killRotation(t *testing.T, stage, word string, names ...string) {
	t.Helper()
	args := append([]string{"certs", "rotate-ca", "-f", c.file, "--yes"}, names...)
	if r := c.untilEnd(t, "rotate-ca: stage "+stage, word, args...); r.code == 0 {
		t.Errorf("stage %s: it was not killed: %v", stage, r)
	}
}

// startClients runs pods that use the API with their tokens, behind budgets: a Deployment that surges, and one whose own
// update would take all its pods at once.
func (c *cluster) startClients(t *testing.T, k *kube) {
	t.Helper()
	for _, node := range c.nodes() {
		c.sshOK(t, node, "rm -rf "+failuresDir+"; mkdir -p "+failuresDir)
	}
	zero, one := intstr.FromInt32(0), intstr.FromInt32(1)
	for app, strategy := range map[string]appsv1.DeploymentStrategy{
		"steady": {Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &zero, MaxSurge: &one}},
		"loose":  {Type: appsv1.RecreateDeploymentStrategyType},
	} {
		labels := map[string]string{"app": app}
		replicas := int32(3)
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: app}, Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Strategy: strategy, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: clientPod(app),
		}}
		create(t, "Deployment "+app, func(ctx context.Context) error {
			_, err := k.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{})
			return err
		})
		available := intstr.FromInt32(2)
		create(t, "the budget of "+app, func(ctx context.Context) error {
			_, err := k.PolicyV1().PodDisruptionBudgets("default").Create(ctx, &policyv1.PodDisruptionBudget{
				ObjectMeta: metav1.ObjectMeta{Name: app},
				Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &available, Selector: &metav1.LabelSelector{MatchLabels: labels}},
			}, metav1.CreateOptions{})
			return err
		})
		c.waitPods(t, k, app, 3)
	}
}

func clientPod(app string) corev1.PodTemplateSpec {
	pod := serverPod(app)
	grace := int64(15)
	directory := corev1.HostPathDirectory
	pod.Spec.TerminationGracePeriodSeconds = &grace
	server := &pod.Spec.Containers[0]
	server.Args = []string{"api", failuresDir + "/" + app}
	server.ReadinessProbe.ProbeHandler = corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(serverPort)}}
	server.VolumeMounts = []corev1.VolumeMount{{Name: "failures", MountPath: failuresDir}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "failures", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: failuresDir, Type: &directory}}}}
	return pod
}

// checkClients wants no pod to have had a failure.
func (c *cluster) checkClients(t *testing.T) {
	t.Helper()
	logs := 0
	for _, node := range c.nodes() {
		logs += strings.Count(c.sshOK(t, node, "ls "+failuresDir), "\n")
		if failures := c.sshOK(t, node, "cat "+failuresDir+"/* 2>/dev/null; true"); failures != "" {
			t.Errorf("%s: requests of pods failed:\n%s", node, failures)
		}
	}
	if logs == 0 {
		t.Error("no pod used the API")
	}
}

// oldTrust is what was good before a rotation, and must not be afterwards.
type oldTrust struct {
	admin, etcd *http.Client
	token       string
	kube        *kube
	endpoint    string
	extensions  map[string]string // the ConfigMap extension-apiserver-authentication's authorities
}

// keepOld keeps the admin's certificate, a client's of etcd and a token.
func (c *cluster) keepOld(t *testing.T, k *kube) *oldTrust {
	t.Helper()
	hour := int64(3600)
	token, err := k.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pair := func(name string) tls.Certificate {
		base := filepath.Join(c.state, c.name, "data", "pki", name)
		cert, err := tls.LoadX509KeyPair(base+".crt", base+".key")
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	client := func(cert tls.Certificate) *http.Client {
		config := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}} //nolint:gosec // G402: who is trusted is what matters
		return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	}
	node := c.controlPlanes()[0]
	return &oldTrust{
		admin: client(pair("admin")), etcd: client(pair("etcd/healthcheck-client@" + node)), token: token.Status.Token, kube: k,
		extensions: extensionTrust(t, k), endpoint: c.machineAddress(t, node),
	}
}

// codes are what is answered to the admin, to the client of etcd, and to the holder of the token; 0 for nothing.
func (o *oldTrust) codes(t *testing.T, k *kube) [3]int {
	t.Helper()
	ask := func(client *http.Client, url string) int {
		response, err := client.Get(url) //nolint:noctx // the client has a timeout
		if err != nil {
			return 0
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	config := rest.AnonymousClientConfig(k.config)
	config.BearerToken = o.token
	holder, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return [3]int{
		ask(o.admin, "https://"+o.endpoint+":6443/api/v1/nodes"),
		ask(o.etcd, "https://"+o.endpoint+":2379/version"),
		ask(holder, k.config.Host+"/api"),
	}
}

func (o *oldTrust) stillGood(t *testing.T) {
	t.Helper()
	if got := o.codes(t, o.kube); got != [3]int{200, 200, 200} {
		t.Errorf("what was good before is answered with %v", got)
	}
	if diff := cmp.Diff(o.extensions, extensionTrust(t, o.kube)); diff != "" {
		t.Errorf("extension API servers are told of others:\n%s", diff)
	}
}

// extensionTrust is whose clients extension API servers are told to take.
func extensionTrust(t *testing.T, k *kube) map[string]string {
	t.Helper()
	trust, err := k.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(t.Context(), "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, key := range []string{"client-ca-file", "requestheader-client-ca-file"} {
		if found[key] = trust.Data[key]; found[key] == "" {
			t.Errorf("extension API servers are told nothing by %s", key)
		}
	}
	return found
}

func (o *oldTrust) refused(t *testing.T, c *cluster) {
	t.Helper()
	if got := o.codes(t, c.kube(t)); got != [3]int{401, 0, 401} {
		t.Errorf("what was good before the rotation is answered with %v, and should be refused", got)
	}
	for key, now := range extensionTrust(t, c.kube(t)) {
		if strings.Contains(now, o.extensions[key]) {
			t.Errorf("extension API servers are still told of the old authorities: %s is\n%s", key, now)
		}
	}
	// Who trusts the old authority alone trusts no server any more.
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(o.kube.config.CAData)
	if conn, err := tls.Dial("tcp", o.endpoint+":6443", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}); err == nil { //nolint:noctx // at once
		_ = conn.Close()
		t.Error("the API server shows a certificate of the old authority")
	}
}

// budgetWatch notes when fewer pods are ready than budgets demand.
type budgetWatch struct {
	cancel   context.CancelFunc
	done     sync.WaitGroup
	looks    int
	mistakes []string
}

func (c *cluster) watchBudgets(t *testing.T, k *kube) *budgetWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	w := &budgetWatch{cancel: cancel}
	w.done.Go(func() {
		for tick := time.NewTicker(200 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			w.look(ctx, c, k)
		}
	})
	return w
}

// look counts the ready pods of each app by what etcd knows through any API server; one that does not answer is no news.
func (w *budgetWatch) look(ctx context.Context, c *cluster, k *kube) {
	list, err := k.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app in (steady,loose)"})
	if err != nil {
		return
	}
	ready := map[string]int{}
	for _, p := range list.Items {
		if podReady(p) {
			ready[p.Labels["app"]]++
		}
	}
	w.looks++
	for _, app := range []string{"steady", "loose"} {
		if ready[app] < 2 {
			w.mistakes = append(w.mistakes, fmt.Sprintf("%s: %d pods of %s are ready, the budget demands 2", time.Now().UTC().Format(time.TimeOnly), ready[app], app))
		}
	}
}

func (w *budgetWatch) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	w.done.Wait()
	if w.looks == 0 {
		t.Error("nobody looked at the budgets")
	}
	for _, m := range w.mistakes {
		t.Error(m)
	}
}
