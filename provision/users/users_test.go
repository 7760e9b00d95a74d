package users

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/testing/fixture"
)

// caSigner signs as the cluster does, for so long.
func caSigner(t *testing.T, ca certs.Item, validity time.Duration) (sign signer, asked *kube.ClientRequest) {
	t.Helper()
	pair, err := tls.X509KeyPair(ca.Cert, ca.Key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	asked = &kube.ClientRequest{}
	return func(_ context.Context, r kube.ClientRequest) ([]byte, error) {
		*asked = r
		block, _ := pem.Decode(r.Request)
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(0xabcdef), Subject: request.Subject, NotAfter: time.Now().Add(validity)}
		der, err := x509.CreateCertificate(rand.Reader, template, pair.Leaf, request.PublicKey, pair.PrivateKey)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
	}, asked
}

func TestIssueUser(t *testing.T) {
	ca := fixture.Input(t).PKI.Material[certs.KubernetesCA]
	request := UserRequest{Name: "Ana@Example.com", Groups: []string{"team", "on call"}, Validity: time.Hour, By: "ben@there"}
	sign, asked := caSigner(t, ca, time.Hour-5*time.Minute)
	item, user, err := issueUser(t.Context(), sign, ca.Cert, request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(item.Cert, item.Key.Reveal()); err != nil {
		t.Error(err)
	}
	if name, ok := strings.CutPrefix(asked.Name, "slipway-ana-example-com-"); !ok || len(name) != 12 || asked.Validity != time.Hour ||
		asked.Reason != "SlipwayKubeconfig" || !strings.HasSuffix(asked.Message, "run by ben@there") {
		t.Errorf("asked for %+v", asked)
	}
	if user.Name != request.Name || !slices.Equal(user.Groups, request.Groups) || user.Serial != "abcdef" || user.By != request.By ||
		len(user.CA) != 64 || time.Since(user.Issued) > time.Minute {
		t.Errorf("recorded is %+v", user)
	}
	if user.Shorter(time.Hour) || !user.Shorter(2*time.Hour) {
		t.Error("it is not seen how long it is valid")
	}
	first := asked.Name
	if _, _, err := issueUser(t.Context(), sign, ca.Cert, request); err != nil || asked.Name == first {
		t.Errorf("two requests have one name: %s, %v", first, err)
	}

	// What a signer does wrong.
	why := errors.New("no signer")
	foreign := fixture.Input(t).PKI.Material[certs.KubernetesCA]
	fromElsewhere, _ := caSigner(t, foreign, time.Hour)
	var earlier []byte
	for want, sign := range map[string]signer{
		"no signer":                        func(context.Context, kube.ClientRequest) ([]byte, error) { return nil, why },
		"not signed by the cluster's CA":   fromElsewhere,
		"not the requested one":            func(context.Context, kube.ClientRequest) ([]byte, error) { return item.Cert, nil },
		"the certificate that the cluster": func(context.Context, kube.ClientRequest) ([]byte, error) { return earlier, nil },
	} {
		if _, _, err := issueUser(t.Context(), sign, ca.Cert, request); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestUserState(t *testing.T) {
	in := fixture.Input(t)
	ca, admin := in.PKI.Material[certs.KubernetesCA].Cert, in.PKI.Material[certs.Admin].Cert
	other := fixture.Input(t).PKI.Material[certs.KubernetesCA].Cert
	now := time.Now()
	u, err := NewUser(admin, append(slices.Clone(other), ca...), "me", now)
	if err != nil || u.Name != "kubernetes-admin" || !slices.Equal(u.Groups, []string{"kubeadm:cluster-admins"}) {
		t.Fatalf("%+v, %v", u, err)
	}
	for _, tt := range []struct {
		cas  []byte
		now  time.Time
		want UserState
	}{
		{ca, now, UserValid},
		{append(slices.Clone(other), ca...), now, UserValid},
		{other, now, UserOrphaned},
		{ca, u.NotAfter, UserExpired},
		{other, u.NotAfter, UserExpired},
		{nil, now, UserOrphaned},
	} {
		if got := u.State(tt.cas, tt.now); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
	if _, err := NewUser(admin, other, "me", now); err == nil {
		t.Error("a certificate of another authority is taken")
	}
}

func TestUsers(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	of := func(name, serial, ca string, days int) User {
		return User{Name: name, Serial: serial, CA: ca, Issued: now, NotAfter: now.AddDate(0, 0, days), By: "me@here"}
	}
	var us Users
	for _, u := range []User{of("ana", "1", "x", 10), of("ana", "1", "x", 10), of("ana", "2", "x", 10), of("ben", "1", "y", -400), of("eve", "3", "y", -300)} {
		us = us.Add(u, now)
	}
	us = us.Add(of("new", "4", "y", 1), now)
	text, err := us.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadUsers(text)
	want := Users{of("ana", "1", "x", 10), of("ana", "2", "x", 10), of("eve", "3", "y", -300), of("new", "4", "y", 1)}
	if diff := cmp.Diff(want, read); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if us, err := ReadUsers(nil); us != nil || err != nil {
		t.Errorf("of nothing: %v, %v", us, err)
	}
	for text, want := range map[string]string{"{": "read the record", `{"version": 2}`: "has format 2"} {
		if _, err := ReadUsers([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

func TestUserValidity(t *testing.T) {
	ca := fixture.Input(t).PKI.Material[certs.KubernetesCA].Cert // 30 years
	now := time.Now()
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		asked time.Duration
		after time.Duration
		want  time.Duration
		err   string
	}{
		{0, 0, year, ""},
		{10 * time.Minute, 0, 10 * time.Minute, ""},
		{20 * year, 0, 20 * year, ""},
		{9 * time.Minute, 0, 0, "too short"},
		{31 * year, 0, 0, "too long: the cluster's CA expires on"},
		{-time.Hour, 0, 0, "too short"},
		{year, 29*year + time.Hour, 0, "in 364 days"},
		{0, 31 * year, 0, "it can sign nothing any more"},
	} {
		got, err := UserValidity(tt.asked, ca, now.Add(tt.after))
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v: %v, %v", tt.asked, got, err)
		}
	}
	if got, err := UserValidity(0, ca, now.Add(29*year+year/2)); err != nil || got > year/2 || got < year/2-24*time.Hour {
		t.Errorf("half a year before the CA ends: %v, %v", got, err)
	}
}

func TestCheckUser(t *testing.T) {
	if err := CheckUser("ana", []string{"team", "kubeadm:cluster-admins"}); err != nil {
		t.Error(err)
	}
	long := strings.Repeat("n", 65)
	for _, tt := range []struct {
		name   string
		groups []string
		want   []string
	}{
		{"", nil, []string{"the user has no name"}},
		{"system:kube-scheduler", nil, []string{"names that begin with system:"}},
		{long, nil, []string{"longer than the 64 bytes"}},
		{"a\nb", nil, []string{"invisible characters"}},
		{" ana", nil, []string{"invisible characters"}},
		{"system:x", []string{"system:masters", "", "system:nodes", "a", "a"}, []string{
			`user "system:x"`, "group system:masters is refused", "the group has no name", `group "system:nodes" is refused`, `group "a" is repeated`,
		}},
	} {
		err := CheckUser(tt.name, tt.groups)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q, %q: error %v does not say %q", tt.name, tt.groups, err, want)
			}
		}
	}
}

func TestRequestName(t *testing.T) {
	key := []byte("a public key")
	for user, want := range map[string]string{
		"ana": "slipway-ana-", "Ana Müller": "slipway-ana-m-ller-", "李": "slipway-user-", "..": "slipway-user-", strings.Repeat("é", 32): "slipway-user-",
	} {
		got := requestName(user, key)
		if rest, ok := strings.CutPrefix(got, want); !ok || len(rest) != 12 || got != requestName(user, key) {
			t.Errorf("%s: %s", user, got)
		}
	}
}
