// Package kube is the running cluster's API: readiness, objects, nodes, Secrets, the rollout of workloads, and the certificates that
// it signs and holds.
//
// It does not know what a cluster should look like; callers hand it objects and node settings.
package kube

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"slipway.dev/slipway/provision/secret"
)

// FieldManager owns the fields that slipway applies (KEP-555).
const FieldManager = "slipway"

// Client speaks to one cluster.
type Client struct {
	typed   *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
	meta    metadata.Interface
	rest    rest.Interface
}

// Config is a connection as a client certificate's user, to server (a URL) through dial; a nil dial is the network.
func Config(dial func(ctx context.Context, network, address string) (net.Conn, error), server string, ca, cert []byte, key secret.Bytes) *rest.Config {
	return &rest.Config{
		Host: server, Dial: dial, UserAgent: "slipway",
		QPS:             -1, // no limit here: the API server has priority and fairness of its own
		TLSClientConfig: rest.TLSClientConfig{CAData: ca, CertData: cert, KeyData: key.Reveal()},
		ContentConfig: rest.ContentConfig{ // of the typed client; the dynamic one speaks JSON in any case
			ContentType:        runtime.ContentTypeProtobuf,
			AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		},
	}
}

// quiet keeps client-go's own messages off the terminal: what matters comes back as an error.
var quiet = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// New makes a client; nothing is sent yet.
func New(config *rest.Config) (*Client, error) {
	quiet()
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("set up the API client: %w", err)
	}
	typed, err := kubernetes.NewForConfigAndClient(config, transport)
	if err != nil {
		return nil, fmt.Errorf("set up the API client: %w", err)
	}
	objects, err := dynamic.NewForConfigAndClient(config, transport)
	if err != nil {
		return nil, fmt.Errorf("set up the API client: %w", err)
	}
	meta, err := metadata.NewForConfigAndClient(config, transport)
	if err != nil {
		return nil, fmt.Errorf("set up the API client: %w", err)
	}
	return &Client{typed: typed, dynamic: objects, meta: meta, rest: typed.RESTClient()}, nil
}

// Typed gives the whole typed client, for what has no method here.
func (c *Client) Typed() kubernetes.Interface { return c.typed }

// Now is the time of an API server's clock: that of an object which it is asked to make, and not to keep.
func (c *Client) Now(ctx context.Context) (time.Time, error) {
	made, err := c.typed.CoreV1().ConfigMaps(metav1.NamespaceSystem).Create(ctx,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "slipway-clock-"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the API server for its time: %w", err)
	}
	return made.CreationTimestamp.UTC(), nil
}

// readyAttempt is how long an API server may take to answer whether it is ready.
const readyAttempt = 2 * time.Second

// Ready asks /readyz once; nil means that it said ok.
func (c *Client) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyAttempt)
	defer cancel()
	return c.rest.Get().AbsPath("/readyz").MaxRetries(0).Do(ctx).Error()
}
