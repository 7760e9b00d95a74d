package stack

import (
	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/templates"
)

const (
	controllerManagerPort = 10257
	controllerManagerConf = "controller-manager.kubeconfig"
)

// controllerManager is a control plane's kube-controller-manager.
var controllerManager = Component{
	Name: "kube-controller-manager", On: Node.ControlPlane,
	Unit: &Service{
		Name: "kube-controller-manager.service", Text: controllerManagerUnit, Programs: []string{"kube-controller-manager"},
		Files:    []string{KubernetesDir + "/" + controllerManagerConf, PKIDir + "/sa.key", certs.RootCAFile, CAFile},
		Issuers:  []string{certs.KubernetesCA},
		Health:   "https://127.0.0.1:10257/healthz",
		MaxAge:   LoopbackAge,
		Disturbs: "another control plane takes the lead; pods continue to run", IfSingle: "controllers pause for a moment; pods continue to run",
	},
	Programs: []string{"kube-controller-manager"},
	Kubeconfigs: []Kubeconfig{
		{Name: controllerManagerConf, User: "system:kube-controller-manager", Port: APIPort, Cert: PKIDir + "/controller-manager"},
	},
	Embedded: []EmbeddedKubeconfig{{
		Name: "controller-manager.conf", User: "system:kube-controller-manager", Port: APIPort,
		Item: func(n string) string { return "controller-manager@" + n },
	}},
	Endpoints: []Endpoint{{
		ControlPlane: true, Loopback: true, Port: controllerManagerPort,
		Cert: PKIDir + "/controller-manager-server.crt", Server: certs.KubernetesCA, Client: certs.KubernetesCA, Path: "/metrics",
	}},
	Clients: []Client{{Cert: PKIDir + "/controller-manager.crt", Port: APIPort, Mixed: true}},
}

func controllerManagerUnit(n Node) templates.Unit {
	conf := KubernetesDir + "/" + controllerManagerConf
	network := n.Cluster.Spec.Network
	args := map[string]string{
		"kubeconfig": conf, "authentication-kubeconfig": conf, "authorization-kubeconfig": conf,
		"allocate-node-cidrs": "true", "cluster-cidr": network.PodSubnet, "service-cluster-ip-range": network.ServiceSubnet,
		"bind-address": "127.0.0.1", "cluster-name": n.Cluster.Metadata.Name,
		"client-ca-file": PKIDir + "/ca.crt", "requestheader-client-ca-file": PKIDir + "/front-proxy-ca.crt",
		"controllers":  "*,bootstrapsigner,tokencleaner",
		"leader-elect": "true",
		// The default of 20 requests a second makes a new cluster wait 10 s for its pod networks, while some 40
		// controllers fetch their tokens one after another.
		"kube-api-qps": "100", "kube-api-burst": "200",
		"profiling":                        "false",
		"root-ca-file":                     certs.RootCAFile,
		"service-account-private-key-file": PKIDir + "/sa.key", "use-service-account-credentials": "true",
		"tls-cert-file": PKIDir + "/controller-manager-server.crt", "tls-private-key-file": PKIDir + "/controller-manager-server.key",
		"tls-min-version": "VersionTLS12",
	}
	if n.PKI.Signs(certs.KubernetesCA) { // without these, nothing signs CertificateSigningRequests
		args["cluster-signing-cert-file"], args["cluster-signing-key-file"] = certs.SignerFile, PKIDir+"/ca.key"
		args["cluster-signing-duration"] = n.Cluster.Spec.PKI.CSRDuration().String()
	}
	return templates.Unit{
		Description: "kube-controller-manager", Type: "simple", After: []string{APIServerService},
		Slice: stackSlice, Sandbox: templates.Sealed,
		Exec: n.path("kube-controller-manager"), Args: flags(args, n.Cluster.Spec.Kubernetes.ControllerManager.ExtraArgs),
		OOMScoreAdjust: n.protect(-997),
	}
}
