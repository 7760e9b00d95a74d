package kube

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Certificate is the PEM of one or more certificates in an API object.
type Certificate struct {
	// Object is "Kind name", followed by the part of the object if there can be several:
	// "ValidatingWebhookConfiguration policy, webhook pods.example.com".
	Object string
	// Kind of the object.
	Kind string
	PEM  []byte
}

// Certificates lists the certificates in API objects: the CAs of webhooks, aggregated APIs and
// conversions, and those issued for CertificateSigningRequests. If some kinds could not be listed,
// it returns the others and the first error.
func (c *Client) Certificates(ctx context.Context) ([]Certificate, error) {
	lists := []func(context.Context) ([]Certificate, error){
		c.validatingWebhooks, c.mutatingWebhooks, c.signingRequests, c.apiServices, c.conversions,
	}
	found, errs := make([][]Certificate, len(lists)), make([]error, len(lists))
	var questions sync.WaitGroup
	for i, list := range lists {
		questions.Go(func() { found[i], errs[i] = list(ctx) })
	}
	questions.Wait()
	return slices.Concat(found...), cmp.Or(errs...) // if one fails, the others usually fail for the same reason
}

func (c *Client) validatingWebhooks(ctx context.Context) ([]Certificate, error) {
	list, err := c.typed.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list validating webhooks: %w", err)
	}
	var found []Certificate
	for _, o := range list.Items {
		for _, w := range o.Webhooks {
			found = appendWebhook(found, "ValidatingWebhookConfiguration", o.Name, w.Name, w.ClientConfig)
		}
	}
	return found, nil
}

func (c *Client) mutatingWebhooks(ctx context.Context) ([]Certificate, error) {
	list, err := c.typed.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list mutating webhooks: %w", err)
	}
	var found []Certificate
	for _, o := range list.Items {
		for _, w := range o.Webhooks {
			found = appendWebhook(found, "MutatingWebhookConfiguration", o.Name, w.Name, w.ClientConfig)
		}
	}
	return found, nil
}

// appendWebhook skips webhooks that trust the host's CAs.
func appendWebhook(found []Certificate, kind, object, webhook string, config admissionv1.WebhookClientConfig) []Certificate {
	if len(config.CABundle) == 0 {
		return found
	}
	return append(found, Certificate{Object: kind + " " + object + ", webhook " + webhook, Kind: kind, PEM: config.CABundle})
}

func (c *Client) signingRequests(ctx context.Context) ([]Certificate, error) {
	list, err := c.typed.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list CertificateSigningRequests: %w", err)
	}
	var found []Certificate
	for _, o := range list.Items {
		if len(o.Status.Certificate) > 0 {
			found = append(found, Certificate{
				Object: "CertificateSigningRequest " + o.Name + ", signer " + o.Spec.SignerName, Kind: "CertificateSigningRequest", PEM: o.Status.Certificate,
			})
		}
	}
	return found, nil
}

// Kinds without types in client-go.
var (
	apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

func (c *Client) apiServices(ctx context.Context) ([]Certificate, error) {
	return c.bundles(ctx, apiServices, "spec", "caBundle")
}

func (c *Client) conversions(ctx context.Context) ([]Certificate, error) {
	return c.bundles(ctx, definitions, "spec", "conversion", "webhook", "clientConfig", "caBundle")
}

// bundles reads a field with base64-encoded PEM from every object of a kind.
func (c *Client) bundles(ctx context.Context, resource schema.GroupVersionResource, field ...string) ([]Certificate, error) {
	list, err := c.dynamic.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", resource.Resource, err)
	}
	var found []Certificate
	for _, o := range list.Items {
		text, _, _ := unstructured.NestedString(o.Object, field...) // the API server checks types
		if text == "" {
			continue
		}
		pem, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", field[len(field)-1], describe(&o), err)
		}
		found = append(found, Certificate{Object: describe(&o), Kind: o.GetKind(), PEM: pem})
	}
	return found, nil
}
