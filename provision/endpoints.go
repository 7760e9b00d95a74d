package provision

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
	"net/netip"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
)

// endpointRow is a place where a component of the stack answers TLS.
type endpointRow struct {
	unit string
	// controlPlane says that only those have it, loopback that it listens on 127.0.0.1 and not on the node's address.
	controlPlane, loopback bool
	port                   int
	// serverName asks for another certificate than the usual (SNI).
	serverName string
	// cert is the file of what it serves, "" for what the process made itself, and server the authority of that.
	cert, server string
	// client is an authority of the clients that it takes, "" where that is not asked here, and path what a client may
	// ask that has no rights: the answer to one that is not known is 401, or no handshake.
	client, path string
	// header goes with the question, for an authority whose clients speak for others.
	header http.Header
}

const (
	kubeletPort           = 10250
	controllerManagerPort = 10257
	schedulerPort         = 10259
)

// loopbackName is under which an API server reaches itself (k8s.io/apiserver/pkg/server, LoopbackClientServerNameOverride).
const loopbackName = "apiserver-loopback-client"

// endpointTable is every place where certificates are shown to others, and where those of others are checked.
var endpointTable = []endpointRow{
	{
		unit: "kube-apiserver.service", controlPlane: true, port: apiPort,
		cert: pkiDir + "/apiserver.crt", server: certs.KubernetesCA, client: certs.KubernetesCA, path: "/api",
	},
	{
		unit: "kube-apiserver.service", controlPlane: true, port: apiPort, server: certs.KubernetesCA,
		client: certs.FrontProxyCA, path: "/api", header: http.Header{"X-Remote-User": {probeName}},
	},
	{unit: "kube-apiserver.service", controlPlane: true, port: apiPort, serverName: loopbackName},
	{
		unit: "etcd.service", controlPlane: true, port: etcdClient,
		cert: pkiDir + "/etcd/server.crt", server: certs.EtcdCA, client: certs.EtcdCA, path: "/version",
	},
	{
		unit: "etcd.service", controlPlane: true, port: etcdPeer,
		cert: pkiDir + "/etcd/peer.crt", server: certs.EtcdCA, client: certs.EtcdCA, path: "/version",
	},
	{
		unit: "kube-controller-manager.service", controlPlane: true, loopback: true, port: controllerManagerPort,
		cert: pkiDir + "/controller-manager-server.crt", server: certs.KubernetesCA, client: certs.KubernetesCA, path: "/metrics",
	},
	{
		unit: "kube-scheduler.service", controlPlane: true, loopback: true, port: schedulerPort,
		cert: pkiDir + "/scheduler-server.crt", server: certs.KubernetesCA, client: certs.KubernetesCA, path: "/metrics",
	},
	{
		unit: kubeletService, port: kubeletPort,
		cert: "/var/lib/kubelet/pki/kubelet.crt", server: certs.KubernetesCA, client: certs.KubernetesCA, path: "/metrics",
	},
}

// probeName is the user that a probe's certificate is for. Nobody has given it any rights.
const probeName = "slipway:probe"

// on says whether a node has the endpoint.
func (e endpointRow) on(n certs.Node) bool { return n.ControlPlane || !e.controlPlane }

// address of an endpoint on a node.
func (e endpointRow) address(n certs.Node) string {
	address := n.Address
	if e.loopback {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(address, uint16(e.port)).String() //nolint:gosec // G115: a port of the table
}

// shows says whether the endpoint has a certificate of its own to show; the others ask more of one that has.
func (e endpointRow) shows() bool { return e.cert != "" || e.serverName != "" }

// awaitServed waits until an endpoint shows the first certificate of a file's content.
func awaitServed(ctx context.Context, h host.Dialer, address string, content []byte) error {
	want, err := certs.Parse(content)
	if err != nil {
		return err
	}
	return waitFor(ctx, address+" does not serve its certificate", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, healthAttempt)
		defer cancel()
		shown, err := peerCertificate(ctx, h, address, "")
		if err == nil && sha256.Sum256(shown.Raw) != sha256.Sum256(want[0].Raw) {
			err = fmt.Errorf("it serves serial %x, and the file has %x", shown.SerialNumber, want[0].SerialNumber)
		}
		return err
	})
}

// admits asks an endpoint as the owner of a client certificate: whether it knows who that is, and how it said so (a TLS
// alert, or an HTTP status). The certificate is shown also where the server does not name its authority among those that it
// would take: some go on without one, as nobody.
func admits(
	ctx context.Context, h host.Dialer, e endpointRow, address string, roots []byte, client certs.Item,
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
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+e.path, nil)
	if err != nil {
		return false, "", err
	}
	request.Header = http.Header{}
	maps.Copy(request.Header, e.header)
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
	case http.StatusOK, http.StatusForbidden: // it knows who asks, and that this is nobody's business
		return true, response.Status, nil
	case http.StatusUnauthorized:
		return false, response.Status, nil
	}
	return false, "", fmt.Errorf("%s%s: %s", address, e.path, response.Status)
}
