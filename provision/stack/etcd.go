package stack

import (
	"net/netip"
	"strconv"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

// etcd's unit, ports (the same as kubeadm's), files and account.
const (
	// EtcdService is a control plane's etcd member.
	EtcdService    = "etcd.service"
	EtcdClientPort = 2379
	etcdPeer       = 2380

	etcdCAFile = PKIDir + "/etcd/ca.crt"
	// EtcdAccount is the system user that etcd runs as, and its group (CIS 1.1.12).
	EtcdAccount = "etcd"
	// AccountsFile is what systemd creates the account from if a machine starts with an empty /etc.
	AccountsFile = "/etc/sysusers.d/slipway.conf"
)

// etcd stores the cluster's data.
var etcd = Component{
	Name: "etcd", On: Node.ControlPlane,
	Unit: &Service{
		Name: EtcdService, Text: etcdUnit, Programs: []string{"etcd"}, Files: []string{etcdCAFile},
		Disturbs: "the other members keep the quorum; pods continue to run", IfSingle: noAPI,
	},
	Files:    []ConfigFile{{Path: AccountsFile, Render: fixed(templates.Accounts), Public: true}},
	Programs: []string{"etcd", "etcdctl", "etcdutl"},
	Commands: []Command{{"etcdctl", commandDir + "etcdctl"}},
	Endpoints: []Endpoint{
		{
			ControlPlane: true, Port: EtcdClientPort,
			Cert: PKIDir + "/etcd/server.crt", Server: certs.EtcdCA, Client: certs.EtcdCA, Path: "/version",
		},
		{
			ControlPlane: true, Port: etcdPeer,
			Cert: PKIDir + "/etcd/peer.crt", Server: certs.EtcdCA, Client: certs.EtcdCA, Path: "/version",
		},
	},
	Accounts: []string{EtcdAccount},
}

func etcdUnit(n Node) templates.Unit {
	var members []string
	for _, m := range n.ControlPlanes() {
		members = append(members, m.Name+"="+peerURL(m))
	}
	client := "https://" + netip.AddrPortFrom(n.machine.Address, EtcdClientPort).String()
	peer := peerURL(n.machine)
	args := map[string]string{
		"name": n.Name, "data-dir": "/var/lib/etcd",
		"listen-client-urls":    client + ",https://127.0.0.1:" + strconv.Itoa(EtcdClientPort),
		"advertise-client-urls": client,
		"listen-peer-urls":      peer, "initial-advertise-peer-urls": peer,
		"listen-metrics-urls": "http://127.0.0.1:2381",
		"cert-file":           PKIDir + "/etcd/server.crt", "key-file": PKIDir + "/etcd/server.key",
		"trusted-ca-file": PKIDir + "/etcd/ca.crt", "client-cert-auth": "true",
		"peer-cert-file": PKIDir + "/etcd/peer.crt", "peer-key-file": PKIDir + "/etcd/peer.key",
		"peer-trusted-ca-file": PKIDir + "/etcd/ca.crt", "peer-client-cert-auth": "true",
		"tls-min-version":                "TLS1.2",
		"feature-gates":                  "InitialCorruptCheck=true",
		"watch-progress-notify-interval": "5s",
		// Beyond this size etcd accepts no write until space is freed: the maximum that its authors
		// recommend, not its 2 GiB.
		"quota-backend-bytes": strconv.FormatInt(8<<30, 10),
	}
	// Ignored by a member that has data (etcd.io, "Configuration options", flags with the prefix
	// initial).
	begin := map[string]string{
		"initial-cluster":       strings.Join(members, ","),
		"initial-cluster-state": "new", "initial-cluster-token": n.etcdToken(),
	}
	return templates.Unit{
		Description: "etcd, the cluster's store", Type: "notify",
		Slice: stackSlice, Sandbox: templates.Sealed, User: n.etcdUser(), State: "etcd", Logs: n.etcdLogs(),
		Exec: n.path("etcd"), Args: flags(args, n.Cluster.Spec.Etcd.ExtraArgs), Begin: flags(begin, nil),
		OOMScoreAdjust: n.protect(-999),
	}
}

// etcdToken is hashed into the IDs of etcd's cluster and members, which accept no message of
// another cluster.
func (n Node) etcdToken() string {
	if n.Generation == "" {
		return n.Cluster.Metadata.Name
	}
	return n.Cluster.Metadata.Name + "-" + n.Generation
}

func peerURL(m spec.Machine) string {
	return "https://" + netip.AddrPortFrom(m.Address, etcdPeer).String()
}

// etcdUser is the user that etcd runs as; empty is root. Another user needs CAP_DAC_READ_SEARCH to
// read the keys, which root owns.
func (n Node) etcdUser() string {
	if !n.facts.ReadSearch {
		return ""
	}
	return EtcdAccount
}

// etcdLogs is etcd's directory below /var/log, if the spec has it write log files.
func (n Node) etcdLogs() string {
	if strings.Contains(n.Cluster.Spec.Etcd.ExtraArgs[spec.EtcdLogOutputs], spec.EtcdLogDir) {
		return EtcdAccount
	}
	return ""
}
