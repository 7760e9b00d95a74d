package simulate

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
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
}

// Variant is one wish, and remembers what follows from it.
type Variant struct {
	Name           string
	Input          stack.Input
	query, desired stack.State
}

// Query implements converge.Wishes.
func (v Variant) Query(stack.Input) (stack.State, error) { return v.query, nil }

// Desired implements converge.Wishes.
func (v Variant) Desired(stack.Input) (stack.State, error) { return v.desired, nil }

const specText = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: sim}
spec:
  kubernetes:
    version: v1.36.3
    apiServer: {extraArgs: {v: "%d"}}
  provider: {local: {}}
  nodePools:
  - {name: cp, role: control-plane, replicas: %d}
`

// begin is when the clock of a bubble begins (testing/synctest).
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// NewShape makes one, with a PKI of its own.
func NewShape(controlPlanes, workers int) (*Shape, error) {
	s := &Shape{ControlPlanes: controlPlanes, Workers: workers, images: map[string]string{}}
	for _, v := range []struct{ name, bundle, level string }{{"first", "v1", "2"}, {"bundle", "v2", "2"}, {"flag", "v1", "4"}} {
		in, err := s.input(v.bundle, v.level)
		if err != nil {
			return nil, err
		}
		if len(s.Variants) > 0 {
			in.PKI = s.Variants[0].Input.PKI
		} else if in.PKI, _, err = certs.Ensure(context.Background(), nil, certs.Table(stack.CertInputs(in.Cluster, in.Machines, nil)), policy, begin); err != nil {
			return nil, err
		}
		query, err := stack.Query(in)
		if err != nil {
			return nil, err
		}
		desired, err := stack.Desired(in)
		if err != nil {
			return nil, err
		}
		s.Variants = append(s.Variants, Variant{v.name, in, query, desired})
	}
	s.noteSecrets(s.Variants[0].Input)
	return s, nil
}

var policy = certs.Policy{CAValidity: 24 * time.Hour * 365 * 30, LeafValidity: 24 * time.Hour * 365 * 10, KeyAlgorithm: certs.ECDSAP256}

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
		Cluster: cluster, UID: "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11", Endpoint: "127.0.0.1:16443", Artifacts: map[string]stack.Artifact{},
		EncryptionKeys: []stack.EncryptionKey{{Name: "key1", Key: secret.Bytes("0123456789abcdef0123456789abcdef")}}, Facts: map[string]stack.Facts{},
	}
	for i, n := range cluster.Nodes() {
		address := netip.AddrFrom4([4]byte{10, 89, 0, byte(11 + i)}) //nolint:gosec // G115: a few
		in.Machines = append(in.Machines, spec.Machine{Name: n.Name, Pool: n.Pool, Role: n.Role, Address: address, Artifacts: "/bundles"})
		in.Facts[n.Name] = stack.Facts{
			Arch: "amd64", Systemd: true, CgroupV2: true, SysResource: true, ReadSearch: true, ConntrackWritable: true, ResolvConf: "/etc/resolv.conf",
		}
	}
	for _, name := range stack.Programs() {
		a := stack.Artifact{Name: name, Component: "stack", Version: bundle, SHA256: hex.EncodeToString([]byte(name + bundle)), Mounted: bundle + "/bin/" + name}
		if path.Dir(name) == "image" {
			a.Image, a.Mounted = "slipway.invalid/"+path.Base(name)+":v1", bundle+"/images/"+path.Base(name)+".tar"
			s.images[name] = a.Image
		}
		in.Artifacts[name] = a
	}
	return in, nil
}

// noteSecrets takes a piece of each key, by which it is known wherever it is printed.
func (s *Shape) noteSecrets(in stack.Input) {
	for _, item := range in.PKI.Material {
		if lines := strings.Split(strings.TrimSpace(string(item.Key.Reveal())), "\n"); len(lines) > 2 {
			s.secrets = append(s.secrets, lines[1][:min(40, len(lines[1]))])
		}
	}
	for _, key := range in.EncryptionKeys {
		s.secrets = append(s.secrets, string(key.Key.Reveal()), base64.StdEncoding.EncodeToString(key.Key.Reveal()))
	}
	slices.Sort(s.secrets)
}

// leaked is a piece of a key that is in a text, "" for none.
func (s *Shape) leaked(text string) string {
	for _, piece := range s.secrets {
		if strings.Contains(text, piece) {
			return piece
		}
	}
	return ""
}
