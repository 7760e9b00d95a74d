package diagnose

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/provision/stack"
)

const (
	// silent is how long a leader may be silent: its lease holds for 15 s.
	silent = time.Minute
	// deleting is how long a namespace may take to be deleted.
	deleting = time.Minute
)

func findAPIServers(e *Evidence) []Finding {
	var found []Finding
	for _, s := range e.API.Servers {
		if s.Error == "" || e.hostNamed(s.Host) == nil {
			continue
		}
		found = append(found, Finding{
			Host: s.Host, Object: stack.APIServerService, What: "its API server is not ready", Evidence: s.Error,
			More: e.ssh(s.Host, "kubectl --kubeconfig "+stack.KubernetesDir+"/admin.conf --server "+stack.LoopbackURL(stack.APIPort)+" get --raw /readyz?verbose"),
			// What keeps it from being ready is in its log; a restart is the last resort.
			Remedy: Remedy{Text: "see its log, and restart it if it says nothing:", Commands: []string{e.ssh(s.Host, "systemctl restart kube-apiserver")}},
		})
	}
	return found
}

func findAPIDown(e *Evidence) []Finding {
	ready := slices.ContainsFunc(e.API.Servers, func(s APIServer) bool { return s.Error == "" })
	if !e.API.Asked || ready && e.API.Error == "" {
		return nil
	}
	return []Finding{{
		Object: "API", What: "the API does not answer: no API server is ready", Evidence: e.API.Error,
		More: e.slipway("status"), Remedy: e.apply("bring the control planes back:"), hosts: e.controlPlanes(), everywhere: true,
	}}
}

func findBalancers(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		for _, a := range h.Health {
			if a.Unit != stack.BalancerService || a.Error == "" {
				continue
			}
			found = append(found, Finding{
				Host: h.Name, Object: stack.BalancerService, What: "its balancer leads to no API server", Evidence: shortened(a.Error, maxLine),
				More: e.journal(h.Name, stack.BalancerService), Remedy: e.onNode(h.Name, "systemctl restart slipway-balancer"),
				hosts: e.apiServersOf(h.Name),
			})
		}
	}
	return found
}

// apiServersOf are the control planes that are to blame if a balancer leads nowhere: all of them,
// if none works.
func (e *Evidence) apiServersOf(string) []string {
	for _, s := range e.API.Servers {
		if s.Error == "" {
			return nil
		}
	}
	return e.controlPlanes()
}

func (a *API) answered(question string) bool {
	return a.Known() && !slices.ContainsFunc(a.Partial, func(p string) bool { return strings.HasPrefix(p, question+":") })
}

func findLeaders(e *Evidence) []Finding {
	var found []Finding
	if !e.API.answered("leases") || len(e.API.Leases) == 0 {
		return nil
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		i := slices.IndexFunc(e.API.Leases, func(l Lease) bool { return l.Name == name && l.Namespace != nodeLeases })
		evidence := "it has no lease in kube-system"
		if i >= 0 {
			l := e.API.Leases[i]
			if l.Age < silent {
				continue
			}
			evidence = fmt.Sprintf("the lease of %s was renewed %s before the newest one", l.Holder, l.Age)
		}
		node := e.answering()
		found = append(found, Finding{
			Object: name, What: "no " + name + " leads", Evidence: evidence, More: e.journal(node, name),
			Remedy: e.onNode(node, "systemctl restart "+name), hosts: e.controlPlanes(),
			everywhere: true,
		})
	}
	return found
}

// tried is the error of a dry run that names a webhook.
func tried(e *Evidence, w Webhook) string {
	for _, said := range e.API.Tries {
		if strings.Contains(said, `"`+w.Name+`"`) {
			return said
		}
	}
	return ""
}

