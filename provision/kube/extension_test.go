package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// authority makes a certificate of an authority.
func authority(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(certificates([][]byte{der}))
}

// testDropClientCAs has an authority that was once added by an API server, beside the one that the API server adds.
func testDropClientCAs(t *testing.T, c *Client) {
	const key = "client-ca-file"
	trusts := c.typed.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	var trust *corev1.ConfigMap
	// The API server writes it once it has started.
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		var err error
		trust, err = trusts.Get(ctx, extensionTrust, metav1.GetOptions{})
		return err == nil && trust.Data[key] != "", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	its := trust.Data[key]
	if found, err := c.DropClientCAs(t.Context(), authority(t, "unknown")); found || err != nil {
		t.Errorf("one that is not there: %t, %v", found, err)
	}
	old, other := authority(t, "old"), authority(t, "other")
	trust.Data[key] = string(old) + its + string(other)
	trust.Data["requestheader-"+key] = string(old)
	if _, err := trusts.Update(t.Context(), trust, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if found, err := c.DropClientCAs(t.Context(), old, nil); !found || err != nil {
		t.Errorf("one that is there: %t, %v", found, err)
	}
	after, err := trusts.Get(t.Context(), extensionTrust, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Data[key]; strings.Contains(got, string(old)) || !strings.Contains(got, its) || !strings.Contains(got, string(other)) {
		t.Errorf("it has\n%s", got)
	}
	if got := after.Data["requestheader-"+key]; got != string(old) {
		t.Errorf("nothing would be left, and it has\n%s", got)
	}
	if found, err := c.DropClientCAs(t.Context(), old); !found || err != nil {
		t.Errorf("one that cannot go yet: %t, %v", found, err)
	}
}
