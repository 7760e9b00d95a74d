package provision

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

const (
	oneUID     = "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11"
	anotherUID = "0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22"
)

// A state of before clusters had UIDs takes the one that the spec gives; an empty one, and one that has its own, do not.
func TestIdentify(t *testing.T) {
	for name, tt := range map[string]struct {
		state   map[string]string
		uid     string // of the spec
		older   bool
		want    string // "" is a new one
		refused string
	}{
		"nothing":                      {},
		"nothing, and the spec's":      {uid: oneUID, refused: "has no cluster"},
		"runs alone":                   {state: map[string]string{"runs/000001.json": "{}"}, uid: oneUID, refused: "has no cluster"},
		"keys":                         {state: map[string]string{"pki/ca.key": "x"}, older: true},
		"keys, and the spec's":         {state: map[string]string{"pki/ca.key": "x"}, uid: oneUID, older: true, want: oneUID},
		"applied, and the spec's":      {state: map[string]string{appliedName: "{}"}, uid: oneUID, older: true, want: oneUID},
		"its own":                      {state: map[string]string{"pki/ca.key": "x", identityName: `{"uid":"` + oneUID + `","name":"demo"}`}, want: oneUID},
		"its own, and another in spec": {state: map[string]string{"pki/ca.key": "x", identityName: `{"uid":"` + oneUID + `","name":"demo"}`}, uid: anotherUID, refused: "is of the cluster with the UID " + oneUID},
	} {
		t.Run(name, func(t *testing.T) {
			loaded, err := spec.Parse("cluster.yaml", spec.Starter("demo", "local"))
			if err != nil {
				t.Fatal(err)
			}
			options := state.Options{Dir: filepath.Join(t.TempDir(), "state")}
			loaded.Metadata.UID = tt.uid
			store, err := state.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			put := map[string]secret.Bytes{}
			for name, content := range tt.state {
				put[name] = secret.Bytes(content)
			}
			if err := store.Put(t.Context(), put); len(put) > 0 && err != nil {
				t.Fatal(err)
			}
			r, err := ReadRecord(t.Context(), store, loaded, options)
			err = errors.Join(err, store.Close())
			if (err != nil) != (tt.refused != "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
				t.Fatalf("error %v, want %q", err, tt.refused)
			}
			if err == nil && (r.Older != tt.older || tt.want != "" && r.UID != tt.want || r.UID == "" || r.Known == tt.older && len(tt.state) > 0) {
				t.Errorf("the record is %+v", r)
			}
		})
	}
}

// Where a spec was applied from another file, that one has to be gone, or another cluster's: one that cannot be read is neither.
func TestSpecFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	text := string(spec.Starter("demo", "local"))
	for name, content := range map[string]string{
		"demo.yaml": text, "other.yaml": strings.Replace(text, "name: demo", "name: other", 1), "broken.yaml": "{", "wrong.yaml": text + "nonsense: true\n",
		"uid.yaml": strings.Replace(text, "name: demo", "name: demo\n  uid: "+oneUID, 1), "another.yaml": strings.Replace(text, "name: demo", "name: demo\n  uid: "+anotherUID, 1),
	} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		last, now, uid string
		refused        []string
	}{
		{last: "", now: "demo.yaml"},
		{last: "demo.yaml", now: "demo.yaml"},
		{last: "gone.yaml", now: "demo.yaml"},
		{last: "other.yaml", now: "demo.yaml"},
		{last: "another.yaml", now: "demo.yaml"},
		{last: "demo.yaml", now: "new.yaml", uid: oneUID},
		{last: "demo.yaml", now: "new.yaml", refused: []string{"demo.yaml, which still exists, and", "uid: " + oneUID}},
		{last: "uid.yaml", now: "demo.yaml", refused: []string{"uid.yaml, which still exists, and", "uid: " + oneUID}},
		{last: "broken.yaml", now: "demo.yaml", refused: []string{"broken.yaml, which still exists and cannot be read (", "or repair that file"}},
		{last: "wrong.yaml", now: "demo.yaml", refused: []string{"wrong.yaml, which still exists and cannot be read (", "nonsense", "or repair that file"}},
		{last: "", now: "broken.yaml"},
		{last: ".", now: "demo.yaml", refused: []string{"cannot be read (", "or repair that file"}}, // a directory
	} {
		r := &Record{Identity: plan.Identity{Name: "demo", UID: oneUID}}
		if tt.last != "" {
			r.SpecFile = path(tt.last)
		}
		err := r.CheckSpecFile(&spec.Cluster{Metadata: spec.Metadata{Name: "demo", UID: tt.uid}}, path(tt.now))
		if (err != nil) != (tt.refused != nil) {
			t.Errorf("from %q to %s: %v", tt.last, tt.now, err)
		}
		for _, word := range tt.refused {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("from %q to %s: %v, without %q", tt.last, tt.now, err, word)
			}
		}
	}
}

// recorder is a source of machines that the state has to know.
type recorder struct {
	Machines
	hosts spec.KnownHosts
}

func (r recorder) Record() spec.KnownHosts { return r.hosts }

// TestRecordHosts: what a run learns of existing machines is there for the next, and is written only if it changed.
func TestRecordHosts(t *testing.T) {
	k := newKeeper(t)
	known := spec.KnownHosts{
		Hosts:    map[string]spec.KnownHost{"192.0.2.1": {Name: "a", Address: netip.MustParseAddr("10.0.0.1")}},
		HostKeys: map[string]string{"192.0.2.1:22": "ssh-ed25519 AAAA"},
	}
	s := k.session(k.spec)
	k.must(s.Record.save(t.Context(), k.store, "/spec.yaml"))
	s.Machines = recorder{hosts: known}
	k.must(s.recordHosts(t.Context()))
	again := k.session(k.spec)
	if got := again.Record.Hosts; !reflect.DeepEqual(got, known) {
		t.Errorf("the state has %+v, want %+v", got, known)
	}
	k.must(again.Record.ForgetHostKey(t.Context(), k.store, "192.0.2.1:22"))
	if got := k.session(k.spec).Record.Hosts; len(got.HostKeys) > 0 || len(got.Hosts) != 1 {
		t.Errorf("after it was forgotten: %+v", got)
	}
	k.must(s.Record.putHosts(t.Context(), k.store, known))
	again = k.session(k.spec)
	again.Machines, again.Store = recorder{hosts: known}, nil // writing would panic
	k.must(again.recordHosts(t.Context()))
	k.must(k.store.Put(t.Context(), map[string]secret.Bytes{knownHostsName: secret.Bytes("{")}))
	if _, err := ReadRecord(t.Context(), k.store, k.spec, state.Options{}); err == nil || !strings.Contains(err.Error(), "(hosts.json) is damaged") {
		t.Errorf("of a damaged state: %v", err)
	}
}
