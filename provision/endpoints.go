package provision

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
)

// endpointRow is a place where a component of the stack answers TLS.
type endpointRow struct {
	unit string
	on   func(node) bool
	port int
	// loopback says that it listens there and nowhere else.
	loopback bool
	// cert is the file of what it serves, and server the authority of that.
	cert, server string
	// client is the authority of the clients that it takes, and path what a client may ask that has no rights: the
	// answer to one that is not known is 401, or no handshake.
	client, path string
	// header goes with the question, for an authority whose clients speak for others.
	header http.Header
}

// endpointTable is every place where certificates are shown to others, and where those of others are checked.
var endpointTable = []endpointRow{
	{unit: "kube-apiserver.service", on: node.controlPlane, port: apiPort, cert: pkiDir + "/apiserver.crt", server: certs.KubernetesCA, client: certs.KubernetesCA, path: "/api"},
	{
		unit: "kube-apiserver.service", on: node.controlPlane, port: apiPort, cert: pkiDir + "/apiserver.crt", server: certs.KubernetesCA,
		client: certs.FrontProxyCA, path: "/api", header: http.Header{"X-Remote-User": {probeName}},
	},
	{unit: "etcd.service", on: node.controlPlane, port: etcdClient, cert: pkiDir + "/etcd/server.crt", server: certs.EtcdCA, client: certs.EtcdCA, path: "/version"},
	{unit: "etcd.service", on: node.controlPlane, port: etcdPeer, cert: pkiDir + "/etcd/peer.crt", server: certs.EtcdCA, client: certs.EtcdCA, path: "/version"},
	{
		unit: "kube-controller-manager.service", on: node.controlPlane, port: 10257, loopback: true,
		cert: pkiDir + "/controller-manager-server.crt", server: certs.KubernetesCA, client: certs.KubernetesCA, path: "/metrics",
	},
	{
		unit: "kube-scheduler.service", on: node.controlPlane, port: 10259, loopback: true,
		cert: pkiDir + "/scheduler-server.crt", server: certs.KubernetesCA, client: certs.KubernetesCA, path: "/metrics",
	},
	{unit: kubeletService, on: everywhere, port: kubeletPort, cert: "/var/lib/kubelet/pki/kubelet.crt", server: certs.KubernetesCA, client: certs.KubernetesCA, path: "/metrics"},
}

// probeName is the user that a probe's certificate is for. Nobody has given it any rights.
const probeName = "slipway:probe"

// address of an endpoint on a node.
func (e endpointRow) address(n node) string {
	if e.loopback {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(e.port))
	}
	return netip.AddrPortFrom(n.machine.Address, uint16(e.port)).String() //nolint:gosec // a port of the table
}

// served gives what an endpoint shows to whoever asks. A server that goes on to want the client's certificate has shown
// its own before.
func served(ctx context.Context, h host.Dialer, address, serverName string) (*x509.Certificate, error) {
	conn, err := h.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	var shown *x509.Certificate
	client := tls.Client(conn, &tls.Config{
		ServerName: serverName, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the question is what it shows, not whether that can be trusted
		VerifyConnection: func(state tls.ConnectionState) error {
			shown = state.PeerCertificates[0]
			return nil
		},
	})
	if err := client.HandshakeContext(ctx); err != nil && shown == nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return shown, nil
}

// awaitServed waits until an endpoint shows the first certificate of a file's content.
func awaitServed(ctx context.Context, h host.Dialer, address string, content []byte) error {
	want, err := certs.Parse(content)
	if err != nil {
		return err
	}
	return waitFor(ctx, address+" does not serve its certificate", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, healthAttempt)
		defer cancel()
		shown, err := served(ctx, h, address, "")
		if err == nil && sha256.Sum256(shown.Raw) != sha256.Sum256(want[0].Raw) {
			err = fmt.Errorf("it serves serial %x, and the file has %x", shown.SerialNumber, want[0].SerialNumber)
		}
		return err
	})
}

// admits asks an endpoint as the owner of a client certificate: whether it knows who that is.
func admits(ctx context.Context, h host.Dialer, e endpointRow, address string, roots []byte, client certs.Item) (bool, error) {
	pair, err := tls.X509KeyPair(client.Cert, client.Key.Reveal())
	if err != nil {
		return false, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	transport := &http.Transport{
		DialContext: h.DialContext, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}
	ctx, cancel := context.WithTimeout(ctx, healthAttempt)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+e.path, nil)
	if err != nil {
		return false, err
	}
	request.Header = e.header.Clone()
	response, err := transport.RoundTrip(request)
	var alert *net.OpError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // a TLS alert
		return false, nil
	case err != nil:
		return false, err
	}
	return response.StatusCode != http.StatusUnauthorized, response.Body.Close()
}
