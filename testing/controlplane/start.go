package controlplane

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// StartEtcd starts an etcd cluster with members m0, m1 and so on, which asks clients for a certificate, and waits until
// all are healthy.
func StartEtcd(t testing.TB, members int) []*Process {
	t.Helper()
	id := newIdentity(t)
	clients, peers := freeAddresses(t, members), freeAddresses(t, members)
	all := make([]Member, members)
	for i := range all {
		all[i] = Member{Name: fmt.Sprintf("m%d", i), Client: clients[i], Peer: peers[i], Identity: id}
	}
	return StartMembers(t, all)
}

// Member is one of an etcd cluster that is to be started. Its certificate serves, and is its client's.
type Member struct {
	Name string
	// Client and Peer are host:port, where it listens and what it advertises.
	Client, Peer string
	Identity
}

// StartMembers starts an etcd cluster, which asks clients for a certificate, and waits until all members are healthy.
func StartMembers(t testing.TB, members []Member) []*Process {
	t.Helper()
	program := binary(t, "etcd")
	cluster := make([]string, len(members))
	for i, m := range members {
		cluster[i] = fmt.Sprintf("%s=https://%s", m.Name, m.Peer)
	}
	all := make([]*Process, len(members))
	var starts sync.WaitGroup
	for i, m := range members {
		id := m.files(t)
		starts.Go(func() {
			all[i] = run(t, m.Identity, m.Client, "/health", program,
				"--name="+m.Name, "--data-dir="+filepath.Join(t.TempDir(), "data"),
				"--listen-client-urls=https://"+m.Client, "--advertise-client-urls=https://"+m.Client,
				"--listen-peer-urls=https://"+m.Peer, "--initial-advertise-peer-urls=https://"+m.Peer,
				"--initial-cluster="+strings.Join(cluster, ","), "--initial-cluster-state=new",
				"--trusted-ca-file="+id.caFile, "--cert-file="+id.certFile, "--key-file="+id.keyFile, "--client-cert-auth",
				"--peer-trusted-ca-file="+id.caFile, "--peer-cert-file="+id.certFile, "--peer-key-file="+id.keyFile,
				"--peer-client-cert-auth", "--unsafe-no-fsync", "--log-level=warn")
		})
	}
	starts.Wait()
	return all
}

// StartAPIServer starts an API server, with an etcd of its own, and waits until it is ready. Its identity is in
// system:masters.
func StartAPIServer(t testing.TB) *Process {
	t.Helper()
	return StartAPIServerOn(t, StartEtcd(t, 1)[0], nil)
}

// StartAPIServerOn starts an API server on an etcd that runs, with an EncryptionConfiguration unless that is nil.
func StartAPIServerOn(t testing.TB, etcd *Process, encryption []byte) *Process {
	t.Helper()
	return APIServer{
		Address: freeAddresses(t, 1)[0], Serving: etcd.Identity, Admin: etcd.Identity, Etcd: etcd.Identity, EtcdURL: etcd.URL(),
		Encryption: encryption,
	}.Start(t)
}

// APIServer is one that is to be started.
type APIServer struct {
	// Address is host:port.
	Address string
	// Serving is what it shows; Admin is in system:masters, and of the same CA.
	Serving, Admin Identity
	// Etcd is what it shows to etcd, at EtcdURL.
	Etcd    Identity
	EtcdURL string
	// Encryption is an EncryptionConfiguration; nil for Secrets in plain.
	Encryption []byte
}

// Start starts it, and waits until it is ready. The process has the identity of its administrator.
func (a APIServer) Start(t testing.TB) *Process {
	t.Helper()
	program := binary(t, "kube-apiserver")
	serving, etcd := a.Serving.files(t), a.Etcd.files(t)
	host, port, err := net.SplitHostPort(a.Address)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--etcd-servers=" + a.EtcdURL, "--etcd-cafile=" + etcd.caFile, "--etcd-certfile=" + etcd.certFile, "--etcd-keyfile=" + etcd.keyFile,
		"--bind-address=" + host, "--secure-port=" + port, "--tls-cert-file=" + serving.certFile, "--tls-private-key-file=" + serving.keyFile,
		"--client-ca-file=" + serving.caFile, "--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + serving.keyFile,
		"--service-account-signing-key-file=" + serving.keyFile, "--disable-admission-plugins=ServiceAccount",
	}
	if a.Encryption != nil {
		args = append(args, "--encryption-provider-config-automatic-reload",
			"--encryption-provider-config="+writeTemp(t, t.TempDir(), "encryption.yaml", a.Encryption))
	}
	return run(t, a.Admin, a.Address, "/readyz", program, args...)
}

func writeTemp(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
