package converge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
)

const (
	podCIDRInterval = 200 * time.Millisecond
	podCIDRAttempt  = 5 * time.Second
)

// AwaitPodCIDR runs on a node, and waits until the node has got a network for its pods. kubeconfig
// is the file of a user who may read nodes. It retries until ctx ends: the node may not be
// registered yet, and no API server may answer, for example when all machines have just been
// switched on.
func AwaitPodCIDR(ctx context.Context, kubeconfig, node string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("wait for the pods' network of %s: %w", node, err)
	}
	config.Timeout = podCIDRAttempt
	client, err := kube.New(config)
	if err != nil {
		return err
	}
	return live.WaitEvery(ctx, podCIDRInterval, "node "+node+" has no network for its pods", func(ctx context.Context) error {
		cidr, err := client.PodCIDR(ctx, node)
		if err == nil && cidr == "" {
			err = errors.New("kube-controller-manager has given it none")
		}
		return err
	})
}
