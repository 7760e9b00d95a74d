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
	program := binary(t, "etcd")
	id := newIdentity(t)
	clients, peers := freeAddresses(t, members), freeAddresses(t, members)
	cluster := make([]string, members)
	for i := range cluster {
		cluster[i] = fmt.Sprintf("m%d=https://%s", i, peers[i])
	}
	all := make([]*Process, members)
	var starts sync.WaitGroup
	for i := range all {
		starts.Go(func() {
			all[i] = run(t, id, clients[i], "/health", program,
				fmt.Sprintf("--name=m%d", i), "--data-dir="+filepath.Join(t.TempDir(), "data"),
				"--listen-client-urls=https://"+clients[i], "--advertise-client-urls=https://"+clients[i],
				"--listen-peer-urls=https://"+peers[i], "--initial-advertise-peer-urls=https://"+peers[i],
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
	program := binary(t, "kube-apiserver")
	etcd := StartEtcd(t, 1)[0]
	id := etcd.Identity
	address := freeAddresses(t, 1)[0]
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, id, address, "/readyz", program,
		"--etcd-servers="+etcd.URL(), "--etcd-cafile="+id.caFile, "--etcd-certfile="+id.certFile, "--etcd-keyfile="+id.keyFile,
		"--bind-address=127.0.0.1", "--secure-port="+port, "--tls-cert-file="+id.certFile, "--tls-private-key-file="+id.keyFile,
		"--client-ca-file="+id.caFile, "--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+id.keyFile,
		"--service-account-signing-key-file="+id.keyFile, "--disable-admission-plugins=ServiceAccount")
}

func writeTemp(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
