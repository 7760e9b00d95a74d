package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
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

// testDropClientCAs has an authority that was once added by an API server, beside the one that the
// API server adds.
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
	if found, err := c.DropClientCAs(t.Context(), authority(t, "unknown"), authority(t, "another")); found || err != nil {
		t.Errorf("those that are not there: %t, %v", found, err)
	}
	old, other := authority(t, "old"), authority(t, "other")
	// The API server writes it too, once a minute: whose turn it was first is tried again.
	again := func(do func() error) {
		t.Helper()
		if err := retry.RetryOnConflict(retry.DefaultRetry, do); err != nil {
			t.Fatal(err)
		}
	}
	again(func() error {
		trust, err := trusts.Get(t.Context(), extensionTrust, metav1.GetOptions{})
		if err != nil {
			return err
		}
		trust.Data[key] = string(old) + its + string(other)
		trust.Data["requestheader-"+key] = string(old)
		_, err = trusts.Update(t.Context(), trust, metav1.UpdateOptions{})
		return err
	})
	lacks := func(client, frontProxy []byte, want ...string) {
		t.Helper()
		if got, err := c.LacksClientCAs(t.Context(), client, frontProxy); err != nil || !slices.Equal(got, want) {
			t.Errorf("it lacks some in %q, want %q; %v", got, want, err)
		}
	}
	lacks(nil, nil)
	lacks([]byte(its+string(old)), old)
	lacks(slices.Concat(old, authority(t, "unknown")), old, key)
	lacks(other, other, "requestheader-"+key)
	lacks(authority(t, "unknown"), authority(t, "another"), key, "requestheader-"+key)
	drop := func(client, frontProxy []byte, want bool, wantClient, wantFrontProxy string) {
		t.Helper()
		again(func() error {
			found, err := c.DropClientCAs(t.Context(), client, frontProxy)
			if err == nil && found != want {
				t.Errorf("any of them was there: %t", found)
			}
			return err
		})
		after, err := trusts.Get(t.Context(), extensionTrust, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := after.Data[key]; got != wantClient {
			t.Errorf("clients: it has\n%s", got)
		}
		if got := after.Data["requestheader-"+key]; got != wantFrontProxy {
			t.Errorf("front proxies: it has\n%s", got)
		}
	}
	drop(nil, nil, false, string(old)+its+string(other), string(old))
	drop(other, nil, true, string(old)+its, string(old))
	drop(old, old, true, its, string(old)) // of front proxies nothing would be left
	drop(old, old, true, its, string(old))
	drop(old, nil, false, its, string(old))
}
