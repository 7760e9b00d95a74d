package plan

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// recordOf is the file by which a host tells what it has of something that can be rotated: of authorities, where an older
// slipway has been there, their own.
func recordOf(name string, older bool) string {
	if slices.Contains(Authorities, name) && !older {
		return stack.AuthoritiesFile
	}
	return everyName[name]
}

// everyName is all that can be rotated, with the file that hosts have of it.
var everyName = map[string]string{
	certs.KubernetesCA: stack.PKIDir + "/ca.crt", certs.EtcdCA: stack.PKIDir + "/etcd/ca.crt", certs.FrontProxyCA: stack.PKIDir + "/front-proxy-ca.crt",
	certs.ServiceAccounts: stack.PKIDir + "/sa.pub", certs.EncryptionKey: stack.EncryptionKeysFile,
}

// ways are all that a rotation of names can go: to its end, or back from each stage.
func ways(t *testing.T, names []string) [][]*certs.Rotation {
	t.Helper()
	var all [][]*certs.Rotation
	var forward []*certs.Rotation
	for r := certs.Begin(names, time.Now()); r != nil; r = r.Next(time.Now()) {
		forward = append(forward, r)
		if r.Stage == certs.Drop {
			break
		}
		back, err := r.Rollback()
		if err != nil {
			t.Fatal(err)
		}
		way := slices.Clone(forward)
		for ; back != nil; back = back.Next(time.Now()) {
			way = append(way, back)
		}
		all = append(all, way)
	}
	return append(all, forward)
}

// recorded is what slipway has recorded on a host that is as an input wants it.
func recorded(t *testing.T, in stack.Input, host string) map[string]string {
	t.Helper()
	owned := map[string]string{}
	for path, f := range fixture.Desired(t, in).Hosts[host].Files {
		owned[path] = f.Digest
	}
	return owned
}

// byOlder is what an older slipway would have recorded.
func byOlder(owned map[string]string) map[string]string {
	owned = maps.Clone(owned)
	delete(owned, stack.AuthoritiesFile)
	return owned
}

// refused is the error of Refuse, where control planes have records. Nothing else is wrong with the hosts.
func refused(in stack.Input, owned ...map[string]string) error {
	r := refusalsOf(in, owned...)
	return r.err()
}

func refusalsOf(in stack.Input, owned ...map[string]string) Refusals {
	observed := stack.State{Hosts: map[string]stack.HostState{}}
	for _, m := range in.Machines {
		observed.Hosts[m.Name] = stack.HostState{Facts: stack.Facts{Systemd: true, Arch: "amd64", CgroupV2: true, Initialized: true, EtcdData: true}}
	}
	for i, m := range in.ControlPlanes() {
		h := observed.Hosts[m.Name]
		h.Owned = owned[i%len(owned)]
		observed.Hosts[m.Name] = h
	}
	return Refuse(in, Before{}, observed)
}

// A run may be killed between any two hosts of any stage, and gone on with or back from: its own records are not foreign.
func TestNoStageOfARotationIsRefused(t *testing.T) {
	fixture.Alone(t)
	first := fixture.Input(t)
	names := slices.Sorted(maps.Keys(everyName))
	stored := fixture.Beginning(t, first, names)
	const cp = "demo-cp-1"
	for _, way := range ways(t, names) {
		last := way[len(way)-1]
		end := maps.Clone(stored)
		maps.Copy(end, last.Finished(stored))
		for _, name := range names {
			delete(end, certs.NextName(name))
		}
		at := []stack.Input{fixture.InStage(t, first, stored, nil)}
		for _, r := range way {
			at = append(at, fixture.InStage(t, first, stored, r))
		}
		at = append(at, fixture.InStage(t, first, end, nil))
		var records []map[string]string
		for _, in := range at {
			records = append(records, recorded(t, in, cp))
		}
		for i := 1; i < len(at); i++ {
			for _, hosts := range [][]int{{i}, {i - 1}, {i, i - 1}, {i - 1, i, i}} {
				var owned []map[string]string
				for _, stage := range hosts {
					owned = append(owned, records[stage])
				}
				if err := errors.Join(refused(at[i], owned...), refused(at[i], owned[0], byOlder(owned[len(owned)-1]))); err != nil {
					t.Errorf("back %t, state at %d of %d (%v), hosts at %v: %v", last.Back, i, len(at)-1, at[i].PKI.Rotation, hosts, err)
				}
			}
			if r := at[i].PKI.Rotation; r != nil && r.Stage == certs.Return && i > 1 { // it turned round before all hosts were there
				if err := refused(at[i], records[i-2], records[i-1], records[i]); err != nil {
					t.Errorf("turned round at %d: %v", i, err)
				}
			}
		}
	}
}

