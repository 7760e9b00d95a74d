package diagnose

import (
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// ills has at least a row for each rule: what is done to a cluster that is well, and what is found.
var ills = []struct {
	name   string
	do     func(e *Evidence)
	want   string
	says   []string // somewhere in the first finding
	remedy string   // a command
}{
	{
		"machine gone", func(e *Evidence) {
			e.Hosts[3] = Host{Name: "worker-1", Role: spec.Worker, Hop: HopTCP, Problem: "no SSH at 10.0.0.1:22"}
			e.API.Nodes[3].Ready, e.API.Nodes[3].Reason = false, "NodeStatusUnknown"
			e.failPaths("worker-1", "", NodeNetwork, PodNetwork)
			e.API.Pods = pods(Pod{Namespace: "default", Owner: "Deployment/web", Reason: "Unschedulable", Message: "0/4 nodes are available: 4 node(s) had untolerated taint(s). preemption: none."}, 2)
		},
		"machine worker-1(node-network worker-1(node-not-ready worker-1, pod-network worker-1(pod-unschedulable)))",
		[]string{"hop TCP", "no SSH at"},
		"",
	},
	{"machine stopped", func(e *Evidence) { e.Hosts[3].Hop, e.Hosts[3].Problem = HopMachine, "it is exited" }, "machine worker-1", []string{"does not run", "it is exited"}, "slipway apply"},
	{"clock", func(e *Evidence) {
		e.Hosts[1].Offset = -10 * time.Minute
		e.Certificates[1].NotBefore = noon.Add(-time.Minute)
	}, "clock cp-2(certificate-not-yet-valid cp-2)", []string{"10m0s behind"}, "slipway ssh cp-2 -- timedatectl set-ntp true"},
	{"own clock", func(e *Evidence) {
		for i := range e.Hosts {
			e.Hosts[i].Offset = -2 * time.Hour
		}
	}, "clock(certificate-not-yet-valid cp-1, certificate-not-yet-valid cp-2, certificate-not-yet-valid cp-3, certificate-not-yet-valid worker-1)", []string{"this computer's clock"}, ""},
	{"disk full", func(e *Evidence) {
		e.Hosts[3].Disks[0].Free = 0
		e.API.Nodes[3].Pressure = map[string]string{"DiskPressure": "kubelet has disk pressure"}
		e.Hosts[3].set(stack.KubeletService, func(u *Unit) {
			u.Active, u.Sub, u.Result, u.Why = "activating", "auto-restart", "exit-code", "no space left on device"
		})
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Deployment/web", Reason: "Evicted", Node: "worker-1"}, 3)
	}, "disk-full worker-1(unit-kubelet.service worker-1(node-pressure worker-1(pod-evicted)))", []string{"the disk of / is full", "0 B of 100.0 GB"}, ""},
	{"inodes", func(e *Evidence) { e.Hosts[0].Disks[0].FreeInodes = 3 }, "disk-full cp-1", []string{"no inodes"}, ""},
	{"memory", func(e *Evidence) { e.Hosts[0].Facts["memavailable"] = "50000" }, "memory-low cp-1", []string{"51.2 MB of 8.2 GB"}, ""},
	{"processes", func(e *Evidence) { e.Hosts[0].Facts["pidmax"] = "510" }, "pids-exhausted cp-1", []string{"500 of 510"}, ""},
	{"forwarding", func(e *Evidence) {
		e.Hosts[3].Facts["net.ipv4.ip_forward"] = "0"
		e.Hosts[3].DNS = "10.96.0.10:53: no answer"
	}, "kernel-setting worker-1(dns)", nil, "slipway ssh worker-1 -- sysctl -w net.ipv4.ip_forward=1"},
	{"key", func(e *Evidence) {
		yes := true
		e.cert(func(c *Certificate) { c.Wanted = &yes })
		e.Hosts[3].Keys = []string{"/var/lib/kubelet/pki/kubelet.key"}
	}, "certificate-key worker-1", []string{"kubelet.key"}, "slipway apply"},
	{"another CA with a key of its own", func(e *Evidence) {
		e.cert(func(c *Certificate) { c.Wanted, c.Trust = &no, "unknown authority" })
		e.Hosts[3].Keys = []string{"/var/lib/kubelet/pki/kubelet.key"}
	}, "certificate-authority worker-1", []string{"another CA"}, "slipway apply"},
	{"expired", func(e *Evidence) {
		e.cert(func(c *Certificate) { c.NotAfter, c.Wanted, c.Trust = noon.Add(-time.Minute), &no, "unknown authority" })
		e.Hosts[3].set(stack.KubeletService, func(u *Unit) { u.Active, u.Sub, u.Result = "activating", "auto-restart", "exit-code" })
	}, "certificate-expired worker-1(unit-kubelet.service worker-1)", []string{"2026-11-27 11:59"}, "slipway apply"},
	{"expired CA", func(e *Evidence) {
		e.Certificates = append(e.Certificates, Certificate{Use: certs.Use{Place: certs.InState, Location: "etcd/ca", Name: "etcd/ca", NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(-time.Minute)}})
	}, "certificate-expired", nil, "slipway certs rotate-ca etcd"},
	{"not yet valid", func(e *Evidence) { e.cert(func(c *Certificate) { c.NotBefore = noon.Add(time.Minute) }) }, "certificate-not-yet-valid worker-1", nil, "slipway apply"},
	{"names", func(e *Evidence) { e.cert(func(c *Certificate) { c.Names = []string{"10.89.0.14"} }) }, "certificate-names worker-1", []string{"lacks 10.89.0.14"}, "slipway apply"},
	{"no certificate", func(e *Evidence) {
		e.cert(func(c *Certificate) {
			c.Use = certs.Use{Host: c.Host, Place: c.Place, Location: c.Location, Name: c.Name, Error: "there is no such file"}
		})
	}, "certificate-missing worker-1", []string{"there is no such file"}, "slipway apply"},
	{"other certificate", func(e *Evidence) { e.cert(func(c *Certificate) { c.Wanted = &no }) }, "certificate-differs worker-1", nil, "slipway apply"},
	{"served", func(e *Evidence) {
		e.cert(func(c *Certificate) { c.Place, c.OnDisk = certs.Served, &no })
	}, "certificate-served worker-1", []string{"served from memory"}, ""},
	{"kubeconfig", func(e *Evidence) {
		e.Hosts[3].Servers = []Server{{"/etc/kubernetes/kubelet.conf", "https://10.0.0.9:6443", "https://127.0.0.1:6444"}}
		e.API.Nodes = e.API.Nodes[:3]
	}, "kubeconfig worker-1(node-missing worker-1)", []string{"https://10.0.0.9:6443"}, "slipway apply"},
	{"no CNI", func(e *Evidence) {
		e.Hosts[3].CNI = CNI{Plugins: []string{"flannel"}}
		e.API.Nodes[3].Ready, e.API.Nodes[3].Reason = false, "KubeletNotReady"
	}, "cni-config worker-1(node-not-ready worker-1)", nil, "slipway apply"},
	{"no CNI plugin", func(e *Evidence) { e.Hosts[3].CNI.Plugins = []string{"portmap"} }, "cni-plugins worker-1", []string{"missing: flannel"}, "slipway apply"},
	{"firewall", func(e *Evidence) {
		e.failPaths("worker-1", "", ToAPI)
		e.Hosts[3].Drops = []string{"-A INPUT -p udp -m udp --dport 53 -j DROP", "-A OUTPUT -p tcp -m tcp --dport 6443 -j DROP"}
		e.Hosts[3].Health[1].Error = "timeout"
		if unit := e.Hosts[3].Health[1].Unit; unit != stack.BalancerService {
			panic(unit)
		}
	}, "node-network worker-1(balancer-down worker-1)", []string{"6443/tcp"}, "slipway ssh worker-1 -- iptables -D OUTPUT -p tcp -m tcp --dport 6443 -j DROP"},
	{"two nodes", func(e *Evidence) { e.failPaths("cp-1", "worker-1", NodeNetwork, PodNetwork) }, "node-network(pod-network)", []string{"cp-1 and worker-1"}, ""},
	{"containerd", func(e *Evidence) {
		h := &e.Hosts[3]
		h.set("containerd.service", func(u *Unit) { u.Load, u.File, u.Active, u.Sub = "masked", "masked", "inactive", "dead" })
		h.set(stack.KubeletService, func(u *Unit) { u.Active, u.Sub, u.Result = "activating", "auto-restart", "exit-code" })
		e.API.Nodes[3].Ready = false
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Deployment/web", Reason: "Pending", Node: "worker-1"}, 1)
	}, "unit-containerd.service worker-1(unit-kubelet.service worker-1(node-not-ready worker-1(pod-stuck)))", []string{"masked"}, "slipway apply"},
	{"kubelet stopped", func(e *Evidence) { e.Hosts[3].set(stack.KubeletService, stopped) }, "unit-kubelet.service worker-1", []string{"is stopped"}, "slipway ssh worker-1 -- systemctl start kubelet"},
	{"kubelet loops", func(e *Evidence) {
		e.Hosts[3].set(stack.KubeletService, func(u *Unit) { u.Restarts, u.For, u.Why = 12, time.Second, "failed to load config" })
	}, "unit-kubelet.service worker-1", []string{"12 restarts", "failed to load config"}, "slipway apply"},
	{"kubelet starts", func(e *Evidence) {
		e.Hosts[3].set(stack.KubeletService, func(u *Unit) { u.Active, u.Sub, u.For = "activating", "start", 5*time.Second })
	}, "", nil, ""},
	{"no unit file", func(e *Evidence) {
		e.Hosts[3].set("kube-proxy.service", func(u *Unit) { u.Load, u.Active = "not-found", "inactive" })
		e.Hosts[3].ProxyRules = 0
	}, "unit-kube-proxy.service worker-1(proxy-rules worker-1)", []string{"no unit file"}, "slipway apply"},
	{"images", func(e *Evidence) {
		e.Hosts[3].set(stack.ImagesService, func(u *Unit) { u.Active, u.Sub, u.Result, u.Status = "failed", "failed", "exit-code", 1 })
	}, "unit-slipway-images.service worker-1", []string{"exit-code, status 1"}, "slipway apply"},
	{"flanneld", func(e *Evidence) {
		e.Hosts[3].set(stack.FlannelService, stopped)
		e.failPaths("worker-1", "", PodNetwork)
		e.Hosts[0].DNS = "no answer"
	}, "unit-flanneld.service worker-1(pod-network worker-1(dns))", nil, "slipway ssh worker-1 -- systemctl start flanneld"},
	{"disabled", func(e *Evidence) { e.Hosts[0].set(stack.EtcdService, func(u *Unit) { u.File = "disabled" }) }, "unit-disabled cp-1", nil, "slipway ssh cp-1 -- systemctl enable etcd"},
	{"one etcd", func(e *Evidence) {
		e.Hosts[1].set(stack.EtcdService, stopped)
		e.Etcd.Members[1] = Member{Name: "cp-2", Known: true, Expected: true, Out: true, Error: "connection refused"}
		e.API.Servers[1].Error = "/readyz: etcd failed"
	}, "unit-etcd.service cp-2(etcd-member-down cp-2(api-server-down cp-2))", nil, "slipway ssh cp-2 -- systemctl start etcd"},
	{"an etcd without its data", func(e *Evidence) {
		e.Hosts[1].set(stack.EtcdService, stopped)
		e.Hosts[1].Facts["etcddata"] = "missing"
		e.Etcd.Members[1] = Member{Name: "cp-2", Known: true, Expected: true, Out: true, Error: "connection refused"}
		e.API.Servers[1].Error = "/readyz: etcd failed"
	}, "unit-etcd.service cp-2(etcd-member-down cp-2(api-server-down cp-2))", []string{"its data is missing"}, "slipway plan"},
	{"an etcd whose data is damaged", func(e *Evidence) {
		e.Hosts[1].set(stack.EtcdService, func(u *Unit) { u.Active, u.Sub, u.Result, u.Restarts = "activating", "auto-restart", "exit-code", 9 })
		e.Hosts[1].Facts["etcddata"] = "damaged"
		e.Etcd.Members[1] = Member{Name: "cp-2", Known: true, Expected: true, Out: true, Error: "connection refused"}
		e.API.Servers[1].Error = "/readyz: etcd failed"
	}, "unit-etcd.service cp-2(etcd-member-down cp-2(api-server-down cp-2))", []string{"its data is damaged"}, "slipway plan"},
	{"two etcds", func(e *Evidence) {
		for i := range 3 {
			e.API.Servers[i].Error = "/readyz: etcd failed"
			e.Etcd.Members[i].Answers = false
		}
		for _, i := range []int{1, 2} {
			e.Hosts[i].set(stack.EtcdService, stopped)
			e.Etcd.Members[i] = Member{Name: e.Hosts[i].Name, Known: true, Expected: true, Out: true, Error: "connection refused"}
		}
		e.API.Error = "no API server is ready"
		e.API.Nodes, e.API.Leases = nil, nil
		e.Hosts[3].Health[1].Error = "timeout"
	}, "unit-etcd.service cp-2(etcd-member-down cp-2); unit-etcd.service cp-3(etcd-member-down cp-3(etcd-no-quorum(" +
		"api-server-down cp-1, api-server-down cp-2, api-server-down cp-3(api-down(balancer-down worker-1)))))", nil, "slipway ssh cp-2 -- systemctl start etcd"},
	{"no etcd answers", func(e *Evidence) {
		e.Etcd = Etcd{Asked: true, Error: "no member of etcd answers", Members: []Member{{Name: "cp-1", Expected: true}, {Name: "cp-2", Expected: true}, {Name: "cp-3", Expected: true}}}
	}, "etcd-member-down cp-1; etcd-member-down cp-2; etcd-member-down cp-3(etcd-no-quorum)", nil, "slipway ssh cp-1 -- systemctl restart etcd"},
	{"etcd full", func(e *Evidence) { e.Etcd.Members[0].Alarms = []string{"NOSPACE"} }, "etcd-no-space", []string{"alarm NOSPACE on cp-1"}, "alarm disarm"},
	{"etcd nearly full", func(e *Evidence) { e.Etcd.Members[0].DBSize = 7 << 30 }, "info etcd-space cp-1", nil, ""},
	{"etcd corrupt", func(e *Evidence) { e.Etcd.Members[2].Alarms = []string{"CORRUPT"} }, "etcd-corrupt cp-3", nil, ""},
	{"unknown member", func(e *Evidence) { e.Etcd.Members[2] = Member{Name: "cp-3", Expected: true} }, "etcd-member-unknown cp-3", []string{"unknown to the others"}, "slipway plan"},
	{"learner", func(e *Evidence) { e.Etcd.Members[2].Learner = true }, "etcd-member-unknown cp-3", []string{"learner"}, "slipway apply"},
	{"left member", func(e *Evidence) {
		e.Etcd.Members = append(e.Etcd.Members, Member{Name: "old", ID: "ab12", Known: true, Error: "not asked"})
	}, "etcd-member-unknown", []string{"a member old"}, "member remove ab12"},
	{"two clusters", func(e *Evidence) { e.Etcd.Members[2].Cluster = "c2" }, "etcd-member-unknown", []string{"different clusters"}, ""},
	{"slow etcd", func(e *Evidence) { e.Etcd.Members[1].Fsync = 300 * time.Millisecond }, "etcd-slow cp-2", []string{"300ms"}, ""},
	{"API server", func(e *Evidence) { e.API.Servers[0].Error = "timeout" }, "api-server-down cp-1", []string{"timeout"}, ""},
	{"API server stopped", func(e *Evidence) {
		e.Hosts[0].set(stack.APIServerService, stopped)
		e.API.Servers[0].Error = "refused"
	}, "unit-kube-apiserver.service cp-1(api-server-down cp-1)", nil, "slipway ssh cp-1 -- systemctl start kube-apiserver"},
	{"API", func(e *Evidence) { e.API = API{Asked: true, Error: "no API server is ready"} }, "api-down", nil, "slipway apply"},
	{"balancer", func(e *Evidence) {
		e.Hosts[3].set(stack.BalancerService, stopped)
		e.Hosts[3].Health[1].Error = "refused"
	}, "unit-slipway-balancer.service worker-1(balancer-down worker-1)", nil, "slipway ssh worker-1 -- systemctl start slipway-balancer"},
	{"balancer alone", func(e *Evidence) { e.Hosts[3].Health[1].Error = "503" }, "balancer-down worker-1", []string{"503"}, "slipway ssh worker-1 -- systemctl restart slipway-balancer"},
	{"no leader", func(e *Evidence) {
		e.API.Leases[4].Age = 10 * time.Minute
		for i := range 3 {
			e.Hosts[i].set("kube-controller-manager.service", stopped)
		}
	}, "unit-kube-controller-manager.service cp-1; unit-kube-controller-manager.service cp-2; unit-kube-controller-manager.service cp-3(leader-silent)", nil, "slipway ssh cp-1 -- systemctl start kube-controller-manager"},
	{"scheduler", func(e *Evidence) { e.Hosts[0].set("kube-scheduler.service", stopped) }, "unit-kube-scheduler.service cp-1", nil, "slipway ssh cp-1 -- systemctl start kube-scheduler"},
	{"no lease", func(e *Evidence) { e.API.Leases = e.API.Leases[:5] }, "leader-silent", []string{"no kube-scheduler leads", "no lease"}, ""},
	{"unhealthy", func(e *Evidence) { e.Hosts[3].Health[3].Error = "500 sync loop" }, "health worker-1", []string{"500 sync loop"}, "slipway ssh worker-1 -- systemctl restart kubelet"},
	{"not joined", func(e *Evidence) { e.API.Nodes = e.API.Nodes[:3] }, "node-missing worker-1", []string{"the API server, which does not accept it"}, "slipway apply"},
	{"not joined: network", func(e *Evidence) {
		e.API.Nodes = e.API.Nodes[:3]
		e.failPaths("worker-1", "", ToAPI)
	}, "node-network worker-1(node-missing worker-1)", nil, ""},
	{"not ready", func(e *Evidence) {
		e.API.Nodes[3].Ready, e.API.Nodes[3].Message = false, "NetworkPluginNotReady"
	}, "node-not-ready worker-1", nil, "slipway ssh worker-1 -- systemctl restart containerd"},
	{"pressure", func(e *Evidence) { e.API.Nodes[3].Pressure = map[string]string{"PIDPressure": "too many"} }, "node-pressure worker-1", []string{"PIDPressure", "too many"}, ""},
	{"vxlan", func(e *Evidence) {
		e.failPaths("cp-1", "worker-1", PodNetwork)
		e.Hosts[0].Drops = []string{"-A INPUT -s 10.89.0.14/32 -p udp -m udp --dport 8472 -j DROP"}
	}, "pod-network", []string{"between cp-1 and worker-1", "8472"}, "slipway ssh cp-1 -- iptables -D INPUT -s 10.89.0.14/32 -p udp -m udp --dport 8472 -j DROP"},
	{"vxlan of one", func(e *Evidence) { e.failPaths("cp-1", "", PodNetwork) }, "pod-network cp-1", []string{"UDP on port 8472"}, ""},
	{"no proxy rules", func(e *Evidence) { e.Hosts[3].ProxyRules = 0 }, "proxy-rules worker-1", nil, "slipway ssh worker-1 -- systemctl restart kube-proxy"},
	{"image", func(e *Evidence) {
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Deployment/web", Reason: "ImagePullBackOff", Message: "Back-off", Image: "nosuch:1", Node: "worker-1"}, 3)
		e.API.Events = []Event{{Object: "Pod default/web-0", Reason: "Failed", Message: `Failed to pull image "nosuch:1": no such host`}}
	}, "image", []string{"deployment/web in default (3 pods): the image nosuch:1", "no such host"}, ""},
	{"crash", func(e *Evidence) {
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Pod/web", Reason: "CrashLoopBackOff", Container: "c", Restarts: 4, ExitCode: 3, LastLine: "cannot open file"}, 1)
	}, "crash-loop", []string{"exit code 3", "cannot open file", "4 restarts"}, ""},
	{"out of memory", func(e *Evidence) {
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Pod/web", Reason: "CrashLoopBackOff", Last: "OOMKilled"}, 1)
	}, "crash-loop", []string{"OOMKilled", "memory limit"}, ""},
	{"no ConfigMap", func(e *Evidence) {
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Pod/web", Reason: "CreateContainerConfigError", Message: `configmap "x" not found`}, 1)
	}, "container-config", []string{`configmap "x" not found`}, ""},
	{"evicted", func(e *Evidence) {
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Pod/web", Reason: "Evicted"}, 1)
	}, "pod-evicted", nil, "kubectl -n default delete pod --field-selector=status.phase=Failed"},
	{"unschedulable", func(e *Evidence) {
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Pod/web", Reason: "Unschedulable", Message: "0/4 nodes are available: 3 Insufficient cpu. preemption: 0/4 nodes are available."}, 1)
	}, "pod-unschedulable", []string{"0/4 nodes fit: 3 Insufficient cpu"}, ""},
	{"stuck", func(e *Evidence) {
		e.API.Pods = pods(Pod{Namespace: "default", Owner: "Pod/web", Reason: "Pending", Node: "worker-1"}, 1)
		e.API.Events = []Event{{Object: "Pod default/web-0", Reason: "FailedMount", Message: "no volume"}}
	}, "pod-stuck", []string{"FailedMount: no volume"}, ""},
	{"CoreDNS at zero", func(e *Evidence) {
		e.API.DNS = DNS{Exists: true}
		e.API.Nodes[3].Ready = false
		for i := range e.Hosts {
			e.Hosts[i].DNS = "refused"
		}
	}, "node-not-ready worker-1; coredns-off(dns)", nil, ""},
	{"no CoreDNS", func(e *Evidence) { e.API.DNS = DNS{} }, "coredns-off", []string{"not installed"}, "slipway apply"},
	{"CoreDNS not ready", func(e *Evidence) {
		e.API.DNS.Ready, e.API.DNS.Endpoints = 0, 0
		e.API.Pods = pods(Pod{Namespace: "kube-system", Owner: "Deployment/coredns", Reason: "ErrImagePull", Node: "cp-1"}, 1)
		e.Hosts[2].DNS = "no answer"
	}, "image(coredns(dns))", nil, ""},
	{"DNS", func(e *Evidence) { e.Hosts[2].DNS = "10.96.0.10:53 answers SERVFAIL" }, "dns", []string{"from cp-3", "SERVFAIL"}, "kubectl -n kube-system rollout restart deployment coredns"},
	{"webhook", func(e *Evidence) {
		e.API.Webhooks = []Webhook{
			{Kind: "validatingwebhookconfiguration", Config: "blocker", Name: "b.example.com", Fail: true, Service: "default/x", Problem: "there is no Service default/x"},
			{Kind: "validatingwebhookconfiguration", Config: "lax", Name: "l.example.com", Service: "default/x", Problem: "there is no Service default/x"},
			{Kind: "mutatingwebhookconfiguration", Config: "well", Name: "w.example.com", Fail: true, Service: "default/y"},
		}
	}, "webhook", []string{"b.example.com", "no Service default/x"}, "kubectl delete validatingwebhookconfiguration blocker"},
	{"webhook that was tried", func(e *Evidence) {
		e.API.Webhooks = []Webhook{{Kind: "mutatingwebhookconfiguration", Config: "slow", Name: "s.example.com", Fail: true, Service: "default/y"}}
		e.API.Tries = []string{`failed calling webhook "s.example.com": context deadline exceeded`}
	}, "webhook", []string{"deadline exceeded"}, "kubectl delete mutatingwebhookconfiguration slow"},
	{"API without a server", func(e *Evidence) {
		e.API.APIServices = []APIService{{Name: "v1.x", Service: "default/x", Problem: "ServiceNotFound: none"}, {Name: "v1.y", Service: "default/y"}}
		e.API.Terminating = []Namespace{{Name: "gone", For: time.Hour, Why: []string{"Discovery failed"}}, {Name: "going", For: time.Second}}
	}, "api-service(namespace-stuck)", []string{"ServiceNotFound"}, "kubectl delete apiservice v1.x"},
	{
		"never installed", func(e *Evidence) {
			*e = Evidence{Cluster: e.Cluster, Taken: e.Taken, Version: e.Version, Hosts: e.Hosts[3:]}
			for i := range e.Hosts {
				h := &e.Hosts[i]
				h.CNI, h.Health, h.ProxyRules = CNI{}, nil, 0
				for u := range h.Units {
					h.Units[u] = Unit{Name: h.Units[u].Name, Load: "not-found", Active: "inactive", Sub: "dead"}
				}
				e.Certificates = append(e.Certificates, Certificate{Use: certs.Use{Host: h.Name, Place: certs.InFile, Location: "/x", Name: "x", Error: "there is no such file"}})
			}
		}, "not-installed(certificate-missing worker-1, cni-config worker-1, unit-containerd.service worker-1(unit-slipway-images.service worker-1(" +
			"unit-kubelet.service worker-1)), unit-slipway-balancer.service worker-1(unit-kube-proxy.service worker-1, unit-flanneld.service worker-1))",
		[]string{"has not been installed", "on worker-1"},
		"slipway apply",
	},
	{"skew", func(e *Evidence) {
		e.API.Nodes[0].Version, e.API.Nodes[1].Version, e.API.Nodes[2].Version = "v1.37.0", "v1.33.9", "v1.32.1"
	}, "version-skew cp-1; version-skew cp-3", nil, "slipway apply"},
	{"token", func(e *Evidence) {
		e.API.Tokens = []Token{{ID: "abcdef", Expires: noon, Expired: true}, {ID: "ghijkl"}}
	}, "info token-expired", []string{"abcdef"}, ""},
	{"drift", func(e *Evidence) {
		e.Drift = map[string][]string{"cp-1": {"/etc/a"}, "cp-2": {"/etc/a"}, "": {"ConfigMap x"}}
	}, "info drift", []string{"3 differences on cp-1, cp-2"}, "slipway apply"},
	{"drift of a cause", func(e *Evidence) {
		e.Hosts[3].set(stack.KubeletService, stopped)
		e.Drift = map[string][]string{"worker-1": {"kubelet.service"}}
	}, "unit-kubelet.service worker-1(drift)", nil, "slipway ssh worker-1 -- systemctl start kubelet"},
	{"cordoned", func(e *Evidence) { e.API.Nodes[3].Cordoned = true }, "info cordoned worker-1", nil, "kubectl uncordon worker-1"},
	{"expires", func(e *Evidence) {
		e.cert(func(c *Certificate) { c.NotBefore, c.NotAfter = noon.Add(-1000*time.Hour), noon.Add(24*time.Hour) })
	}, "info certificate-expires worker-1", nil, ""},
	{"swap", func(e *Evidence) { e.Hosts[0].Facts["swaps"] = "1" }, "info swap cp-1", nil, ""},
	{"reboot", func(e *Evidence) { e.Hosts[0].Uptime = time.Minute }, "info reboot cp-1", nil, ""},
}
