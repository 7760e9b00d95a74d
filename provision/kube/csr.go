package kube

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClientRequest is a request for a client certificate.
type ClientRequest struct {
	// Name of the CertificateSigningRequest, which the cluster removes after an hour.
	Name string
	// Request is a certificate request, in PEM.
	Request []byte
	// Validity is at least 10 minutes; the signer may grant less.
	Validity time.Duration
	// Reason and Message say why it is approved: a CamelCase word and a sentence.
	Reason, Message string
}

// signTimeout is how long to wait for the cluster's signer, which usually takes milliseconds.
const signTimeout = 30 * time.Second

// SignClient approves a request and waits until the cluster's signer for API clients
// (kubernetes.io/kube-apiserver-client) has signed it. It returns the certificate in PEM. If there
// is no signer, it returns an error after 30 s. After an error it leaves no request that could be
// signed later.
func (c *Client) SignClient(ctx context.Context, r ClientRequest) ([]byte, error) {
	return c.signClient(ctx, r, signTimeout)
}

func (c *Client) signClient(ctx context.Context, r ClientRequest, timeout time.Duration) (cert []byte, err error) {
	requests := c.typed.CertificatesV1().CertificateSigningRequests()
	seconds := int32(min(int64(r.Validity/time.Second), math.MaxInt32)) //nolint:gosec // G115: limited to what fits
	made, err := requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: r.Name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: r.Request, SignerName: certificatesv1.KubeAPIServerClientSignerName, ExpirationSeconds: &seconds,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		},
	}, metav1.CreateOptions{FieldManager: FieldManager})
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	defer func() {
		if err != nil { // also if ctx has ended
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyAttempt)
			defer cancel()
			_ = requests.Delete(late, made.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &made.UID}})
		}
	}()
	made.Status.Conditions = append(made.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: r.Reason, Message: r.Message,
	})
	if _, err = requests.UpdateApproval(ctx, made.Name, made, metav1.UpdateOptions{FieldManager: FieldManager}); err != nil {
		return nil, fmt.Errorf("approve the certificate request %s: %w", r.Name, err)
	}
	why := fmt.Errorf("it was not signed within %v: check that kube-controller-manager runs and has the CA's key (`slipway status`)", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, why)
	defer cancel()
	err = until(ctx, watchOf(c.typed.CertificatesV1().RESTClient(), "certificatesigningrequests", "", named(r.Name)),
		&certificatesv1.CertificateSigningRequest{}, func(objects []any) (bool, error) {
			var refused error
			cert, refused = signed(objects)
			return cert != nil, refused
		})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the watch's error only says that it was interrupted
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate request %s is approved, but there is no certificate: %w", r.Name, err)
	}
	return cert, nil
}

// signed returns the certificate of the request, or nil if there is none yet.
func signed(objects []any) ([]byte, error) {
	if len(objects) == 0 {
		return nil, errors.New("it was deleted")
	}
	request := objects[0].(*certificatesv1.CertificateSigningRequest)
	for _, c := range request.Status.Conditions {
		if c.Type == certificatesv1.CertificateFailed || c.Type == certificatesv1.CertificateDenied {
			return nil, fmt.Errorf("%s (%s): %s", c.Type, c.Reason, c.Message)
		}
	}
	if len(request.Status.Certificate) == 0 {
		return nil, nil
	}
	return request.Status.Certificate, nil
}
