package preflight

import (
	"fmt"
	"slices"
	"strings"
)

// installers are other installers of Kubernetes, and the files by which they are known. The commands
// with which they uninstall are not advised: a machine that is listed by mistake may be another
// cluster's, and they remove its data.
var installers = []struct {
	name  string
	marks []string
}{
	{
		"kubeadm",
		[]string{
			"/etc/kubernetes/manifests", "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/admin.conf", "/var/lib/kubelet/kubeadm-flags.env",
			"/etc/systemd/system/kubelet.service.d/10-kubeadm.conf", "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
		},
	},
	{
		"k3s",
		[]string{"/etc/rancher/k3s", "/var/lib/rancher/k3s", "/etc/systemd/system/k3s.service", "/etc/systemd/system/k3s-agent.service"},
	},
	{
		"RKE2",
		[]string{"/etc/rancher/rke2", "/var/lib/rancher/rke2"},
	},
	{"k0s", []string{"/etc/k0s", "/var/lib/k0s"}},
	{"MicroK8s", []string{"/var/snap/microk8s"}},
}

// leftoverPaths are the paths that hosts are asked for.
func leftoverPaths() []string {
	var all []string
	for _, i := range installers {
		for _, mark := range i.marks {
			if mark != "/etc/kubernetes/manifests" { // an empty one is in some packages: its files count
				all = append(all, mark)
			}
		}
	}
	return all
}

func checkLeftovers(n *Node, _ *Situation) []Finding {
	var all []Finding
	for _, i := range installers {
		var marks []string
		for _, path := range n.Facts.Leftovers {
			if slices.ContainsFunc(i.marks, func(m string) bool { return path == m || strings.HasPrefix(path, m+"/") }) {
				marks = append(marks, path)
			}
		}
		if len(marks) == 0 {
			continue
		}
		const format = "%s has left %s: if the machine is another cluster's, take it out of the spec; if not, uninstall %[1]s, or move that away"
		all = append(all, found(moveAway(marks), format, i.name, strings.Join(marks, ", "))...)
	}
	return all
}

// moveAway renames files, so that nothing reads them and nothing is lost.
func moveAway(paths []string) string {
	words := make([]string, len(paths))
	for i, p := range paths {
		words[i] = word(p)
	}
	if len(paths) == 1 {
		return fmt.Sprintf("mv %s %s", words[0], word(paths[0]+".old"))
	}
	return "for f in " + strings.Join(words, " ") + `; do mv "$f" "$f.old"; done`
}

func checkCNI(n *Node, _ *Situation) []Finding {
	var files []string
	for _, path := range n.Facts.Leftovers {
		if strings.HasPrefix(path, "/etc/cni/net.d/") {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil
	}
	return found(moveAway(files), "there is the network configuration %s, and containerd uses the first by name", strings.Join(files, ", "))
}

func checkProcesses(n *Node, _ *Situation) []Finding {
	var all []Finding
	for _, p := range n.Facts.Processes {
		unit := p.Unit
		if unit == "" {
			unit = "no unit"
		}
		all = append(all, found(stopCommand(p.PID, p.Unit), "%s runs that slipway has not started (process %s, %s)", p.Command, p.PID, unit)...)
	}
	return all
}

// chainTools are what lists the rules of a kube-proxy.
var chainTools = []string{"iptables-save", "iptables-legacy-save", "nft"}

func checkChains(n *Node, _ *Situation) []Finding {
	count := map[string]int{}
	var order []string
	for _, line := range n.Facts.Chains {
		tool, _, _ := strings.Cut(line, " ")
		if !slices.Contains(chainTools, tool) {
			continue // it becomes part of a command
		}
		if count[tool]++; count[tool] == 1 {
			order = append(order, tool)
		}
	}
	if count["iptables-save"] > 0 && count["iptables-legacy-save"] == count["iptables-save"] {
		order = slices.DeleteFunc(order, func(tool string) bool { return tool == "iptables-legacy-save" }) // it is the same program
	}
	var all []Finding
	for _, tool := range order {
		if tool == "nft" {
			all = append(all, found("nft delete table ip kube-proxy; nft delete table ip6 kube-proxy",
				"another kube-proxy has left the table kube-proxy (nft list tables)")...)
			continue
		}
		restore := strings.Replace(tool, "-save", "-restore", 1)
		all = append(all, found(tool+" | grep -v KUBE- | "+restore, "another kube-proxy or kubelet has left %d chains KUBE-* (%s)", count[tool], tool)...)
	}
	return all
}
