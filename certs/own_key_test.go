package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"
)

// TestOwnKeyStays: an authority whose key is here goes on signing when the spec no longer names the
// key's file.
func TestOwnKeyStays(t *testing.T) {
	own := authority(t, "Own", nil, nil)
	p := policy
	p.Own = map[string]Item{KubernetesCA: own.item(t)}
	first, _ := ensure(t, nil, demo(), p, day0)
	template := *own.cert
	template.NotAfter = day0.Add(25 * 365 * day)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, own.key.Public(), own.key)
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	damaged := maps.Clone(first.Material)
	damaged[KubernetesCA] = Item{Cert: first.Material[KubernetesCA].Cert, Key: authority(t, "Other", nil, nil).keyPEM(t)}
	for name, test := range map[string]struct {
		have    Material
		cert    []byte
		keeps   bool
		changes int
		err     error
	}{
		"the key is taken out":                         {first.Material, encode(own.cert), true, 0, nil},
		"the key is taken out, the certificate is new": {first.Material, encode(renewed), true, 1, nil},
		"another authority, without a key":             {first.Material, encode(authority(t, "New", nil, nil).cert), true, 0, nil},
		"the key never was here":                       {nil, encode(own.cert), false, 0, nil},
		"the stored key is another's":                  {damaged, encode(own.cert), false, 0, ErrKeyMismatch},
	} {
		p.Own = map[string]Item{KubernetesCA: {Cert: test.cert}}
		pki, changes, err := Ensure(t.Context(), test.have, Table(demo()), p, day0.Add(time.Hour))
		if test.err != nil {
			expectItemError(t, err, KubernetesCA, test.err)
			continue
		}
		if pki.Signs(KubernetesCA) != test.keeps || errors.As(err, new(*PendingError)) == test.keeps {
			t.Errorf("%s: signs %t, %v", name, pki.Signs(KubernetesCA), err)
		}
		if test.keeps && (len(changes) != test.changes || !bytes.Equal(pki.Material[KubernetesCA].Key, first.Material[KubernetesCA].Key)) {
			t.Errorf("%s: the key is another, or changes are %v", name, changes)
		}
		if !test.keeps {
			continue
		}
		var paths []string
		for _, f := range pki.Files(demo().Nodes[0]) {
			paths = append(paths, f.Path)
		}
		if !slices.Contains(paths, pkiDir+"ca.key") || !slices.Contains(paths, SignerFile) {
			t.Errorf("%s: hosts have %v", name, paths)
		}
	}
}

// TestKeyOf looks for a key under both names of a rotation, and takes none that does not fit.
func TestKeyOf(t *testing.T) {
	own, other := authority(t, "Own", nil, nil), authority(t, "Own", nil, nil)
	for name, test := range map[string]struct {
		have Material
		want bool
	}{
		"stored":                  {Material{EtcdCA: own.item(t)}, true},
		"of a rotation":           {Material{EtcdCA: other.item(t), NextName(EtcdCA): own.item(t)}, true},
		"another of its name":     {Material{EtcdCA: other.item(t)}, false},
		"of another purpose":      {Material{KubernetesCA: own.item(t)}, false},
		"without a key":           {Material{EtcdCA: Item{Cert: encode(own.cert)}}, false},
		"with the key of another": {Material{EtcdCA: Item{Cert: encode(own.cert), Key: other.keyPEM(t)}}, false},
		"nothing":                 {nil, false},
	} {
		got := test.have.KeyOf(EtcdCA, Item{Cert: encode(own.cert)})
		if (len(got) > 0) != test.want || test.want && !bytes.Equal(got, own.keyPEM(t)) {
			t.Errorf("%s: a key %t, want %t", name, len(got) > 0, test.want)
		}
	}
}