// A state from before a rotation has no keys for what the cluster has since.
func TestAStateOlderThanTheClusterIsRefused(t *testing.T) {
	fixture.Alone(t)
	first := fixture.Input(t)
	for name := range everyName {
		stored := fixture.Beginning(t, first, []string{name})
		old := fixture.InStage(t, first, stored, nil)
		now := recorded(t, old, "demo-cp-1")
		if err := refused(old, now, nil, map[string]string{}, map[string]string{everyName[name]: ""}, byOlder(now)); err != nil {
			t.Errorf("%s: refused, although nothing was rotated: %v", name, err)
		}
		for r := certs.Begin([]string{name}, time.Now()); r != nil; r = r.Next(time.Now()) {
			for _, older := range []bool{false, true} {
				want := fmt.Sprintf("demo-cp-2: slipway wrote %s with another state", recordOf(name, older))
				owned := recorded(t, fixture.InStage(t, first, stored, r), "demo-cp-2")
				if older {
					owned = byOlder(owned)
				}
				if err := refused(old, now, owned, now); err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") != 1 {
					t.Errorf("%s, a host at %s, older %t: %v, want one reason: %s", name, r.Stage, older, err, want)
				}
			}
		}
	}
}

// sameKey makes certificates of one authority: of the same subject and key.
func sameKey(t *testing.T, name string, n int) []certs.Item {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var items []certs.Item
	for i := range n {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(30, 0, i),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, certs.Item{
			Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			Key:  secret.Bytes(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})),
		})
	}
	return items
}

// The state has the new certificate of the user's own authority before any host does, and a run may be killed in between.
func TestAnOwnAuthorityWithANewCertificateIsNotRefused(t *testing.T) {
	in := fixture.Input(t)
	with := func(have certs.Material, own certs.Item) stack.Input {
		t.Helper()
		policy, in := fixture.TestPolicy, in
		policy.Own = map[string]certs.Item{certs.EtcdCA: own}
		pki, _, err := certs.Ensure(t.Context(), have, in.PKI.Requests, policy, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		in.PKI = pki
		return in
	}
	theirs, others := sameKey(t, "Theirs", 2), sameKey(t, "Others", 1)
	before := with(nil, theirs[0])
	after := with(before.PKI.Material, theirs[1])
	if string(after.PKI.Material[certs.EtcdCA].Cert) != string(theirs[1].Cert) {
		t.Fatal("the new certificate was not taken over")
	}
	if err := refused(after, recorded(t, before, "demo-cp-1")); err != nil {
		t.Error(err)
	}
	// An older state goes on with the authority that it has, whatever the spec names: the hosts must not lose theirs.
	older := with(with(nil, others[0]).PKI.Material, theirs[0])
	owned := map[string]string{everyName[certs.EtcdCA]: stack.Digest(theirs[0].Cert)}
	if err := refused(older, owned); err == nil || !strings.Contains(err.Error(), "etcd/ca.crt with another state") {
		t.Errorf("of an older state: %v", err)
	}
}

// A control plane that was away during a rotation has the keys of before. It is left alone only where most others show that
// it is not the state that is older.
func TestAControlPlaneThatWasAway(t *testing.T) {
	first := fixture.Input(t)
	for name := range everyName {
		stored := fixture.Beginning(t, first, []string{name})
		before := fixture.InStage(t, first, stored, nil)
		end := maps.Clone(stored)
		for r := certs.Begin([]string{name}, time.Now()); r != nil; r = r.Next(time.Now()) {
			maps.Copy(end, r.Finished(stored))
		}
		delete(end, certs.NextName(name))
		now := fixture.InStage(t, first, end, nil)
		older, newer := recorded(t, before, "demo-cp-1"), recorded(t, now, "demo-cp-1")
		file := recordOf(name, false)
		partly := func(drop string, of map[string]string) map[string]string {
			of = maps.Clone(of)
			delete(of, drop)
			return of
		}
		for what, tt := range map[string]struct {
			in      stack.Input
			hosts   []map[string]string // nil: it shows nothing
			held    []string
			refused bool
		}{
			"all took part":                        {in: now, hosts: []map[string]string{newer, newer, newer}},
			"one was away":                         {in: now, hosts: []map[string]string{newer, older, newer}, held: []string{"demo-cp-2"}},
			"two were away":                        {in: now, hosts: []map[string]string{older, older, newer}, refused: true},
			"the state is the older one":           {in: before, hosts: []map[string]string{newer, newer, older}, refused: true},
			"and only one host is seen":            {in: before, hosts: []map[string]string{newer, nil, nil}, refused: true},
			"only the one that was away is seen":   {in: now, hosts: []map[string]string{nil, older, nil}, refused: true},
			"one other is seen, and that is a tie": {in: now, hosts: []map[string]string{newer, older, nil}, refused: true},
			"others do not tell of these keys":     {in: now, hosts: []map[string]string{partly(file, newer), older, partly(file, newer)}, refused: true},
		} {
			r := refusalsOf(tt.in, tt.hosts...)
			held := slices.Sorted(maps.Keys(r.Hosts))
			if !slices.Equal(held, tt.held) || (len(r.Cluster) > 0) != tt.refused {
				t.Errorf("%s: %s: held %v, want %q; refused %q, want %t", name, what, r.Hosts, tt.held, r.Cluster, tt.refused)
			}
			for _, reasons := range r.Hosts {
				if !strings.Contains(reasons[0], file) || !strings.Contains(reasons[0], stack.OwnedFile) {
					t.Errorf("%s: %s: held since %q", name, what, reasons)
				}
			}
		}
	}
}

// err is everything that is refused, as one error.
func (r Refusals) err() error {
	reasons := slices.Clone(r.Cluster)
	for host, all := range r.Hosts {
		for _, reason := range all {
			reasons = append(reasons, host+": "+reason)
		}
	}
	return Refusal(nothingChanged, reasons)
}
