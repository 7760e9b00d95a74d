package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// pingTimeout is how long a daemon may take to answer.
const pingTimeout = 5 * time.Second

// newDocker makes a client for DOCKER_HOST, or for the first socket found in Docker's usual places.
func newDocker() (*client.Client, error) {
	opts := []client.Opt{client.FromEnv}
	if os.Getenv(client.EnvOverrideHost) == "" {
		if socket := findSocket(); socket != "" {
			opts = append(opts, client.WithHost("unix://"+socket))
		}
	}
	docker, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to Docker: %w; check DOCKER_HOST and the other DOCKER_ variables", err)
	}
	if host := docker.DaemonHost(); !isHere(host) {
		return nil, fmt.Errorf("the Docker engine at %s is on another computer: local machines mount files of this one; "+
			"unset DOCKER_HOST to use the Docker of this computer", host)
	}
	return docker, nil
}

// isHere reports whether a daemon's address is certainly on this computer.
func isHere(host string) bool {
	u, err := url.Parse(host)
	if err != nil {
		return false
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	return u.Scheme == "unix" || u.Scheme == "npipe" || u.Hostname() == "localhost" || ip.IsLoopback()
}

// findSocket returns the socket of Docker Engine, or those of Docker Desktop and Colima, which run
// no system-wide one.
func findSocket() string {
	home, _ := os.UserHomeDir()
	for _, s := range []string{
		"/var/run/docker.sock",
		filepath.Join(home, ".docker/run/docker.sock"),
		filepath.Join(home, ".docker/desktop/docker.sock"),
		filepath.Join(home, ".colima/default/docker.sock"),
	} {
		if _, err := os.Stat(s); err == nil {
			return s
		}
	}
	return ""
}

// connect checks that Docker is available and can run machines.
func (p *Local) connect(ctx context.Context) error {
	if p.api != "" {
		return nil
	}
	tctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	pong, err := p.docker.Ping(tctx, client.PingOptions{NegotiateAPIVersion: true})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return unreachable(p.docker.DaemonHost(), err)
	}
	if pong.OSType != "linux" {
		return fmt.Errorf("the Docker engine at %s runs %s containers; local machines need Linux ones: switch it over",
			p.docker.DaemonHost(), pong.OSType)
	}
	p.api = pong.APIVersion
	return nil
}

// unreachable returns an error that says why Docker does not answer at host, and what to do.
func unreachable(host string, err error) error {
	remedy := "start it (`systemctl start docker`, or Docker Desktop), or point DOCKER_HOST at the one that runs"
	socket, isSocket := strings.CutPrefix(host, "unix://")
	switch _, serr := os.Stat(socket); {
	case errors.Is(err, fs.ErrPermission):
		remedy = "join its group (`usermod -aG docker $USER`, then log in again) or run as root"
	case isSocket && errors.Is(serr, fs.ErrNotExist):
		remedy = "install Docker and start it, or point DOCKER_HOST at the one that runs"
	}
	return fmt.Errorf("the Docker engine at %s does not answer, and local machines are made with it: %w; %s", host, err, remedy)
}

// create makes a container. A container with this name that never ran is left from an interrupted
// run, whose request Docker completed later: it is replaced.
func (p *Local) create(ctx context.Context, o client.ContainerCreateOptions) (client.ContainerCreateResult, error) {
	res, err := p.docker.ContainerCreate(ctx, o)
	if !cerrdefs.IsConflict(err) {
		return res, err
	}
	have, ierr := p.docker.ContainerInspect(ctx, o.Name, client.ContainerInspectOptions{})
	switch {
	case cerrdefs.IsNotFound(ierr): // gone again
	case ierr != nil:
		return res, err
	case have.Container.Config.Labels[labelCluster] != p.cluster || have.Container.Config.Labels[labelUID] != o.Config.Labels[labelUID]:
		return res, fmt.Errorf("%w; it is not of this cluster: rename it or the cluster", err)
	case have.Container.State.Status != container.StateCreated:
		return res, fmt.Errorf("%w; is another slipway at work on cluster %s?", err, p.cluster)
	default:
		if err := p.removeContainer(ctx, have.Container.ID, o.Name); err != nil {
			return res, err
		}
	}
	return p.docker.ContainerCreate(ctx, o)
}

// removeContainer removes a container, running or not, and leaves its volumes; none is no error.
func (p *Local) removeContainer(ctx context.Context, id, name string) error {
	_, err := p.docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
	switch {
	case err == nil, cerrdefs.IsNotFound(err):
		return nil
	case !cerrdefs.IsConflict(err): // another process is removing it
		return fmt.Errorf("remove container %s: %w", name, err)
	}
	wait := p.docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	select {
	case <-wait.Result:
		return nil
	case err := <-wait.Error:
		if cerrdefs.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("remove container %s: %w", name, err)
	}
}

// portTaken reports whether a container could not be started because of a published port.
func portTaken(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "port is already allocated") ||
		strings.Contains(err.Error(), "address already in use"))
}
