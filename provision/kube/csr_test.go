package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func clientRequest(t *testing.T, name string, groups ...string) ClientRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: groups}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return ClientRequest{
		Name: "slipway-" + name, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		Validity: 20 * time.Minute, Reason: "SlipwayKubeconfig", Message: "asked for by ana@here",
	}
}

// playSigner signs, or answers otherwise, what is approved under a name.
func playSigner(t *testing.T, c *Client, name string, answer func(*certificatesv1.CertificateSigningRequest)) {
	t.Helper()
	requests := c.typed.CertificatesV1().CertificateSigningRequests()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	w, err := requests.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); w.Stop() })
	go func() {
		for e := range w.ResultChan() {
			r, ok := e.Object.(*certificatesv1.CertificateSigningRequest)
			if !ok || len(r.Status.Conditions) == 0 {
				continue
			}
			answer(r)
			if _, err := requests.UpdateStatus(ctx, r, metav1.UpdateOptions{}); err != nil {
				t.Error(err)
			}
			return
		}
	}()
}

func testSignClient(t *testing.T, c *Client) {
	request := clientRequest(t, "ana", "team")
	var seen *certificatesv1.CertificateSigningRequest
	want := selfSigned(t)
	playSigner(t, c, request.Name, func(r *certificatesv1.CertificateSigningRequest) {
		seen = r.DeepCopy()
		r.Status.Certificate = want
	})
	got, err := c.SignClient(t.Context(), request)
	if err != nil || string(got) != string(want) {
		t.Fatalf("%v: %s", err, got)
	}
	if seen.Spec.SignerName != "kubernetes.io/kube-apiserver-client" || *seen.Spec.ExpirationSeconds != 1200 ||
		!slices.Equal(seen.Spec.Usages, []certificatesv1.KeyUsage{"client auth"}) {
		t.Errorf("asked for %+v", seen.Spec)
	}
	if a := seen.Status.Conditions[0]; a.Type != certificatesv1.CertificateApproved || a.Reason != "SlipwayKubeconfig" || a.Message != "asked for by ana@here" {
		t.Errorf("approved with %+v", a)
	}

	// What is refused, by whom ever, and what nobody signs, leaves nothing behind.
	refused := clientRequest(t, "refused")
	playSigner(t, c, refused.Name, func(r *certificatesv1.CertificateSigningRequest) {
		r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: "no such usage",
		})
	})
	short := clientRequest(t, "short")
	short.Validity = time.Minute
	for _, tt := range []struct {
		request        ClientRequest
		limit, timeout time.Duration // of the caller, and for the signer
		want           string
	}{
		{refused, time.Minute, time.Minute, "Failed (SignerValidationFailure): no such usage"},
		{clientRequest(t, "nobody"), time.Minute, time.Second, "it was not signed within 1s: check that kube-controller-manager runs"},
		{clientRequest(t, "cancelled"), time.Second, time.Minute, "time is up"},
		{clientRequest(t, "root", "system:masters"), time.Minute, time.Minute, "system:masters group is not allowed"},
		{short, time.Minute, time.Minute, "expirationSeconds"},
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), tt.limit, errors.New("time is up"))
		defer cancel()
		_, err := c.signClient(ctx, tt.request, tt.timeout)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v", tt.request.Name, err)
		}
		if _, err := c.typed.CertificatesV1().CertificateSigningRequests().Get(t.Context(), tt.request.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("%s: it is still there: %v", tt.request.Name, err)
		}
	}
}

// selfSigned is a certificate in PEM, whoever made it.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ana"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
