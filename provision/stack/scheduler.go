package stack

import (
	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/templates"
)

const (
	schedulerPort = 10259
	schedulerFile = KubernetesDir + "/kube-scheduler.yaml"
	schedulerConf = "scheduler.kubeconfig"
)

// scheduler is a control plane's kube-scheduler.
var scheduler = Component{
	Name: "kube-scheduler", On: Node.ControlPlane,
	Unit: &Service{
		Name: "kube-scheduler.service", Text: schedulerUnit, Programs: []string{"kube-scheduler"},
		Files:    []string{schedulerFile, KubernetesDir + "/" + schedulerConf, CAFile},
		Issuers:  []string{certs.KubernetesCA},
		Health:   "https://127.0.0.1:10259/healthz",
		MaxAge:   LoopbackAge,
		Disturbs: "another control plane takes the lead; pods continue to run", IfSingle: "new pods wait for a moment; pods continue to run",
	},
	Files:    []ConfigFile{{Path: schedulerFile, Render: Node.schedulerConfig}},
	Programs: []string{"kube-scheduler"},
	Kubeconfigs: []Kubeconfig{
		{Name: schedulerConf, User: "system:kube-scheduler", Port: APIPort, Cert: PKIDir + "/scheduler"},
	},
	Embedded: []EmbeddedKubeconfig{{
		Name: "scheduler.conf", User: "system:kube-scheduler", Port: APIPort,
		Item: func(n string) string { return "scheduler@" + n },
	}},
	Endpoints: []Endpoint{{
		ControlPlane: true, Loopback: true, Port: schedulerPort,
		Cert: PKIDir + "/scheduler-server.crt", Server: certs.KubernetesCA, Client: certs.KubernetesCA, Path: "/metrics",
	}},
	Clients: []Client{{Cert: PKIDir + "/scheduler.crt", Port: APIPort}},
}

func schedulerUnit(n Node) templates.Unit {
	conf := KubernetesDir + "/" + schedulerConf
	args := map[string]string{
		"config": schedulerFile, "authentication-kubeconfig": conf, "authorization-kubeconfig": conf,
		"bind-address": "127.0.0.1", "client-ca-file": PKIDir + "/ca.crt",
		"requestheader-client-ca-file": PKIDir + "/front-proxy-ca.crt",
		"tls-cert-file":                PKIDir + "/scheduler-server.crt", "tls-private-key-file": PKIDir + "/scheduler-server.key",
		"tls-min-version": "VersionTLS12",
		// The configuration says so, too; auditors check the command line.
		"profiling": "false",
	}
	return templates.Unit{
		Description: "kube-scheduler", Type: "simple", After: []string{APIServerService},
		Slice: stackSlice, Sandbox: templates.Sealed,
		Exec: n.path("kube-scheduler"), Args: flags(args, n.Cluster.Spec.Kubernetes.Scheduler.ExtraArgs),
		OOMScoreAdjust: n.protect(-997),
	}
}

func (n Node) schedulerConfig() ([]byte, error) {
	return templates.Scheduler{Patch: n.Cluster.Spec.Kubernetes.Scheduler.ConfigPatch}.Render()
}
