package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/spec"
)

// appliedCluster is a cluster of one machine with what is stored of it, and of that what is used where.
func appliedCluster(t *testing.T) (*app, *cluster, *keys.Stored, *spec.Infrastructure, func() []certs.Use) {
	t.Helper()
	a := &app{file: filepath.Join(t.TempDir(), "cluster.yaml")}
	text := strings.Replace(signedElsewhere, "authorities:", "keyAlgorithm: ECDSA-P256", 1)
	text = strings.Replace(text, "etcd: {certFile: etcd.crt}", "", 1)
	if err := os.WriteFile(a.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := a.loadSpec()
	if err != nil {
		t.Fatal(err)
	}
	infra := &spec.Infrastructure{Machines: []spec.Machine{{Name: "demo-cp-1", Role: spec.ControlPlane, Address: netip.MustParseAddr("192.0.2.1")}}}
	s, err := keys.Ensure(t.Context(), &keys.Stored{}, nil, loaded, infra, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := &keys.Stored{Material: s.Made}
	uses := func() []certs.Use {
		var all []certs.Use
		for _, name := range []string{"apiserver@demo-cp-1", "scheduler@demo-cp-1", certs.EtcdCA} {
			all = append(all, certs.Read(certs.Use{Place: certs.InFile, Location: name}, kept.Material[name].Cert)...)
		}
		return all
	}
	return a, &cluster{spec: loaded}, kept, infra, uses
}

// TestCertsAgainstSpec: what the spec asks for and nobody has applied is a warning where it is used, and nothing is stored.
func TestCertsAgainstSpec(t *testing.T) {
	a, c, kept, infra, uses := appliedCluster(t)
	before := len(kept.Material)
	check := func(what string, want certs.Level, remarks ...string) {
		t.Helper()
		got := a.againstSpec(t.Context(), c, kept, infra, uses())
		if worst := certs.Judge(got, 0, 0, time.Now()); worst != want {
			t.Errorf("%s: the worst is %v, want %v", what, worst, want)
		}
		for i, u := range got {
			remark := strings.Join(u.Remarks(time.Now()), "; ")
			if want := remarks[min(i, len(remarks)-1)]; !strings.Contains(remark, want) || want == "" && remark != "" {
				t.Errorf("%s, %s: %q, want %q", what, u.Location, remark, want)
			}
		}
		if len(kept.Material) != before {
			t.Errorf("%s: something was stored", what)
		}
	}
	check("as applied", certs.OK, "")

	c.spec.Spec.ControlPlane.CertSANs = []string{"api.example.com"}
	check("another name", certs.Warning, "not what the spec asks for: SANs changed: +api.example.com", "")
	c.spec.Spec.ControlPlane.CertSANs = nil

	c.spec.Spec.PKI.LeafValidity = "1y"
	check("another validity", certs.Warning, "validity changed: ends", "validity changed: ends", "")
	c.spec.Spec.PKI.LeafValidity = "2y"

	c.spec.Spec.PKI.CAKeyAlgorithm = "ECDSA-P384"
	check("another algorithm of authorities", certs.Warning, "", "", "key algorithm changed: is ECDSA-P256, wanted ECDSA-P384")
	c.spec.Spec.PKI.CAKeyAlgorithm = ""
}

// Where it cannot be told what the spec asks for, that is said, and all else is shown.
func TestCertsWithoutSpec(t *testing.T) {
	a, c, kept, infra, uses := appliedCluster(t)
	unknown := func(what, want string) {
		t.Helper()
		got := a.againstSpec(t.Context(), c, kept, infra, uses())
		last := got[len(got)-1]
		if len(got) != len(uses())+1 || last.Place != certs.UnreadSpec || !strings.Contains(last.Error, want) || certs.Judge(got, 0, 0, time.Now()) != certs.Unknown {
			t.Errorf("%s: got %+v, want %q", what, last, want)
		}
		if got[0].Specified != nil {
			t.Errorf("%s: it is known all the same", what)
		}
	}
	c.spec.Spec.PKI.Authorities.Etcd = &spec.Authority{CertFile: "gone.crt"}
	unknown("a file is not there", "spec.pki.authorities.etcd.certFile cannot be read")
	c.spec.Spec.PKI.Authorities.Etcd = nil

	machines := infra.Machines
	infra.Machines = nil
	unknown("a machine is not there", "there is no machine yet: demo-cp-1")
	infra.Machines = machines

	delete(kept.Material, certs.EtcdCA)
	unknown("an authority is lost", "missing, although items that depend on it exist")
}
