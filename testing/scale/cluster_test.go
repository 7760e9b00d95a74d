// Package scale_test runs the slipway binary against clusters of many simulated hosts: SSH servers inside the test,
// far away, that answer what slipway asks of a host as one does on which nothing differs. etcd and the API server are
// real. It measures what slipway takes to see that there is nothing to do.
//
// It says nothing of hosts: how long a real one takes to answer is not in it.
package scale_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/providers/hosts"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
	"slipway.dev/slipway/templates"
	"slipway.dev/slipway/testing/hosttest"
)

const (
	// latency is the round trip to every host.
	latency       = 50 * time.Millisecond
	controlPlanes = 3
)

// The pool has a label and a taint, for nodes to be compared by; the pod subnet has room for 4,096 nodes.
const specText = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: scale}
spec:
  kubernetes: {version: v1.36.3}
  provider: {local: {subnet: 172.16.0.0/16}}
  network: {podSubnet: 10.0.0.0/12, serviceSubnet: 10.96.0.0/12}
  nodePools:
  - {name: cp, role: control-plane, replicas: %d}
  - {name: worker, role: worker, replicas: %d, labels: {tier: web}, taints: [{key: dedicated, value: web, effect: PreferNoSchedule}]}
`

// cluster is a simulated one on which nothing differs from its spec.
type cluster struct {
	dir, binary string
	spec        *spec.Cluster
	infra       *spec.Infrastructure
	input       stack.Input
	desired     stack.State
	user        ssh.PublicKey             // who is let in
	known       spec.KnownHosts           // what the state records of machines that exist
	servers     map[string]*hosttest.SSHD // by node
	targets     map[string]string         // where connections from a control plane go, by "node address"

	mu      sync.Mutex
	hosts   map[string]stack.HostState // what each host reports
	refused []string                   // what a host was asked for and does not do
}

// newCluster simulates a cluster of so many local machines.
func newCluster(t testing.TB, hosts int) *cluster {
	t.Helper()
	return simulate(t, hosts, func(*cluster) []byte { return fmt.Appendf(nil, specText, controlPlanes, hosts-controlPlanes) })
}

// simulate simulates a cluster of so many hosts, of which spec writes the spec once they run.
func simulate(t testing.TB, hosts int, specOf func(*cluster) []byte) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir(), servers: map[string]*hosttest.SSHD{}, targets: map[string]string{}, hosts: map[string]stack.HostState{}}
	store, err := state.Open(t.Context(), state.Options{Dir: c.stateDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	c.serve(t, hosts)
	text := specOf(c)
	if c.spec, err = spec.Parse("cluster.yaml", text); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.file(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	c.binary = slipway(t)
	artifacts := c.cache(t)
	c.find(t)
	c.input = stack.Input{
		Cluster: c.spec, Machines: c.infra.Machines, Endpoint: c.infra.Endpoint, Artifacts: stack.Sets{"amd64": artifacts},
		Facts: map[string]stack.Facts{}, UID: clusterUID,
	}
	for _, m := range c.infra.Machines {
		c.input.Facts[m.Name] = facts(m)
	}
	c.secrets(t, store)
	if c.desired, err = stack.Desired(c.input); err != nil {
		t.Fatal(err)
	}
	for name, h := range c.desired.Hosts {
		c.hosts[name] = h
	}
	c.startControlPlane(t)
	health, balancer := healthy(t), c.targets["scale-cp-1 127.0.0.1:6444"]
	for name := range c.servers {
		c.targets[name+" 127.0.0.1:10248"], c.targets[name+" 127.0.0.1:10256"], c.targets[name+" 127.0.0.1:6444"] = health, health, balancer
	}
	return c
}

func (c *cluster) file() string     { return filepath.Join(c.dir, "cluster.yaml") }
func (c *cluster) cacheDir() string { return filepath.Join(c.dir, "cache") }
func (c *cluster) stateDir() string { return filepath.Join(c.dir, "state", "scale") }
func (c *cluster) keysDir() string  { return filepath.Join(c.stateDir(), "ssh") }

// environment is the binary's.
func (c *cluster) environment() []string {
	return []string{
		"SLIPWAY_STATE_DIR=" + filepath.Dir(c.stateDir()), "SLIPWAY_CACHE_DIR=" + c.cacheDir(), "DOCKER_HOST=" + c.engine(), "SSH_AUTH_SOCK=",
	}
}

// slipway is the binary SLIPWAY_BIN, or one built from the source.
func slipway(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("SLIPWAY_BIN"); given != "" {
		return given
	}
	file := filepath.Join(t.TempDir(), "slipway")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", file, "slipway.dev/slipway/cmd/slipway").CombinedOutput()
	if err != nil {
		t.Fatalf("build slipway: %v\n%s", err, out)
	}
	return file
}

// cache makes a cache of the test's own, with the bundle of the user's, and gives the artifacts of both. Where there is
// no such bundle the test is skipped.
func (c *cluster) cache(t testing.TB) stack.Set {
	t.Helper()
	users := os.Getenv("SLIPWAY_CACHE_DIR")
	if users == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		users = filepath.Join(dir, "slipway")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	none := errors.New("the cache has no bundle: run `slipway bundle build`")
	b, err := bundle.Ensure(ctx, bundle.Options{
		KubernetesVersion: c.spec.Spec.Kubernetes.Version, CacheDir: users, Progress: func(bundle.Event) { cancel(none) },
	})
	if err != nil {
		if os.Getenv("CI") == "" && context.Cause(ctx) == none { //nolint:errorlint // it is this very one
			t.Skip(none)
		}
		t.Fatal(err)
	}
	bundles := filepath.Join(c.cacheDir(), "bundles")
	index, err := os.ReadFile(filepath.Join(users, "bundles", "index.json"))
	if err := errors.Join(err, os.MkdirAll(bundles, 0o755), os.WriteFile(filepath.Join(bundles, "index.json"), index, 0o644),
		os.Symlink(b.Dir, filepath.Join(bundles, filepath.Base(b.Dir)))); err != nil {
		t.Fatal(err)
	}
	// Its digests are known, as they are after any earlier run.
	if _, err := bundle.Ensure(ctx, bundle.Options{KubernetesVersion: c.spec.Spec.Kubernetes.Version, CacheDir: c.cacheDir()}); err != nil {
		t.Fatal(err)
	}
	artifacts := stack.Artifacts(b)
	sum := fileDigest(t, c.binary)
	artifacts["slipway"] = stack.Artifact{
		Name: "slipway", Component: "slipway", Version: sum[:16], SHA256: sum, Mounted: "slipway-" + sum[:16] + "/bin/slipway",
	}
	return artifacts
}

func fileDigest(t testing.TB, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// machineNetwork is where the machines are: addresses of this computer, other ones in every process.
func machineNetwork() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, byte(16 + os.Getpid()%200), 0, 0}), 16)
}

// names are the nodes of a cluster of so many hosts, control planes first.
func names(hosts int) (all []string) {
	for i := range hosts {
		if i < controlPlanes {
			all = append(all, fmt.Sprintf("scale-cp-%d", i+1))
		} else {
			all = append(all, fmt.Sprintf("scale-worker-%d", i+1-controlPlanes))
		}
	}
	return all
}

// serve starts an SSH server for every node, and keeps the keys where the local provider does.
func (c *cluster) serve(t testing.TB, hosts int) {
	t.Helper()
	keys := c.keysDir()
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, key secret.Bytes) {
		if err := os.WriteFile(filepath.Join(keys, name), key.Reveal(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	user, userKey := hosttest.NewKey(t)
	write("id_ed25519", userKey)
	c.user = user.PublicKey()
	for _, name := range names(hosts) {
		var hostKey ssh.Signer
		var private secret.Bytes
		hostKey, private = hosttest.NewKey(t)
		write(name, private)
		c.servers[name] = hosttest.NewSSHD(t, hosttest.Options{
			HostKey: hostKey, Client: c.user, Latency: latency,
			Exec: func(line string, stdin io.Reader, stdout, stderr io.Writer) int {
				if written := c.write(t, name, line, stdin); written {
					return 0
				}
				return c.answer(name, line, stdout, stderr)
			},
			Dial: func(address string) (net.Conn, error) { return c.connect(name, address) },
		})
	}
}

// clusterUID is that of the simulated cluster.
const clusterUID = "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11"

// find asks the provider for the machines, as slipway will.
func (c *cluster) find(t testing.TB) {
	t.Helper()
	if c.spec.Spec.Provider.Local != nil {
		c.startEngine(t)
	}
	for _, e := range c.environment() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	provider, err := providers.Open(c.spec, providers.Options{
		StateDir: c.stateDir(), CacheDir: c.cacheDir(), UID: clusterUID,
		Hosts: hosts.Options{Known: c.known, Path: func(p string) (string, error) { return p, nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.infra, err = provider.Find(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.infra.Machines) != len(c.servers) {
		t.Fatalf("the provider finds %d machines of %d", len(c.infra.Machines), len(c.servers))
	}
}

// secrets puts into the state what an apply leaves there.
func (c *cluster) secrets(t testing.TB, store *state.Store) {
	t.Helper()
	table := certs.Table(stack.CertInputs(c.spec, c.infra.Machines, c.infra.ExtraSANs))
	policy := certs.Policy{
		CAValidity: c.spec.Spec.PKI.CADuration(), LeafValidity: c.spec.Spec.PKI.LeafDuration(),
		KeyAlgorithm: certs.KeyAlgorithm(c.spec.Spec.PKI.KeyAlgorithm),
	}
	key := certs.NewEncryptionKey()
	c.input.EncryptionKeys = []stack.EncryptionKey{{Name: string(key.Cert), Key: key.Key}}
	var err error
	if c.input.PKI, _, err = certs.Ensure(t.Context(), nil, table, policy, time.Now()); err != nil {
		t.Fatal(err)
	}
	put := map[string]secret.Bytes{"encryption-key": certs.FormatEncryptionKey(key)}
	for name, content := range c.input.PKI.Material.Flatten() {
		put["pki/"+name] = content
	}
	applied, err := plan.NewApplied(c.input, "simulated")
	if err != nil {
		t.Fatal(err)
	}
	if put["applied.json"], err = json.Marshal(applied); err != nil {
		t.Fatal(err)
	}
	members := map[string]bool{}
	for _, m := range c.input.ControlPlanes() {
		members[m.Name] = true
	}
	identity := plan.Identity{UID: clusterUID, Name: c.spec.Metadata.Name, Up: (*plan.Up)(nil).Joined(c.input, time.Now(), "", members)}
	if put["cluster.json"], err = json.Marshal(identity); err != nil {
		t.Fatal(err)
	}
	if put["hosts.json"], err = json.Marshal(c.known); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), put); err != nil {
		t.Fatal(err)
	}
}

// observing is how a command ends that observes a host.
var observing = strings.TrimPrefix(host.Quote(templates.ObserveScript()), "'")

// answer is a host's shell, which knows how to observe and to write, and nothing else.
func (c *cluster) answer(node, line string, stdout, stderr io.Writer) int {
	missing := ""
	for p := range c.desired.Hosts[node].Files {
		if !strings.Contains(line, p) {
			missing = p
		}
	}
	if strings.Contains(line, "until [ \"$(systemctl is-active ") {
		return 0 // its units are active
	}
	c.mu.Lock()
	h := c.hosts[node]
	refused := !strings.HasSuffix(line, observing) || missing != ""
	if refused {
		c.refused = append(c.refused, fmt.Sprintf("%s: run (without %q) %s", node, missing, line))
	}
	c.mu.Unlock()
	if refused {
		_, _ = fmt.Fprintln(stderr, "this simulated host can only be observed and written to")
		return 127
	}
	_, _ = io.WriteString(stdout, report(h))
	return 0
}

// connect leads to etcd and the API server of a control plane.
func (c *cluster) connect(node, address string) (net.Conn, error) {
	to, ok := c.targets[node+" "+address]
	if !ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused = append(c.refused, fmt.Sprintf("%s: connect to %s", node, address))
		return nil, fmt.Errorf("nothing listens on %s", address)
	}
	return net.Dial("tcp", to)
}
