package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// users use the API ten times a second each, through balancers: one through the operator's with a connection that lasts, one
// with a new connection each time, and one of a node through that node's own balancer. They are client-go, as nearly
// everybody who uses the API is: it comes again where an API server that stops says so (Retry-After), or closes a
// connection that lasts on it. The one of the node does the former.
type users struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	node   func() (requests int, failures []string)
	again  atomic.Int64 // answers that were none

	mu       sync.Mutex
	requests int
	slowest  time.Duration
	failures []string
}

func (c *cluster) useAPI(t *testing.T, k *kube, node string) *users {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	u := &users{cancel: cancel, node: c.useAPIOnNode(t, node)}
	t.Cleanup(cancel)
	for _, lasting := range []bool{true, false} {
		client := u.client(t, k.config, lasting)
		u.done.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				began := time.Now()
				// A request that has begun is to end.
				u.note(began, client.Get().AbsPath("/api/v1/namespaces/default").Do(context.WithoutCancel(ctx)).Error())
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	return u
}

// client is client-go's, with a connection that lasts or a new one each time.
func (u *users) client(t *testing.T, config *rest.Config, lasting bool) rest.Interface {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS, config.Timeout = -1, 10*time.Second
	var transport http.RoundTripper
	var err error
	if lasting {
		transport, err = rest.TransportFor(config)
	} else {
		var trust *tls.Config
		trust, err = rest.TLSConfigFor(config)
		transport = &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	}
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfigAndClient(config, &http.Client{Transport: u.counting(transport), Timeout: config.Timeout})
	if err != nil {
		t.Fatal(err)
	}
	return client.CoreV1().RESTClient()
}

// roundTripper is a function that is one.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// counting counts what client-go gets to see and its caller does not.
func (u *users) counting(transport http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := transport.RoundTrip(r)
		if err != nil || response.StatusCode != http.StatusOK {
			u.again.Add(1)
		}
		return response, err
	})
}

func (u *users) note(began time.Time, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests++
	u.slowest = max(u.slowest, time.Since(began))
	if err != nil {
		u.failures = append(u.failures, began.Format(time.TimeOnly)+" "+err.Error())
	}
}

// useAPIOnNode has a node ask for itself, as its kubelet does, until the returned function is called.
func (c *cluster) useAPIOnNode(t *testing.T, node string) func() (int, []string) {
	t.Helper()
	id := c.machine(t, node)
	loop := `rm -f /tmp/stop /tmp/failed; n=0
while [ ! -e /tmp/stop ]; do
  n=$((n+1))
  curl -sS --retry 3 --max-time 10 -o /dev/null --fail --cacert /etc/kubernetes/pki/ca.crt \
    --cert /var/lib/kubelet/pki/kubelet-client.crt --key /var/lib/kubelet/pki/kubelet-client.key https://127.0.0.1:6444/api/v1/nodes/` + node + ` 2>/tmp/error
  code=$?
  [ $code = 0 ] || [ $code = 58 ] || { date +%T; cat /tmp/error; } >>/tmp/failed # 58: certificate and key are just being replaced
  sleep 0.1
done
echo $n; cat /tmp/failed 2>/dev/null; true`
	var output string
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		output, err = dockerContext(context.WithoutCancel(t.Context()), "exec", id, "sh", "-c", loop)
	}()
	return func() (requests int, failures []string) {
		docker(t, "exec", id, "touch", "/tmp/stop")
		<-ended
		if err != nil {
			t.Fatal(err)
		}
		count, failed, _ := strings.Cut(output, "\n")
		if _, err := fmt.Sscan(count, &requests); err != nil {
			t.Fatal(err)
		}
		if failed != "" {
			failures = []string{"on " + node + ": " + failed}
		}
		return requests, failures
	}
}

// stop ends the users and wants every request to have been answered.
func (u *users) stop(t *testing.T) {
	t.Helper()
	u.cancel()
	u.done.Wait()
	requests, failures := u.node()
	t.Logf("%d requests through the operator's balancer, %d asked again, the slowest took %v; %d on a node", u.requests, u.again.Load(), u.slowest.Round(time.Millisecond), requests)
	if u.requests == 0 || requests == 0 {
		t.Error("nobody used the API")
	}
	for _, f := range append(u.failures, failures...) {
		t.Errorf("a request failed: %s", f)
	}
}
