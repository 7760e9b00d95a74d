package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
	"slipway.dev/slipway/provision/users"
)

// keptCluster is a cluster of one control plane whose state has certificates, and a run of kubeconfig on it.
func keptCluster(t *testing.T) (*kubeconfigRun, *cluster, *spec.Infrastructure, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	base := t.TempDir()
	t.Setenv("SLIPWAY_STATE_DIR", base)
	t.Setenv("KUBECONFIG", filepath.Join(base, "kube", "config"))
	file := filepath.Join(base, "cluster.yaml")
	if err := os.WriteFile(file, spec.Starter("demo", "local"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	r := &kubeconfigRun{app: &app{file: file, stdout: &out, stderr: &errs}}
	loaded, err := r.loadSpec()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{spec: loaded}
	if c.state, c.dir, err = r.stateOf(loaded); err != nil {
		t.Fatal(err)
	}
	infra := &spec.Infrastructure{
		Endpoint: "127.0.0.1:6443", States: map[string]string{"demo-cp-1": "stopped"},
		Machines: []spec.Machine{{Name: "demo-cp-1", Role: spec.ControlPlane, Address: netip.MustParseAddr("10.0.0.1")}},
	}
	secrets, err := keys.Ensure(t.Context(), &keys.Stored{}, nil, loaded, infra, nil)
	if err != nil {
		t.Fatal(err)
	}
	store := lock(t, c)
	if err := errors.Join(secrets.Save(t.Context(), store), store.Close()); err != nil {
		t.Fatal(err)
	}
	return r, c, infra, &out, &errs
}

func lock(t *testing.T, c *cluster) *state.Store {
	t.Helper()
	store, err := state.Open(t.Context(), c.state)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// listed runs `slipway kubeconfig list --output json`.
func listed(t *testing.T, r *kubeconfigRun) (users []listedUser) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"kubeconfig", "list", "-f", r.file, "--output", "json"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	if err := json.Unmarshal(out.Bytes(), &users); err != nil {
		t.Fatal(err)
	}
	return users
}

func TestAdminKubeconfigIsRecorded(t *testing.T) {
	r, c, infra, out, errs := keptCluster(t)
	if got := listed(t, r); len(got) != 0 {
		t.Errorf("before, there are %v", got)
	}

	// A run has the state: that keeps nobody from the kubeconfig.
	held := lock(t, c)
	if err := r.give(t.Context(), c, infra); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "client-key-data:") || !strings.Contains(errs.String(), "Warning: it was not recorded") || !strings.Contains(errs.String(), "locked by process") {
		t.Errorf("%s\n%s", out, errs)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}

	errs.Reset()
	for range 2 {
		if err := r.give(t.Context(), c, infra); err != nil || errs.Len() != 0 {
			t.Fatalf("%v: %s", err, errs)
		}
	}
	got := listed(t, r)
	if len(got) != 1 || got[0].Name != "kubernetes-admin" || got[0].State != users.UserValid || got[0].DaysLeft < 3640 || got[0].By != operator() {
		t.Errorf("recorded is %+v", got)
	}
	var table bytes.Buffer
	if err := printUsers(&table, got); err != nil || !strings.Contains(table.String(), "kubernetes-admin  kubeadm:cluster-admins  ") {
		t.Errorf("%v\n%s", err, &table)
	}
}

func TestPersonalKubeconfigNeedsAControlPlane(t *testing.T) {
	r, c, infra, out, _ := keptCluster(t)
	r.personal, r.user = true, "ana"
	err := r.give(t.Context(), c, infra)
	if err == nil || !strings.Contains(err.Error(), "nothing was issued\nmachine demo-cp-1 is stopped") || out.Len() > 0 {
		t.Errorf("error %v, printed %q", err, out)
	}
	r.valid = 40 * 365 * 24 * time.Hour
	if err := r.give(t.Context(), c, infra); err == nil || !strings.Contains(err.Error(), "the cluster's CA expires on") {
		t.Errorf("error %v", err)
	}
	if got := listed(t, r); len(got) != 0 {
		t.Errorf("recorded is %v", got)
	}
}

// Nobody is asked, and nothing is waited for, where nobody in the cluster can sign.
func TestPersonalKubeconfigNeedsASigner(t *testing.T) {
	r, c, infra, out, _ := keptCluster(t)
	kept, err := c.readStored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pki := kept.PKI()
	pki.Material[certs.KubernetesCA] = certs.Item{Cert: pki.Material[certs.KubernetesCA].Cert}
	r.personal, r.user, r.groups = true, "ana", []string{"dev"}
	held := lock(t, c) // it would be waited for
	defer held.Close() //nolint:errcheck // nothing was written
	err = r.issue(t.Context(), c, infra, pki)
	if err == nil || out.Len() > 0 || !strings.Contains(err.Error(), "since its CA is external; nothing was issued") || !strings.Contains(err.Error(), `"CN=ana,O=dev"`) {
		t.Errorf("error %v, printed %q", err, out)
	}
}

func TestWaitForStore(t *testing.T) {
	r, c, _, _, errs := keptCluster(t)
	held := lock(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.waitForStore(ctx, c)
	var locked *state.LockedError
	if !errors.As(err, &locked) || !strings.Contains(err.Error(), "interrupted; nothing was issued") || strings.Count(errs.String(), "Waiting") != 1 {
		t.Errorf("error %v, said %q", err, errs)
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		_ = held.Close()
	}()
	store, err := r.waitForStore(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	user := users.User{Name: "ana", Serial: "1", CA: "x", NotAfter: time.Now().Add(time.Hour)}
	for range 2 {
		if err := recordUser(t.Context(), store, user); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, r); len(got) != 1 || got[0].State != users.UserOrphaned {
		t.Errorf("recorded is %+v", got)
	}
}

func TestDeliver(t *testing.T) {
	r, c, infra, out, _ := keptCluster(t)
	r.out = filepath.Join(t.TempDir(), "ana.conf")
	if err := os.WriteFile(r.out, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.into, err = newPrivateFile("the kubeconfig", r.out); err != nil {
		t.Fatal(err)
	}
	err = r.give(t.Context(), c, infra)
	r.into.Discard()
	info, statErr := os.Stat(r.out)
	if err != nil || statErr != nil || info.Mode() != 0o600 || out.Len() > 0 {
		t.Errorf("%v, %v, %v, printed %q", err, statErr, info, out)
	}
	if _, err := clientcmd.LoadFromFile(r.out); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(r.out), ".*")); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	if _, err := newPrivateFile("the kubeconfig", os.DevNull); err == nil {
		t.Error("a device would be replaced")
	}
}

// Users of the same name in two clusters do not take each other's place.
func TestMergeKeepsOthers(t *testing.T) {
	r, c, infra, _, _ := keptCluster(t)
	kept, err := c.readStored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.merge = true
	for _, cluster := range []string{"demo", "other"} {
		access := certs.Access{Cluster: cluster, User: "ana", Server: "https://" + infra.Endpoint}
		item := certs.Item{Cert: []byte(cluster), Key: secret.Bytes("key of " + cluster)}
		text, err := certs.KubeconfigEmbedded(access, kept.PKI().Material[certs.KubernetesCA].Cert, item)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.deliver(text); err != nil {
			t.Fatal(err)
		}
	}
	config, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range []string{"demo", "other"} {
		user := config.AuthInfos[config.Contexts["ana@"+cluster].AuthInfo]
		if user == nil || string(user.ClientKeyData) != "key of "+cluster {
			t.Errorf("%s: %+v", cluster, user)
		}
	}
	if config.CurrentContext != "ana@other" {
		t.Errorf("current is %s", config.CurrentContext)
	}
}

func TestParseValidity(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1y": 365 * 24 * time.Hour, "90d": 90 * 24 * time.Hour, "1d12h": 36 * time.Hour, "12h": 12 * time.Hour, "30m": 30 * time.Minute, "1h30m": 90 * time.Minute,
		"": 0, "0h": 0, "-1h": 0, "3": 0, "1w": 0, "soon": 0,
	} {
		if got, err := parseValidity(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
