package stack

import (
	"slipway.dev/slipway/templates"
)

// timerRow is a program that runs now and then. Its timer is a unit like others; its service is only a file: it is not
// enabled, and not active in between.
type timerRow struct {
	name        string // of both, without the suffix
	description string
	every       string
	on          func(Node) bool
	service     func(Node) templates.Unit
}

var timerTable = []timerRow{{
	name: "slipway-certificates", description: "Look when this node's certificates end", every: "1h",
	on: Node.expiryMetrics, service: certificatesUnit,
}}

func (r timerRow) timer() string { return r.name + ".timer" }

func (r timerRow) program() string { return r.name + ".service" }

func (n Node) expiryMetrics() bool { return n.Cluster.Spec.PKI.ExpiryMetrics.Directory != "" }

func certificatesUnit(n Node) templates.Unit {
	args := map[string]string{"directory": n.Cluster.Spec.PKI.ExpiryMetrics.Directory, "node": n.Name, "address": n.address()}
	if n.ControlPlane() {
		args["control-plane"] = "true"
	}
	return templates.Unit{
		Description: "Write when this node's certificates end, for Prometheus", Type: "oneshot",
		Exec: n.path("slipway"), Args: append([]string{"certs", "textfile"}, flags(args, nil)...),
	}
}

// timers renders the units of timers into files, and says how each timer should be. What it runs is read anew each time:
// nothing has to be restarted.
func (n Node) timers(files map[string]File, units map[string]Unit) error {
	for _, row := range timerTable {
		if !row.on(n) {
			continue
		}
		service, err := templates.RenderUnit(row.service(n))
		if err != nil {
			return err
		}
		timer, err := templates.RenderTimer(templates.Timer{Description: row.description, Service: row.program(), Every: row.every})
		if err != nil {
			return err
		}
		files[UnitDir+row.program()] = n.file(service, false, "unit")
		files[UnitDir+row.timer()] = n.file(timer, false, "unit")
		units[row.timer()] = Unit{Enabled: true, Active: true, Reads: []string{UnitDir + row.timer()}}
	}
	return nil
}
