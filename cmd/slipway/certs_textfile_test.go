package main

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/testing/hosttest"
)

func TestWriteTextfile(t *testing.T) {
	node := certs.Node{Name: "demo-worker-1", Address: netip.MustParseAddr("10.89.0.14")}
	policy := certs.Policy{CAValidity: time.Hour * 24, LeafValidity: time.Hour * 24, KeyAlgorithm: certs.ECDSAP256}
	pki, _, err := certs.Ensure(t.Context(), nil, certs.Table(certs.Inputs{Nodes: []certs.Node{node}}), policy, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := hosttest.NewMemory(node.Name)
	h.On("# read certificates", hosttest.Answer{Stdout: "[file] /etc/kubernetes/pki/ca.crt\n" + string(pki.Material["ca"].Cert) + "[end]\n"})
	dir := filepath.Join(t.TempDir(), "made", "here")
	for range 2 { // the second replaces the first
		if err := writeTextfile(t.Context(), dir, h, node); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != textfileName {
		t.Fatalf("there are %v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, textfileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`slipway_certificate_not_after_seconds{host="demo-worker-1",place="file",location="/etc/kubernetes/pki/ca.crt",name="ca",subject="CN=kubernetes",serial=`,
		`slipway_certificate_read_error{host="demo-worker-1",place="served",location="10.89.0.14:10250",name="kubelet@demo-worker-1"} 1`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "matches_state{") {
		t.Error("a node knows nothing of the state")
	}

	// A run that is ended leaves the old file, and nothing else.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := writeTextfile(ctx, dir, h, node); err == nil {
		t.Error("it was cancelled, and wrote")
	}
	if again, err := os.ReadFile(filepath.Join(dir, textfileName)); err != nil || string(again) != string(text) {
		t.Errorf("the file has changed: %v", err)
	}
	if err := writeTextfile(t.Context(), filepath.Join(dir, textfileName), h, node); err == nil || !strings.Contains(err.Error(), "directory of metrics") {
		t.Errorf("a file in the place of the directory: %v", err)
	}
}
