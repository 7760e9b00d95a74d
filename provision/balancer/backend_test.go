package balancer

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testCA issues serving certificates for 127.0.0.1.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (ca *testCA) issue(t testing.TB) tls.Certificate { return ca.until(t, time.Now().Add(time.Hour)) }

func (ca *testCA) until(t testing.TB, end time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// testBackend stands in for an API server: TLS connections get /readyz, others get its name on a line and then an echo
// of what they send.
type testBackend struct {
	name    string
	address string
	status  atomic.Int32 // what /readyz answers; 0 does not answer
	probes  atomic.Int32 // requests for /readyz
	clients atomic.Int32 // raw connections open
	cert    tls.Certificate

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

func newTestBackend(t testing.TB, ca *testCA, name string) *testBackend {
	t.Helper()
	b := &testBackend{name: name, address: freeAddress(t), cert: ca.issue(t)}
	b.status.Store(http.StatusOK)
	t.Cleanup(b.stop)
	return b
}

// startBackend makes a backend that is running and ready.
func startBackend(t testing.TB, ca *testCA, name string) *testBackend {
	t.Helper()
	b := newTestBackend(t, ca, name)
	b.start(t)
	return b
}

func (b *testBackend) start(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listener, b.conns = listener, map[net.Conn]struct{}{}
	b.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns[conn] = struct{}{}
			b.mu.Unlock()
			b.wg.Go(func() {
				b.serve(conn.(*net.TCPConn))
				b.mu.Lock()
				delete(b.conns, conn)
				b.mu.Unlock()
			})
		}
	})
}

// stop is a process that is killed: it refuses new connections and resets the ones it has.
func (b *testBackend) stop() {
	b.mu.Lock()
	if b.listener != nil {
		_ = b.listener.Close()
	}
	b.mu.Unlock()
	b.reset()
	b.wg.Wait()
}

// reset loses every connection.
func (b *testBackend) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for conn := range b.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

func (b *testBackend) serve(conn *net.TCPConn) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	first, err := reader.Peek(1)
	if err != nil {
		return
	}
	if first[0] == 0x16 { // a TLS handshake record
		b.serveTLS(tls.Server(&peeked{conn, reader}, &tls.Config{Certificates: []tls.Certificate{b.cert}}))
		return
	}
	b.clients.Add(1)
	defer b.clients.Add(-1)
	_, _ = fmt.Fprintln(conn, b.name)
	_, _ = io.Copy(conn, reader)
}

func (b *testBackend) serveTLS(conn net.Conn) {
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if request.URL.Path == "/readyz" {
			b.probes.Add(1)
		}
		status := int(b.status.Load())
		if status == 0 {
			_, _ = reader.Peek(1) // until the other side gives up
			return
		}
		body := "[+]ping ok\n[-]etcd failed: reason withheld\n"
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(body), body)
	}
}

type peeked struct {
	net.Conn
	reader *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.reader.Read(b) }

// freeAddress is one on which nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
