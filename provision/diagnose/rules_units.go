package diagnose

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/stack"
)

const (
	// readyTime is how long a unit may take to become ready, and to stop.
	readyTime = time.Minute
	// flapping is from how many restarts within the time lately a unit counts as failing although it
	// has just begun again.
	flapping = 3
	lately   = time.Minute
	// settled is how long a unit that has failed before must run to count as running.
	settled = 15 * time.Second
)

// unitTable has the rules of units: containerd and etcd first, which the others need.
var unitTable = []struct {
	unit, does string
	explains   []string
}{
	{
		"containerd.service", "containers cannot be started",
		slices.Concat([]string{"unit-slipway-images.service", "unit-kubelet.service", "image", "drift"}, nodeIll),
	},
	{stack.EtcdService, "this control plane has no running etcd member", slices.Concat([]string{"etcd-slow"}, etcdIll, apiIll)},
	{
		stack.BalancerService, "nothing on the node reaches the API",
		slices.Concat([]string{"unit-kubelet.service", "unit-flanneld.service", "unit-kube-proxy.service", "balancer-down", "drift"}, nodeIll),
	},
	{stack.APIServerService, "this control plane does not serve the API", apiIll[1:]},
	{"kube-controller-manager.service", "controllers do nothing, if no other one leads", append([]string{"leader-silent", "health", "drift"}, podsIll...)},
	{"kube-scheduler.service", "no pod gets a node, if no other one leads", append([]string{"leader-silent", "health", "drift"}, podsIll...)},
	{stack.ImagesService, "images of the bundle may be missing", slices.Concat([]string{"unit-kubelet.service", "image", "drift"}, nodeIll)},
	{stack.KubeletService, "the node runs no new pods", slices.Concat([]string{"drift", "pod-network", "image"}, nodeIll)},
	{"kube-proxy.service", "changes of Services do not arrive at the node", slices.Concat([]string{"health", "proxy-rules", "drift"}, dnsIll, podsIll)},
	{
		stack.FlannelService, "routes of the pod network do not arrive at the node",
		slices.Concat([]string{"node-not-ready", "pod-network", "drift"}, dnsIll, podsIll),
	},
}

// unitRules are the rules of unitTable.
var unitRules = func() []Rule {
	var rules []Rule
	for _, row := range unitTable {
		rules = append(rules, Rule{
			Name: "unit-" + row.unit, Title: strings.TrimSuffix(row.unit, ".service") + " stopped, failing, masked or without its unit file, and why",
			Find:     func(e *Evidence) []Finding { return findUnit(e, row.unit, row.does) },
			Explains: row.explains,
		})
	}
	return rules
}()

func findUnit(e *Evidence, name, does string) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		u := h.unitOn(name)
		if u == nil {
			continue
		}
		if f, ill := judgeUnit(e, h, u); ill {
			f.Host, f.Object, f.More = h.Name, name, e.journal(h.Name, name)
			if f.Evidence == "" {
				f.Evidence = does
			}
			found = append(found, f)
		}
	}
	return found
}

// judgeUnit returns what is wrong with a unit.
func judgeUnit(e *Evidence, h *Host, u *Unit) (f Finding, ill bool) {
	short := strings.TrimSuffix(u.Name, ".service")
	start := e.onNode(h.Name, "systemctl start "+short)
	restore := e.apply("restore the unit:")
	if what := unloaded(u, short); what != "" {
		return Finding{What: what, Remedy: restore}, true
	}
	if f, lost := withoutData(e, h, u); lost {
		return f, true
	}
	switch {
	case u.Active == "active" && (u.Restarts < flapping || u.For >= settled):
		return f, false
	case u.Queued && u.Active == "inactive":
		return Finding{What: short + " waits for a unit that starts before it", Remedy: start}, true
	case u.Active == "inactive" && (u.Result == "success" || u.Result == ""):
		return Finding{What: short + " is stopped" + since(u), Remedy: start}, true
	case u.Active == "deactivating":
		return Finding{What: short + " does not stop" + since(u), Remedy: e.onNode(h.Name, "systemctl kill --signal=SIGKILL "+short)}, u.For > readyTime
	case u.Active == "activating" && u.Sub != "auto-restart" && u.Restarts < flapping:
		return Finding{What: short + " has been starting" + during(u) + " and is not ready", Evidence: u.Why, Remedy: restore}, u.For > readyTime
	}
	return failing(e, u, short), true
}