func findWebhooks(e *Evidence) []Finding {
	var found []Finding
	for _, w := range e.API.Webhooks {
		said := tried(e, w)
		if !w.Fail || w.Problem == "" && said == "" {
			continue
		}
		evidence := w.Problem
		if said != "" {
			evidence = strings.TrimPrefix(evidence+"; a creation that was tried: "+said, "; ")
		}
		f := Finding{
			Object: w.Kind + "/" + w.Config, What: fmt.Sprintf("the webhook %s blocks the API: it does not answer, and requests fail then", w.Name),
			Evidence: shortened(evidence, maxLine), More: fmt.Sprintf("kubectl get %s %s -o yaml", w.Kind, word(w.Config)),
			Remedy: Remedy{
				Text:     fmt.Sprintf("make Service %s answer; if it is gone for good, remove the webhook:", nameOr(w.Service, "(none)")),
				Commands: []string{fmt.Sprintf("kubectl delete %s %s", w.Kind, word(w.Config))},
			},
		}
		if !slices.ContainsFunc(found, func(other Finding) bool { return other.Object == f.Object }) {
			found = append(found, f)
		}
	}
	return found
}

func findAPIServices(e *Evidence) []Finding {
	var found []Finding
	for _, a := range e.API.APIServices {
		if a.Problem == "" {
			continue
		}
		found = append(found, Finding{
			Object: "apiservice/" + a.Name, What: fmt.Sprintf("the API %s has no server: Service %s", a.Name, a.Service), Evidence: a.Problem,
			More: "kubectl get apiservice " + word(a.Name) + " -o yaml",
			Remedy: Remedy{
				Text:     fmt.Sprintf("make Service %s answer; if it is gone for good, remove the API:", a.Service),
				Commands: []string{"kubectl delete apiservice " + word(a.Name)},
			},
		})
	}
	return found
}

func findNamespaces(e *Evidence) []Finding {
	var found []Finding
	for _, n := range e.API.Terminating {
		if n.For < deleting {
			continue
		}
		found = append(found, Finding{
			Object: "namespace/" + n.Name, What: fmt.Sprintf("namespace %s has been in deletion for %s", n.Name, n.For),
			Evidence: shortened(strings.Join(n.Why, "; "), maxLine),
			More:     "kubectl get namespace " + word(n.Name) + " -o jsonpath={.status.conditions}",
			Remedy:   Remedy{Text: "remove what it names; finalizers only if their controller is gone for good"},
		})
	}
	return found
}

func findTokens(e *Evidence) []Finding {
	var found []Finding
	for _, t := range e.API.Tokens {
		if !t.Expired {
			continue
		}
		found = append(found, Finding{
			Object: "secret/bootstrap-token-" + t.ID, What: "the bootstrap token " + t.ID + " has expired on " + t.Expires.Format("2006-01-02 15:04 MST"),
			Evidence: "nodes that join with it are refused", More: "kubectl -n kube-system get secret " + word("bootstrap-token-"+t.ID) + " -o name",
			Remedy: Remedy{Text: "make a new one; this one can go:", Commands: []string{"kubectl -n kube-system delete secret " + word("bootstrap-token-"+t.ID)}},
		})
	}
	return found
}

// findSkew follows the version skew policy: a kubelet is at most three minor versions older than an
// API server, and never newer.
func findSkew(e *Evidence) []Finding {
	want, err := version.ParseGeneric(e.Version)
	if err != nil {
		return nil
	}
	var found []Finding
	for _, n := range e.API.Nodes {
		have, err := version.ParseGeneric(n.Version)
		if err != nil || have.Minor() <= want.Minor() && have.Minor()+3 >= want.Minor() {
			continue
		}
		found = append(found, Finding{
			Host: n.Name, What: fmt.Sprintf("its kubelet %s does not fit Kubernetes %s", n.Version, e.Version),
			Evidence: "a kubelet may be three minor versions older, and none newer",
			More:     "kubectl get node " + word(n.Name) + " -o wide", Remedy: e.apply("bring it to the spec's version:"),
		})
	}
	return found
}
