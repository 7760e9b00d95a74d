package stack

import (
	"slipway.dev/slipway/templates"
)

const (
	containerdService = "containerd.service"
	containerdFile    = "/etc/containerd/config.toml"
	pauseImage        = "image/pause"
	// stableRunc is runc at a path that does not change with its version: a container's shim uses
	// that path as long as the container lives.
	stableRunc = ProgramDir + "bin/runc"
)

// containerd runs containers. It includes the CNI plugins that every network needs.
var containerd = Component{
	Name: "containerd", On: Everywhere,
	Unit: &Service{
		Name: containerdService, Text: containerdUnit,
		Programs: []string{"containerd"}, Files: []string{containerdFile},
		Disturbs: "containers continue to run; pods are started and stopped a moment later",
	},
	Files:    []ConfigFile{{Path: containerdFile, Render: Node.containerdConfig}},
	Programs: []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc"},
	Plugins:  []string{"bridge", "loopback", "host-local", "portmap"},
	Images:   []string{pauseImage},
	Commands: []Command{{"runc", stableRunc}, {"ctr", commandDir + "ctr"}},
}

func containerdUnit(n Node) templates.Unit {
	return templates.Unit{
		Description: "containerd, the container runtime", Type: "notify",
		Exec: n.path("containerd"), Args: []string{"--config=" + containerdFile},
		Env:      []string{"PATH=" + n.binDir("containerd") + ":" + n.binDir("runc") + ":" + searchPath},
		Delegate: true, KillProcess: true, OOMScoreAdjust: n.protect(-999),
	}
}

func (n Node) containerdConfig() ([]byte, error) {
	var dirs []string
	for _, c := range n.components {
		if len(c.Plugins) > 0 {
			dirs = append(dirs, n.binDir(c.Plugins[0]))
		}
	}
	return templates.Containerd{
		PauseImage: n.set[pauseImage].Image, Runc: stableRunc,
		SystemdCgroup: n.facts.CgroupV2, RestrictOOMScoreAdj: !n.facts.SysResource,
		CNIBinDirs: append(dirs, "/opt/cni/bin"),
	}.Render()
}
