package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// users use the API ten times a second each, through balancers, and never try again: one through the operator's with a
// connection that lasts, one with a new connection each time, and one of a node through that node's own balancer.
type users struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	node   func() (requests int, failures []string)

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
	config, err := rest.TLSConfigFor(k.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, lasting := range []bool{true, false} {
		client := &http.Client{
			Transport: &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true, DisableKeepAlives: !lasting},
			Timeout:   10 * time.Second,
		}
		u.done.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				began := time.Now()
				u.note(began, get(client, k.config.Host+"/api/v1/namespaces/default"))
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	return u
}

func get(client *http.Client, url string) error {
	response, err := client.Get(url) //nolint:noctx // the client has a timeout, and a request that has begun is to end
	if err != nil {
		return err
	}
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return errors.Join(err, response.Body.Close())
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
  curl -sS --max-time 10 -o /dev/null --fail --cacert /etc/kubernetes/pki/ca.crt \
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
	t.Logf("%d requests through the operator's balancer, the slowest took %v; %d on a node", u.requests, u.slowest.Round(time.Millisecond), requests)
	if u.requests == 0 || requests == 0 {
		t.Error("nobody used the API")
	}
	for _, f := range append(u.failures, failures...) {
		t.Errorf("a request failed: %s", f)
	}
}
