package kube

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testTokenSecrets: of Secrets that have tokens the first part is given, of all others nothing.
func testTokenSecrets(t *testing.T, c *Client) {
	s := newStage(t, c)
	for name, of := range map[string]struct {
		kind corev1.SecretType
		data map[string]string
	}{
		"token":  {corev1.SecretTypeServiceAccountToken, map[string]string{"token": "header.payload.signature"}},
		"empty":  {corev1.SecretTypeServiceAccountToken, nil}, // its controller has not been there yet
		"opaque": {corev1.SecretTypeOpaque, map[string]string{"token": "theirs.payload.signature"}},
	} {
		_, err := c.typed.CoreV1().Secrets(s.namespace).Create(s.ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
			Type:       of.kind, StringData: of.data,
		}, metav1.CreateOptions{})
		s.must(err)
	}
	found, err := c.TokenSecrets(s.ctx)
	s.must(err)
	found = slices.DeleteFunc(found, func(f TokenSecret) bool { return !strings.HasPrefix(f.Name, s.namespace+"/") })
	slices.SortFunc(found, func(a, b TokenSecret) int { return strings.Compare(a.Name, b.Name) })
	if want := []TokenSecret{{s.namespace + "/empty", ""}, {s.namespace + "/token", "header"}}; !slices.Equal(found, want) {
		t.Errorf("got %q, want %q", found, want)
	}
}

// testNow: the time is the server's, and nothing is left of the question.
func testNow(t *testing.T, c *Client) {
	s := newStage(t, c)
	before := time.Now().UTC().Truncate(time.Second)
	now, err := c.Now(s.ctx)
	s.must(err)
	if now.Before(before) || now.After(time.Now()) || now.Location() != time.UTC { // the server is on this machine
		t.Errorf("it is %v, and was %v", now, before)
	}
	list, err := c.typed.CoreV1().ConfigMaps(metav1.NamespaceSystem).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	for _, m := range list.Items {
		if strings.HasPrefix(m.Name, "slipway-clock-") {
			t.Errorf("%s is left", m.Name)
		}
	}
}
