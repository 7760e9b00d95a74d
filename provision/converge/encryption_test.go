package converge

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/controlplane"
)

// loopback is a control plane whose ports are all the one process's.
type loopback struct{ *controlplane.Process }

func (l loopback) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, l.Address)
}

// TestEncryptionKeysRotate goes from plain Secrets over one key to another, with an API server for each.
func TestEncryptionKeysRotate(t *testing.T) {
	t.Parallel()
	store := controlplane.StartEtcd(t, 1)[0]
	members, err := etcd.New([]etcd.Endpoint{{Address: store.Address}}, store.CA, store.Cert, secret.Bytes(store.Key))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	first := stack.EncryptionKey{Name: "key1", Key: certs.NewEncryptionKey().Key}
	second := stack.EncryptionKey{Name: "key2", Key: certs.NewEncryptionKey().Key}
	plain := etcd.Plain
	const secrets = 20
	const more = "k8s:enc:secretbox:v1:"
	var last []byte
	for _, stage := range []struct {
		keys            []stack.EncryptionKey
		before, rewrite map[string]int
	}{
		{nil, map[string]int{plain: secrets}, map[string]int{plain: secrets}},
		{[]stack.EncryptionKey{first}, map[string]int{plain: secrets}, map[string]int{more + "key1:": secrets}},
		{[]stack.EncryptionKey{first, second}, map[string]int{more + "key1:": secrets}, map[string]int{more + "key1:": secrets}},
		{[]stack.EncryptionKey{second, first}, map[string]int{more + "key1:": secrets}, map[string]int{more + "key2:": secrets}},
		{[]stack.EncryptionKey{second}, map[string]int{more + "key2:": secrets}, map[string]int{more + "key2:": secrets}},
	} {
		var config []byte
		if stage.keys != nil {
			if config, err = stack.EncryptionConfig(stage.keys); err != nil {
				t.Fatal(err)
			}
		}
		server := controlplane.StartAPIServerOn(t, store, config)
		pki := &certs.PKI{Material: certs.Material{
			certs.KubernetesCA: {Cert: server.CA}, certs.SuperAdmin: {Cert: server.Cert, Key: server.Key},
		}}
		api, err := kube.New(live.APIConfig(pki, stack.APIPort, loopback{server}))
		if err != nil {
			t.Fatal(err)
		}
		if stage.keys == nil {
			makeSecrets(t, api, secrets)
			if err := encryptionLoaded(ctx, live.Network{}, []byte("x"), pki, loopback{server}); err == nil || !strings.Contains(err.Error(), "uses no encryption") {
				t.Errorf("without a configuration: error %v", err)
			}
		} else {
			if err := encryptionLoaded(ctx, live.Network{}, config, pki, loopback{server}); err != nil {
				t.Error(err)
			}
			if err := encryptionLoaded(ctx, live.Network{}, last, pki, loopback{server}); err == nil || !strings.Contains(err.Error(), "; wanted is sha256:") {
				t.Errorf("of the configuration before: error %v", err)
			}
		}
		last = config
		check := func(when string, want map[string]int) {
			t.Helper()
			got, err := members.EncryptionPrefixes(ctx)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%d keys, %s: %v %s", len(stage.keys), when, err, diff)
			}
		}
		check("before", stage.before)
		if n, err := api.RewriteSecrets(ctx, func(string) {}); n != secrets || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		check("after", stage.rewrite)
		checkSecrets(t, api, secrets)
		server.Stop()
	}
}

func makeSecrets(t *testing.T, api *kube.Client, n int) {
	t.Helper()
	for i := range n {
		immutable := i%2 == 0 // which does not keep them from being encrypted anew
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%d", i)}, Data: map[string][]byte{"n": {byte(i)}}, Immutable: &immutable}
		if _, err := api.Typed().CoreV1().Secrets("default").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func checkSecrets(t *testing.T, api *kube.Client, n int) {
	t.Helper()
	list, err := api.Typed().CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != n {
		t.Fatalf("%d Secrets, %v", len(list.Items), err)
	}
	for _, s := range list.Items {
		if fmt.Sprintf("s%d", s.Data["n"][0]) != s.Name {
			t.Errorf("%s has %v", s.Name, s.Data)
		}
	}
}

func TestLeftUnderFindsSecretsOfOtherKeys(t *testing.T) {
	const want = "k8s:enc:secretbox:v1:key2:"
	for _, tt := range []struct {
		name    string
		found   map[string]int
		written int
		problem string
	}{
		{"all", map[string]int{want: 20}, 20, ""},
		{"none, and none were written", nil, 0, ""},
		{"some were removed meanwhile", map[string]int{want: 10}, 20, ""},
		{"one is left", map[string]int{want: 19, "k8s:enc:secretbox:v1:key1:": 1}, 20, `1 Secrets are left in etcd under "k8s:enc:secretbox:v1:key1:"`},
		{"one in plain", map[string]int{want: 19, etcd.Plain: 1}, 20, "1 Secrets are left in etcd under"},
		{"it was not the right place", map[string]int{want: 9}, 20, "20 Secrets were written, and etcd has 9"},
		{"nothing is there", nil, 20, "20 Secrets were written, and etcd has 0"},
	} {
		got := ""
		if err := leftUnder(tt.found, want, tt.written); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.problem) || (got == "") != (tt.problem == "") {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.problem)
		}
	}
}
