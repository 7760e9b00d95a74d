// Package kube accesses the running cluster's API: readiness, objects, nodes, Secrets, the rollout
// of workloads, and the certificates that it signs and stores.
//
// It does not know the desired cluster; callers pass objects and node settings.
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

// FieldManager is the owner of fields that slipway applies (KEP-555).
const FieldManager = "slipway"

// Client is a client for one cluster.
type Client struct {
	typed   *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
	meta    metadata.Interface
	rest    rest.Interface
}

// Config returns the configuration to connect to server (a URL) with a client certificate, through
// dial; if dial is nil, over the network.
func Config(dial func(ctx context.Context, network, address string) (net.Conn, error), server string, ca, cert []byte, key secret.Bytes) *rest.Config {
	return &rest.Config{
		Host: server, Dial: dial, UserAgent: "slipway",
		QPS:             -1, // no limit: the API server has priority and fairness
		TLSClientConfig: rest.TLSClientConfig{CAData: ca, CertData: cert, KeyData: key.Reveal()},
		ContentConfig: rest.ContentConfig{ // for the typed client; the dynamic one always uses JSON
			ContentType:        runtime.ContentTypeProtobuf,
			AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		},
	}
}

// quiet keeps client-go's messages off the terminal: everything relevant is also returned as an
// error.
var quiet = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// New makes a client. It sends nothing.
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

// Typed returns the typed client, for everything that has no method here.
func (c *Client) Typed() kubernetes.Interface { return c.typed }

// Now returns the time of an API server's clock, from the dry run of a creation.
func (c *Client) Now(ctx context.Context) (time.Time, error) {
	made, err := c.typed.CoreV1().ConfigMaps(metav1.NamespaceSystem).Create(ctx,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "slipway-clock-"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the API server for its time: %w", err)
	}
	return made.CreationTimestamp.UTC(), nil
}

// readyAttempt is the timeout of one readiness request.
const readyAttempt = 2 * time.Second

// Ready requests /readyz once; nil means that it is ok.
func (c *Client) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyAttempt)
	defer cancel()
	return c.rest.Get().AbsPath("/readyz").MaxRetries(0).Do(ctx).Error()
}
