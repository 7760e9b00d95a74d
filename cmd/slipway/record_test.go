package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// noMachines is a provider that cannot make any; nothing else is asked of it.
type noMachines struct{ providers.Provider }

func (noMachines) Ensure(context.Context, []string, func(name, what string)) (*spec.Infrastructure, error) {
	return nil, errors.New("no room for machines")
}

// TestRecordSaysThatLogIsLost: in a bucket a log is stored when it is closed, and a run whose log is not there says so,
// beside what it failed of.
func TestRecordSaysThatLogIsLost(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "",
		"HOME": "", "XDG_CACHE_HOME": "", // where no bundle is looked for
	} {
		t.Setenv(name, value)
	}
	backend := s3mem.New()
	if err := backend.CreateBucket("states"); err != nil {
		t.Fatal(err)
	}
	bucket := gofakes3.New(backend, gofakes3.WithTimeSkewLimit(0)).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/logs/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		bucket.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	store, err := state.Open(t.Context(), state.Options{S3: &state.S3{Bucket: "states", Region: "us-east-1", Endpoint: server.URL, PathStyle: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	var r applyRun
	record := &provision.Record{}
	r.app, r.cluster = &app{stderr: io.Discard}, &cluster{spec: clusterWith(spec.State{}), provider: noMachines{}, record: record}
	r.session(store)
	r.spec.Spec.NodePools = []spec.NodePool{{Name: "cp", Role: spec.ControlPlane, Replicas: 1}}
	err = r.journaled(t.Context(), "apply", "")
	if err == nil || !strings.Contains(err.Error(), "no cache directory") || !strings.Contains(err.Error(), "store log ") {
		t.Errorf("the run says %v", err)
	}
}
