package live

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

// AwaitServed waits until an endpoint serves the first certificate of a file's content.
func AwaitServed(ctx context.Context, reach Reach, h host.Dialer, address string, content []byte) error {
	want, err := certs.Parse(content)
	if err != nil {
		return err
	}
	return WaitFor(ctx, address+" does not serve its certificate", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, healthAttempt)
		defer cancel()
		shown, err := reach.PeerCertificate(ctx, h, address, "")
		if err == nil && sha256.Sum256(shown.Raw) != sha256.Sum256(want[0].Raw) {
			err = fmt.Errorf("it serves serial %x, and the file has %x", shown.SerialNumber, want[0].SerialNumber)
		}
		return err
	})
}

// Admits queries an endpoint as the owner of a client certificate. It returns whether the endpoint
// knows the client, and how it said so (a TLS alert, or an HTTP status). The certificate is sent
// even if the server does not list its CA among the accepted ones: otherwise some servers continue
// with an anonymous client.
func Admits(
	ctx context.Context, h host.Dialer, e stack.Endpoint, address string, roots []byte, client certs.Item,
) (taken bool, how string, err error) {
	pair, err := tls.X509KeyPair(client.Cert, client.Key.Reveal())
	if err != nil {
		return false, "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	transport := &http.Transport{
		DialContext: h.DialContext, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			RootCAs: pool, MinVersion: tls.VersionTLS12,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		},
	}
	ctx, cancel := context.WithTimeout(ctx, healthAttempt)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+e.Path, nil)
	if err != nil {
		return false, "", err
	}
	request.Header = http.Header{}
	maps.Copy(request.Header, e.Header)
	response, err := transport.RoundTrip(request)
	var alert *net.OpError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // a TLS alert
		return false, alert.Err.Error(), nil
	case err != nil:
		return false, "", err
	}
	if err := response.Body.Close(); err != nil {
		return false, "", err
	}
	switch response.StatusCode {
	case http.StatusOK, http.StatusForbidden: // it knows the client, which has no rights
		return true, response.Status, nil
	case http.StatusUnauthorized:
		return false, response.Status, nil
	}
	return false, "", fmt.Errorf("%s%s: %s", address, e.Path, response.Status)
}

// PeerCertificate makes a TLS handshake until the server's certificate arrives. Later failures do
// not matter: a server that requires client certificates, such as etcd, then ends the connection.
// Nothing is sent over it.
func PeerCertificate(ctx context.Context, d host.Dialer, address, serverName string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	var chain []*x509.Certificate
	err = tls.Client(conn, &tls.Config{
		ServerName: serverName, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // G402: the served certificate is the result, whatever it is
		VerifyConnection: func(s tls.ConnectionState) error {
			chain = s.PeerCertificates
			return nil
		},
	}).HandshakeContext(ctx)
	if len(chain) > 0 {
		return chain[0], nil
	}
	if err == nil {
		err = errors.New("it serves no certificate")
	}
	return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
}
