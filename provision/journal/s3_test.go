package journal

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/state"
)

// TestRequestsToS3 records a large run into a bucket, beside others: an event costs one small request.
func TestRequestsToS3(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "", "AWS_CA_BUNDLE": "",
	} {
		t.Setenv(name, value)
	}
	backend := s3mem.New()
	if err := backend.CreateBucket("states"); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(backend).Server()
	written := make(chan string, 1000) // keys
	var mu sync.Mutex                  // guards large: plan and steps are written side by side
	var large []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fake.ServeHTTP(w, r)
		key := strings.TrimPrefix(r.URL.Path, "/states/demo/")
		if r.Method != http.MethodPut || key == "lock" {
			return
		}
		if r.ContentLength > 100<<10 {
			mu.Lock()
			large = append(large, key)
			mu.Unlock()
		}
		written <- key
	}))
	defer server.Close()
	store, err := state.Open(t.Context(), state.Options{S3: &state.S3{Bucket: "states", Prefix: "demo", Endpoint: server.URL, PathStyle: true}})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(keys ...string) {
		t.Helper()
		for range keys {
			got := <-written
			if !strings.Contains(strings.Join(keys, " "), got) {
				t.Errorf("%s was written, not %q", got, keys)
			}
		}
		if len(written) > 0 {
			t.Errorf("%s was written, too", <-written)
		}
	}
	const run, at = "loose/plain/runs/000001.json", "loose/plain/runs/000001."
	expect("state.json")
	r, err := Start(t.Context(), store, Run{Cluster: "demo", Command: "apply"})
	if err != nil {
		t.Fatal(err)
	}
	expect(run)
	var steps []Step
	for _, a := range installSteps(names("cp", 3), names("worker", 297)) {
		steps = append(steps, a.Step)
	}
	r.Plan([]byte(`"`+strings.Repeat("x", 1<<20)+`"`), steps)
	expect(at+"plan.json", at+"steps.json", run)
	for i := range 5 {
		r.Event(dag.Event{Type: dag.Started, Step: &dag.Step{Name: steps[i].Name}, Time: time.Now()})
		expect(run)
	}
	if err := errors.Join(r.End(t.Context(), nil), store.Close()); err != nil {
		t.Fatal(err)
	}
	expect(run)
	if got := fmt.Sprint(large); len(large) != 2 || strings.Contains(got, "runs/000001.json") {
		t.Errorf("large were %s", got)
	}
}
