package users

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/stack"
)

// UserRequest is a request for a kubeconfig.
type UserRequest struct {
	Name   string
	Groups []string
	// Validity is a result of UserValidity.
	Validity time.Duration
	// By is the requester.
	By string
}

// IssueUser creates a key here, and has the cluster sign a certificate for it, through any control
// plane that answers. The key is stored nowhere else. in needs its machines and PKI.
func IssueUser(ctx context.Context, in stack.Input, hosts map[string]host.Host, r UserRequest) (certs.Item, User, error) {
	api, err := live.API(in, hosts)
	if err != nil {
		return certs.Item{}, User{}, err
	}
	return issueUser(ctx, api.SignClient, in.PKI.Material[certs.KubernetesCA].Cert, r)
}

// CheckSigner returns an error if the cluster's CA is external, so that the cluster cannot sign a
// certificate for a person; the error says what to do instead.
func CheckSigner(pki *certs.PKI, name string, groups []string) error {
	if pki.Signs(certs.KubernetesCA) {
		return nil
	}
	return fmt.Errorf("the cluster cannot sign a certificate for %s, since its CA is external; nothing was issued: "+
		"have the owner of the CA's key sign a client certificate with the subject %q, "+
		"or name the key in spec.pki.authorities.kubernetes.keyFile and run `slipway apply`",
		name, pkix.Name{CommonName: name, Organization: groups})
}

// signer is kube.Client.SignClient.
type signer func(context.Context, kube.ClientRequest) ([]byte, error)

func issueUser(ctx context.Context, sign signer, cas []byte, r UserRequest) (certs.Item, User, error) {
	key, keyPEM, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		return certs.Item{}, User{}, err
	}
	request, err := userRequest(key, r)
	if err != nil {
		return certs.Item{}, User{}, err
	}
	cert, err := sign(ctx, request)
	if err != nil {
		return certs.Item{}, User{}, err
	}
	u, err := checkIssued(cert, cas, key.Public(), r)
	return certs.Item{Cert: cert, Key: keyPEM}, u, err
}

// userRequest has a name of its own, derived from the key.
func userRequest(key crypto.Signer, r UserRequest) (kube.ClientRequest, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: r.Name, Organization: r.Groups}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return kube.ClientRequest{}, fmt.Errorf("make a certificate request: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return kube.ClientRequest{}, fmt.Errorf("encode a public key: %w", err)
	}
	return kube.ClientRequest{
		Name: requestName(r.Name, public), Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		Validity: r.Validity, Reason: "SlipwayKubeconfig", Message: "slipway kubeconfig --user, run by " + r.By,
	}, nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// requestName is "slipway-<user>-<hash of the public key>", with the part of the user that an
// object's name can contain.
func requestName(user string, public []byte) string {
	sum := sha256.Sum256(public)
	plain := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(user), "-"), "-")
	if plain == "" {
		plain = "user"
	}
	return "slipway-" + plain + "-" + hex.EncodeToString(sum[:6])
}

// checkIssued checks that the signer issued what was requested.
func checkIssued(cert, cas []byte, key crypto.PublicKey, r UserRequest) (User, error) {
	u, err := NewUser(cert, cas, r.By, time.Now())
	if err != nil {
		return User{}, fmt.Errorf("the certificate that the cluster issued: %w", err)
	}
	parsed, err := certs.Parse(cert)
	if err != nil {
		return User{}, err
	}
	if public, ok := parsed[0].PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(key) || u.Name != r.Name {
		return User{}, errors.New("the certificate that the cluster issued is not the requested one")
	}
	return u, nil
}

// Shorter reports whether a certificate was issued for less than the requested time. Signers move
// both ends of the validity some minutes into the past.
func (u User) Shorter(asked time.Duration) bool {
	return u.NotAfter.Sub(u.Issued) < asked-10*time.Minute
}
