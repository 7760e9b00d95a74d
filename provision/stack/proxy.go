package stack

import (
	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/templates"
)

const (
	proxyFile = KubernetesDir + "/kube-proxy.yaml"
	proxyConf = "kube-proxy.conf"
)

// proxy is kube-proxy, which forwards connections to Services.
var proxy = Component{
	Name: "kube-proxy", On: Everywhere,
	Unit: &Service{
		Name: "kube-proxy.service", Text: proxyUnit, Programs: []string{"kube-proxy"},
		Files:   []string{proxyFile, KubernetesDir + "/" + proxyConf, CAFile},
		Issuers: []string{certs.KubernetesCA},
		Health:  "http://127.0.0.1:10256/healthz", Late: true,
		Disturbs: "connections continue; changes of Services arrive a moment later",
	},
	Files:       []ConfigFile{{Path: proxyFile, Render: Node.proxyConfig}},
	Programs:    []string{"kube-proxy"},
	Kubeconfigs: []Kubeconfig{{Name: proxyConf, User: "system:kube-proxy", Port: BalancerPort, Cert: PKIDir + "/kube-proxy"}},
	Clients:     []Client{{Cert: PKIDir + "/kube-proxy.crt", Port: BalancerPort}},
	Modules: func(n Node) []string {
		if n.ProxyMode != "ipvs" {
			return nil
		}
		return []string{"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack"}
	},
}

func proxyUnit(n Node) templates.Unit {
	return templates.Unit{
		Description: "kube-proxy", Type: "simple", After: []string{BalancerService},
		Slice: stackSlice, Sandbox: templates.Fenced,
		Exec: n.path("kube-proxy"), Args: flags(map[string]string{"config": proxyFile}, n.Cluster.Spec.Kubernetes.Proxy.ExtraArgs),
		OOMScoreAdjust: n.protect(-999),
	}
}

func (n Node) proxyConfig() ([]byte, error) {
	return templates.Proxy{
		NodeName: n.Name, PodSubnet: n.Cluster.Spec.Network.PodSubnet, Mode: n.ProxyMode,
		ConntrackWritable: n.facts.ConntrackWritable, RestrictOOMScoreAdj: !n.facts.SysResource,
		Patch: n.Cluster.Spec.Kubernetes.Proxy.ConfigPatch,
	}.Render()
}
