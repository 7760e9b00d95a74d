package kube

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trusting are objects that hold the authority CA; one webhook has none of its own.
const trusting = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: policy}
webhooks:
- name: pods.example.com
  clientConfig: {url: "https://127.0.0.1:1/", caBundle: CA}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  rules: [{apiGroups: [nowhere.example.com], apiVersions: [v1], operations: [CREATE], resources: [none]}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: defaults}
webhooks:
- name: pods.example.com
  clientConfig: {url: "https://127.0.0.1:1/", caBundle: CA}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  rules: [{apiGroups: [nowhere.example.com], apiVersions: [v1], operations: [CREATE], resources: [none]}]
- name: system.example.com
  clientConfig: {url: "https://127.0.0.1:1/"}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  rules: [{apiGroups: [nowhere.example.com], apiVersions: [v1], operations: [CREATE], resources: [none]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.metrics.example.com}
spec:
  group: metrics.example.com
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  caBundle: CA
  service: {name: metrics, namespace: default}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.conversion.example.com}
spec:
  group: conversion.example.com
  names: {kind: Ship, plural: ships, singular: ship, listKind: ShipList}
  scope: Cluster
  conversion:
    strategy: Webhook
    webhook: {conversionReviewVersions: [v1], clientConfig: {url: "https://127.0.0.1:1/", caBundle: CA}}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
`

func testCertificates(t *testing.T, c *Client, ca []byte) {
	objects := strings.ReplaceAll(trusting, "caBundle: CA", "caBundle: "+base64.StdEncoding.EncodeToString(ca))
	if _, err := c.Apply(t.Context(), []byte(objects)); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ana"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	requests := c.Typed().CertificatesV1().CertificateSigningRequests()
	for _, name := range []string{"ana", "pending"} {
		r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: "example.com/people",
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		}}
		if r, err = requests.Create(t.Context(), r, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if r.Status.Certificate = ca; name == "ana" {
			if _, err := requests.UpdateStatus(t.Context(), r, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}

	found, err := c.Certificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.Object)
		if !bytes.Equal(f.PEM, ca) || !strings.HasPrefix(f.Object, f.Kind+" ") {
			t.Errorf("got %+v", f)
		}
	}
	want := []string{
		"ValidatingWebhookConfiguration policy, webhook pods.example.com",
		"MutatingWebhookConfiguration defaults, webhook pods.example.com",
		"CertificateSigningRequest ana, signer example.com/people",
		"APIService v1.metrics.example.com",
		"CustomResourceDefinition ships.conversion.example.com",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Certificates(ctx); err == nil || !strings.Contains(err.Error(), "list validating webhooks: ") {
		t.Errorf("without an answer: %v", err)
	}
}
