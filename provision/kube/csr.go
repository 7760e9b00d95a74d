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

// ClientRequest asks for a client certificate.
type ClientRequest struct {
	// Name is that of the CertificateSigningRequest, which the cluster forgets after an hour.
	Name string
	// Request is a certificate request, in PEM.
	Request []byte
	// Validity is at least 10 minutes; the signer may give less.
	Validity time.Duration
	// Reason and Message say why it is approved: a CamelCase word, and a sentence.
	Reason, Message string
}

// signTimeout is for the cluster's signer, which takes milliseconds when it is there.
const signTimeout = 30 * time.Second

// SignClient has a request signed by the cluster's signer for clients of the API (kubernetes.io/kube-apiserver-client),
// after approving it. The certificate comes in PEM. Where there is no signer it says so after 30 s. After an error nothing
// is left behind that could be signed later.
func (c *Client) SignClient(ctx context.Context, r ClientRequest) ([]byte, error) {
	return c.signClient(ctx, r, signTimeout)
}

func (c *Client) signClient(ctx context.Context, r ClientRequest, timeout time.Duration) (cert []byte, err error) {
	requests := c.typed.CertificatesV1().CertificateSigningRequests()
	seconds := int32(min(int64(r.Validity/time.Second), math.MaxInt32)) //nolint:gosec // G115: it was cut to what fits
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
		if err != nil { // also when ctx has ended
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
	why := fmt.Errorf("nobody has signed it within %v: see that kube-controller-manager runs, with the CA's key (`slipway status`)", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, why)
	defer cancel()
	err = until(ctx, watchOf(c.typed.CertificatesV1().RESTClient(), "certificatesigningrequests", "", named(r.Name)),
		&certificatesv1.CertificateSigningRequest{}, func(objects []any) (bool, error) {
			var refused error
			cert, refused = signed(objects)
			return cert != nil, refused
		})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the watch only says that it was interrupted
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate request %s is approved, and there is no certificate: %w", r.Name, err)
	}
	return cert, nil
}

// signed gives the certificate of the one request; nil while there is none.
func signed(objects []any) ([]byte, error) {
	if len(objects) == 0 {
		return nil, errors.New("somebody has deleted it")
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
