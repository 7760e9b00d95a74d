package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// machine is the form of slipway's local machines, of which kubeadm's are made.
type machine struct {
	config *container.Config
	host   *container.HostConfig
	// bundles is where the machine sees the operator's bundles.
	bundles string
}

// machineForm takes the form from a machine that slipway made.
func (b *bench) machineForm(ctx context.Context, name string) (machine, error) {
	found, err := b.docker.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return machine{}, err
	}
	m := machine{config: found.Container.Config, host: found.Container.HostConfig}
	m.config.Image = found.Container.Image // by its id: a tag may have moved on
	for _, mnt := range m.host.Mounts {
		if strings.HasSuffix(mnt.Source, "/bundles") {
			m.bundles = mnt.Target
		}
	}
	if m.bundles == "" {
		return machine{}, fmt.Errorf("machine %s mounts no bundles: %v", name, m.host.Mounts)
	}
	return m, nil
}

// waitSSH waits until every named machine greets on its published SSH port.
func (b *bench) waitSSH(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := poll(ctx, 2*time.Minute, name+" answers SSH", func() error { return b.greets(ctx, name) }); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) greets(ctx context.Context, name string) error {
	found, err := b.docker.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	for port, bindings := range found.Container.NetworkSettings.Ports {
		if port.Num() != 22 || len(bindings) == 0 {
			continue
		}
		address := net.JoinHostPort(bindings[0].HostIP.String(), bindings[0].HostPort)
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, "SSH-2.0-") {
			err = fmt.Errorf("%s greets with %q", address, line)
		}
		return err
	}
	return errors.New("publishes no SSH port")
}

// poll calls check often until it returns nil. The pause is short, since it is in what is measured.
func poll(ctx context.Context, limit time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not so after %v", limit))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; last seen: %w", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// observer sees a cluster through a kubeconfig.
type observer struct{ api kubernetes.Interface }

func newObserver(kubeconfig []byte) (*observer, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // poll sets the pace
	config.Timeout = 5 * time.Second
	api, err := kubernetes.NewForConfig(config)
	return &observer{api}, err
}

// waitReady waits until n nodes are Ready.
func (o *observer) waitReady(ctx context.Context, n int) error {
	return poll(ctx, 5*time.Minute, fmt.Sprintf("%d nodes Ready", n), func() error { return nodesReady(ctx, o.api, n) })
}

// waitDNS waits until CoreDNS is available, which takes controllers, a scheduler, the pod network and an image too.
func (o *observer) waitDNS(ctx context.Context) error {
	return poll(ctx, 5*time.Minute, "CoreDNS available", func() error {
		d, err := o.api.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas == 0 {
			err = errors.New("no replica of CoreDNS is available")
		}
		return err
	})
}

func nodesReady(ctx context.Context, c kubernetes.Interface, n int) error {
	list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for _, node := range list.Items {
		for _, cond := range node.Status.Conditions {
			if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready != n {
		return fmt.Errorf("%d of %d nodes are Ready", ready, n)
	}
	return nil
}

// inside runs a script as root in a machine and returns what it printed.
func inside(ctx context.Context, name, script string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "docker", "exec", "-i", name, "sh", "-es")
	cmd.Stdin = strings.NewReader(script)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", name, err, out, stderr.String())
	}
	return out, nil
}