// withoutData is an etcd that does not run, and whose data is not there or not whole. It must not be
// started: an empty member could vote on entries that it has lost.
func withoutData(e *Evidence, h *Host, u *Unit) (Finding, bool) {
	data := h.Facts["etcddata"]
	if u.Name != stack.EtcdService || u.Active == "active" || data != "missing" && data != "damaged" {
		return Finding{}, false
	}
	return Finding{
		What: "etcd does not run, and its data is " + data, Evidence: "/var/lib/etcd/member is " + data,
		Remedy: Remedy{
			Text:     "do not start it: an empty member could vote on entries that it has lost. Restore its disk; what else can be done is said by:",
			Commands: []string{e.slipway("plan")},
		},
	}, true
}

// unloaded returns why systemd does not know a unit; "" if it does.
func unloaded(u *Unit, short string) string {
	switch {
	case u.Load == "masked" || strings.HasPrefix(u.File, "masked"):
		return short + " is masked: systemd does not start it"
	case u.Load == "not-found":
		return short + " has no unit file"
	case u.Load != "loaded" && u.Load != "":
		return short + ": systemd cannot read its unit file (" + u.Load + ")"
	}
	return ""
}

// failing is a unit that ends by itself.
func failing(e *Evidence, u *Unit, short string) Finding {
	what := short + " fails"
	if u.Restarts > 0 {
		what = fmt.Sprintf("%s fails again and again (%s in a minute)", short, count(u.Restarts, "restart"))
	}
	why := u.Why
	if why == "" {
		why = strings.TrimSuffix(fmt.Sprintf("%s, status %d", u.Result, u.Status), ", status 0")
	}
	return Finding{What: what, Evidence: why, Remedy: e.apply("mend what the line says; what differs from the spec is restored by:")}
}

// since says when a unit entered its state.
func since(u *Unit) string {
	if u.Changed.IsZero() {
		return ""
	}
	return " since " + u.Changed.Format("2006-01-02 15:04:05 MST")
}

func during(u *Unit) string {
	if u.For == 0 {
		return ""
	}
	return " for " + u.For.String()
}

func findDisabled(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		for _, u := range h.Units {
			if u.File != "disabled" || u.Load != "loaded" {
				continue
			}
			short := strings.TrimSuffix(u.Name, ".service")
			found = append(found, Finding{
				Host: h.Name, Object: u.Name, What: short + " is disabled: it would not start at the next boot",
				More: e.ssh(h.Name, "systemctl status --no-pager "+short), Remedy: e.onNode(h.Name, "systemctl enable "+short),
			})
		}
	}
	return found
}

// findUnhealthy is for units that run: those that do not are found elsewhere, and so are API servers
// and balancers.
func findUnhealthy(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		for _, a := range h.Health {
			u := h.unitOn(a.Unit)
			if a.Error == "" || a.Unit == stack.APIServerService || a.Unit == stack.BalancerService || u == nil || u.Active != "active" || u.For < readyTime {
				continue
			}
			short := strings.TrimSuffix(a.Unit, ".service")
			found = append(found, Finding{
				Host: h.Name, Object: a.Unit, What: short + " runs, and says that it is not healthy", Evidence: shortened(a.Error, maxLine),
				More: e.journal(h.Name, a.Unit), Remedy: e.onNode(h.Name, "systemctl restart "+short),
			})
		}
	}
	return found
}
