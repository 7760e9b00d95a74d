package simulate

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Shape is a cluster's size, with all that is costly to compute of it: clusters of many seeds have it in common, and
// nobody changes it.
type Shape struct {
	ControlPlanes, Workers int
	// Variants are what its spec and its bundle may become, one after another.
	Variants []Variant
	images   map[string]string // references by name
	secrets  []string          // pieces of every key
	memo     *memo
}

// Variant is one wish.
type Variant struct {
	Name  string
	Input stack.Input
	fresh bool
}

// computed is the variant whose desired state is computed each time, as by slipway.
func (v Variant) computed() Variant {
	v.fresh = true
	return v
}

const specText = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: sim}
spec:
  kubernetes:
    version: v1.36.3
    apiServer: {extraArgs: {v: "%d"}}
  provider: {local: {}}
  bundle: {keepVersions: 0}
  nodePools:
  - {name: cp, role: control-plane, replicas: %d}
`

// epoch is when the clock of a bubble begins (testing/synctest).
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// NewShape makes one, with a PKI of its own.
func NewShape(controlPlanes, workers int) (*Shape, error) {
	s := &Shape{ControlPlanes: controlPlanes, Workers: workers, images: map[string]string{}, memo: newMemo()}
	for _, v := range []struct{ name, bundle, level string }{{"first", "v1", "2"}, {"bundle", "v2", "2"}, {"flag", "v1", "4"}} {
		in, err := s.input(v.bundle, v.level)
		if err != nil {
			return nil, err
		}
		if len(s.Variants) > 0 {
			in.PKI = s.Variants[0].Input.PKI
		} else {
			table, policy := certs.Table(stack.CertInputs(in.Cluster, in.Machines, nil)), keys.CertPolicy(in.Cluster.Spec.PKI, nil)
			if in.PKI, _, err = certs.Ensure(context.Background(), nil, table, policy, epoch); err != nil {
				return nil, err
			}
		}
		s.Variants = append(s.Variants, Variant{Name: v.name, Input: in})
	}
	s.secrets = pieces(s.Variants[0].Input.PKI.Material)
	for _, key := range s.Variants[0].Input.EncryptionKeys {
		s.secrets = append(s.secrets, piecesOfKey(key.Key)...)
	}
	slices.Sort(s.secrets)
	return s, nil
}

func (s *Shape) input(bundle, level string) (stack.Input, error) {
	text := fmt.Sprintf(specText, 0, s.ControlPlanes)
	text = strings.Replace(text, `v: "0"`, `v: "`+level+`"`, 1)
	if s.Workers > 0 {
		text += fmt.Sprintf("  - {name: worker, role: worker, replicas: %d, labels: {tier: web}}\n", s.Workers)
	}
	cluster, err := spec.Parse("cluster.yaml", []byte(text))
	if err != nil {
		return stack.Input{}, err
	}
	in := stack.Input{
		Cluster: cluster, UID: "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11", Endpoint: "127.0.0.1:16443",
		Artifacts:      stack.Sets{"amd64": s.set(bundle, ""), "arm64": s.set(bundle, "-arm64")},
		EncryptionKeys: []stack.EncryptionKey{{Name: "key1", Key: secret.Bytes("0123456789abcdef0123456789abcdef")}}, Facts: map[string]stack.Facts{},
	}
	for i, n := range cluster.Nodes() {
		address := netip.AddrFrom4([4]byte{10, 89, 0, byte(11 + i)}) //nolint:gosec // G115: a few
		in.Machines = append(in.Machines, spec.Machine{Name: n.Name, Pool: n.Pool, Role: n.Role, Address: address, Artifacts: "/bundles"})
		in.Facts[n.Name] = stack.Facts{
			Arch:    map[bool]string{true: "arm64", false: "amd64"}[n.Name == s.another()],
			Systemd: true, CgroupV2: true, SysResource: true, ReadSearch: true, ConntrackWritable: true, ResolvConf: "/etc/resolv.conf",
		}
	}
	return in, nil
}

// set has the artifacts of a build for an architecture.
func (s *Shape) set(bundle, arch string) stack.Set {
	all := stack.Set{}
	for _, name := range stack.Programs() {
		dir := bundle + arch
		a := stack.Artifact{Name: name, Component: "stack", Version: bundle, SHA256: hex.EncodeToString([]byte(name + dir)), Mounted: dir + "/bin/" + name}
		if path.Dir(name) == "image" {
			a.Image, a.Mounted = "slipway.invalid/"+path.Base(name)+":v1", dir+"/images/"+path.Base(name)+".tar"
			s.images[name] = a.Image
		}
		all[name] = a
	}
	return all
}

// another is the machine that is arm64: slipway learns that when it observes it.
func (s *Shape) another() string { return fmt.Sprintf("sim-worker-%d", s.Workers) }

// pieces are a piece of each key, by which it is known wherever it is printed.
func pieces(items certs.Material) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(items)) {
		key := items[name].Key
		if lines := strings.Split(strings.TrimSpace(string(key.Reveal())), "\n"); len(lines) > 2 {
			all = append(all, lines[1][:min(40, len(lines[1]))])
		} else if len(key) > 0 {
			all = append(all, piecesOfKey(key)...)
		}
	}
	return all
}

// piecesOfKey are those of a key of Secrets at rest.
func piecesOfKey(key secret.Bytes) []string {
	return []string{string(key.Reveal()), base64.StdEncoding.EncodeToString(key.Reveal())}
}

// leaked is a piece of a key that is in a text, "" for none.
func (c *Cluster) leaked(text string) string {
	for _, piece := range slices.Concat(c.shape.secrets, c.secrets) {
		if strings.Contains(text, piece) {
			return piece
		}
	}
	return ""
}
