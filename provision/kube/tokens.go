package kube

import (
	"bytes"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
)

// TokenSecret is a Secret with a service-account token that does not expire.
type TokenSecret struct {
	// Name is "namespace/name". Header is the first part of the token, which identifies the signing
	// key and is not secret.
	Name, Header string
}

// TokenSecrets lists the Secrets of type kubernetes.io/service-account-token. It keeps nothing else
// of their contents.
func (c *Client) TokenSecrets(ctx context.Context) ([]TokenSecret, error) {
	var found []TokenSecret
	o := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("type", string(corev1.SecretTypeServiceAccountToken)).String()}
	err := list(ctx, c.typed.CoreV1().RESTClient(), "secrets", "", o, func() runtime.Object { return &corev1.SecretList{} }, func(s *corev1.Secret) {
		header, _, _ := bytes.Cut(s.Data[corev1.ServiceAccountTokenKey], []byte("."))
		found = append(found, TokenSecret{s.Namespace + "/" + s.Name, string(header)})
	})
	if err != nil {
		return nil, fmt.Errorf("list the Secrets with tokens: %w", err)
	}
	return found, nil
}
