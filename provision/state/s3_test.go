package state

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
)

// TestRefusedByS3: each of these has one clear error that says what to do.
func TestRefusedByS3(t *testing.T) {
	answer := func(status int, code string, headers ...string) func(*testing.T, *fakeS3) {
		return func(t *testing.T, f *fakeS3) {
			t.Helper()
			f.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
				for i := 0; i < len(headers); i += 2 {
					w.Header().Set(headers[i], headers[i+1])
				}
				w.WriteHeader(status)
				_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>no</Message></Error>`, code)
				return true
			})
		}
	}
	for name, test := range map[string]struct {
		prepare func(*testing.T, *fakeS3)
		says    []string
	}{
		"missing bucket":  {func(_ *testing.T, f *fakeS3) { f.at.Bucket = "other" }, []string{"bucket other", "bucket does not exist", "create it"}},
		"access denied":   {answer(403, "AccessDenied"), []string{"read state.json", "docs/state.md"}},
		"wrong region":    {answer(301, "PermanentRedirect", "x-amz-bucket-region", "eu-west-1"), []string{"correct the region in the spec to eu-west-1"}},
		"region in a 400": {answer(400, "AuthorizationHeaderMalformed"), []string{"correct the region in the spec"}},
		"unknown key":     {answer(403, "InvalidAccessKeyId"), []string{"does not accept the credentials", "profile"}},
		"expired":         {answer(400, "ExpiredToken"), []string{"log in again"}},
		"something else":  {answer(400, "Strange"), []string{"S3 says Strange"}},
		"no credentials": {func(t *testing.T, _ *fakeS3) {
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		}, []string{"no AWS credentials", "AWS_PROFILE"}},
		"no region":         {func(_ *testing.T, f *fakeS3) { f.at.Endpoint = "" }, []string{"no AWS region", "AWS_REGION"}},
		"not conditional":   {func(_ *testing.T, f *fakeS3) { refuseConditions(f) }, []string{"conditional writes"}},
		"nobody there":      {func(_ *testing.T, f *fakeS3) { f.at.Endpoint = "http://127.0.0.1:1" }, []string{"read state.json", "connection refused"}},
		"a newer format":    {func(t *testing.T, f *fakeS3) { t.Helper(); f.set(t, documentKey, `{"version":3,"items":[]}`) }, []string{"format 3", "newer slipway"}},
		"a damaged state":   {func(t *testing.T, f *fakeS3) { t.Helper(); f.set(t, documentKey, `{"version":2,`) }, []string{"state.json is damaged", "version history"}},
		"an impossible one": {func(t *testing.T, f *fakeS3) { t.Helper(); f.set(t, documentKey, `{"version":1}`) }, []string{"damaged", "no format 1"}},
		"a bad name":        {func(t *testing.T, f *fakeS3) { t.Helper(); f.set(t, documentKey, `{"version":2,"items":{"../a":""}}`) }, []string{"damaged", `"../a"`}},
	} {
		t.Run(name, func(t *testing.T) {
			f := startS3(t)
			test.prepare(t, f)
			before := len(f.objects(t))
			_, err := Open(t.Context(), Options{S3: &f.at})
			if err == nil || strings.Count(err.Error(), "\n") > 0 {
				t.Fatalf("got %v", err)
			}
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "something") { // the test's secret access key
				t.Errorf("%v", err)
			}
			if after := len(f.objects(t)); after != before {
				t.Errorf("%d objects where %d were", after, before)
			}
		})
	}
}

func refuseConditions(f *fakeS3) {
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		refuse := r.Header.Get("If-Match")+r.Header.Get("If-None-Match") != ""
		if refuse {
			w.WriteHeader(http.StatusNotImplemented)
			_, _ = fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>NotImplemented</Code><Message>no</Message></Error>`)
		}
		return refuse
	})
}

func TestNewerFormatInS3(t *testing.T) {
	f := startS3(t)
	f.set(t, documentKey, `{"version":3}`)
	var newer *VersionError
	if _, err := OpenReadOnly(t.Context(), Options{S3: &f.at}); !errors.As(err, &newer) || newer.Have != 3 || newer.Supported != 2 {
		t.Errorf("opened with %v", err)
	}
}

func TestNothingInS3(t *testing.T) {
	f := startS3(t)
	if _, err := OpenReadOnly(t.Context(), Options{S3: &f.at}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened with %v", err)
	}
	if got := f.objects(t); len(got) != 0 {
		t.Errorf("a reader has written %d objects", len(got))
	}
}

// TestNeighbours: what lies beside a state in its bucket is no part of it.
func TestNeighbours(t *testing.T) {
	f := startS3(t)
	f.set(t, "../demo-2/state.json", "x")
	f.set(t, "logs-of-others", "x")
	s := openStore(t, Options{S3: &f.at})
	put(t, s, "a", "1")
	if err := s.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.objects(t); len(got) != 2 {
		t.Errorf("of two neighbours %d are left", len(got))
	}
}

// TestRequests counts what an apply costs: opening, reading all, writing all and closing.
func TestRequests(t *testing.T) {
	f := startS3(t)
	count := 0
	f.intercept(func(http.ResponseWriter, *http.Request) bool { count++; return false })
	s := openStore(t, Options{S3: &f.at})
	pairs := []string{}
	for i := range 120 {
		pairs = append(pairs, fmt.Sprintf("pki/%d", i), "x")
	}
	if _, err := s.GetAll(t.Context(), "pki/"); err != nil {
		t.Fatal(err)
	}
	put(t, s, pairs...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if count > 8 {
		t.Errorf("%d requests", count)
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"version":2,"writer":"X","generation":1,"items":{"pki/ca":"MQ==",".key":""}}`))
	f.Add([]byte(`{"version":3,"items":[]}`))
	f.Add([]byte(`{"version":2,"items":{"../x":""}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parseDocument(text)
		if err != nil {
			return
		}
		if d.Version != version {
			t.Errorf("version %d", d.Version)
		}
		for _, name := range d.names("") {
			if name != keyName && checkName(name) != nil {
				t.Errorf("%q was accepted", name)
			}
			if _, err := d.get(name); err != nil {
				t.Error(err)
			}
		}
	})
}
