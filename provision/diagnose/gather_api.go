package diagnose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

const (
	nodeLeases = corev1.NamespaceNodeLease
	// tokenType is the type of Secrets with bootstrap tokens (k8s.io/cluster-bootstrap/token/api).
	tokenType = "bootstrap.kubernetes.io/token" //nolint:gosec // G101: the name of a type
	dnsLabel  = "k8s-app=kube-dns"
	// pageSize of lists, and the most events that are kept.
	pageSize  = 500
	maxEvents = 500
)

// querying is the API's part of a run.
type querying struct {
	kubernetes.Interface
	mu  sync.Mutex
	api *API
	now time.Time
}

// api asks every API server on its own machine, and then the API through one that is ready.
func (g *gathering) api(ctx context.Context) API {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	api := API{Asked: true, Servers: g.apiServers(ctx)}
	var dialers []host.Dialer
	for _, s := range api.Servers {
		if s.Error == "" {
			dialers = append(dialers, g.dialer(s.Host))
		}
	}
	if len(dialers) == 0 {
		api.Error = "no API server is ready"
		return api
	}
	client, err := kube.New(live.APIConfig(g.Input.PKI, stack.APIPort, dialers...))
	if err != nil {
		api.Error = err.Error()
		return api
	}
	q := &querying{Interface: client.Typed(), api: &api, now: time.Now()}
	var wait sync.WaitGroup
	for what, ask := range map[string]func(context.Context) error{
		"nodes": q.nodes, "pods": q.pods, "events": q.events, "leases": q.leases, "API services": q.apiServices,
		"namespaces": q.namespaces, "bootstrap tokens": q.tokens, "CoreDNS": q.dns, "webhooks": q.webhooks,
	} {
		wait.Go(func() {
			if err := ask(ctx); err != nil {
				q.mu.Lock()
				defer q.mu.Unlock()
				api.Partial = append(api.Partial, shortened(what+": "+err.Error(), maxLine))
			}
		})
	}
	wait.Go(func() { q.try(ctx) })
	wait.Wait()
	slices.Sort(api.Partial)
	if len(api.Nodes) == 0 && len(api.Partial) > 0 {
		api.Error = strings.Join(api.Partial, "; ")
	}
	return api
}

// apiServers asks each on its own machine whether it is ready.
func (g *gathering) apiServers(ctx context.Context) []APIServer {
	var servers []APIServer
	for _, n := range g.Input.Cluster.Nodes() {
		if n.Role == spec.ControlPlane && g.dialer(n.Name) != nil {
			servers = append(servers, APIServer{Host: n.Name})
		}
	}
	ca := g.Input.PKI.Bundle(certs.KubernetesCA)
	var wait sync.WaitGroup
	for i := range servers {
		wait.Go(func() {
			s := &servers[i]
			client, done, err := live.HealthClient(g.dialer(s.Host), ca)
			if err != nil {
				s.Error = err.Error()
				return
			}
			defer done()
			for range 2 {
				if err = ready(ctx, client); err == nil {
					return
				}
			}
			s.Error, s.Refused = shortened(err.Error(), maxLine), isRefused(err)
		})
	}
	wait.Wait()
	return servers
}

// ready asks an API server whether it is ready; the error has the checks that fail.
func ready(ctx context.Context, client *http.Client) error {
	err := live.Healthy(ctx, client, stack.LoopbackURL(stack.APIPort)+"/readyz?verbose")
	var answer *live.UnhealthyError
	if !errors.As(err, &answer) {
		return err
	}
	var failed []string
	for line := range strings.Lines(answer.Said) {
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			failed = append(failed, strings.TrimSuffix(strings.TrimSpace(check), ": reason withheld"))
		}
	}
	return fmt.Errorf("/readyz: %s: %s", answer.Status, strings.Join(failed, ", "))
}

func (q *querying) nodes(ctx context.Context) error {
	list, err := q.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		q.api.Nodes = append(q.api.Nodes, nodeOf(&list.Items[i]))
	}
	return nil
}

func nodeOf(n *corev1.Node) Node {
	node := Node{
		Name: n.Name, Version: n.Status.NodeInfo.KubeletVersion, Cordoned: n.Spec.Unschedulable, PodCIDR: n.Spec.PodCIDR,
		Pressure: map[string]string{}, Reason: "NoStatus", Message: "the kubelet has reported nothing",
	}
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type == corev1.NodeReady:
			node.Ready, node.Reason, node.Message = c.Status == corev1.ConditionTrue, c.Reason, shortened(c.Message, maxLine)
		case c.Status == corev1.ConditionTrue:
			node.Pressure[string(c.Type)] = shortened(c.Message, maxLine)
		}
	}
	return node
}

func (q *querying) events(ctx context.Context) error {
	list, err := q.CoreV1().Events("").List(ctx, metav1.ListOptions{FieldSelector: "type=Warning", Limit: maxEvents})
	if err != nil {
		return err
	}
	for _, e := range list.Items {
		last := e.LastTimestamp.Time
		if last.IsZero() {
			last = e.EventTime.Time
		}
		q.api.Events = append(q.api.Events, Event{
			Object: e.InvolvedObject.Kind + " " + strings.TrimPrefix(e.InvolvedObject.Namespace+"/"+e.InvolvedObject.Name, "/"),
			Reason: e.Reason, Message: shortened(RedactPatterns(e.Message), maxLine), Count: max(e.Count, 1), Last: last.UTC(),
		})
	}
	slices.SortFunc(q.api.Events, func(a, b Event) int { return b.Last.Compare(a.Last) })
	return nil
}

// leases are compared with the newest of them: that needs no clock.
func (q *querying) leases(ctx context.Context) error {
	var newest time.Time
	var renewed []time.Time
	for _, namespace := range []string{nodeLeases, metav1.NamespaceSystem} {
		list, err := q.CoordinationV1().Leases(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, l := range list.Items {
			if l.Spec.RenewTime == nil || strings.HasPrefix(l.Name, "apiserver-") {
				continue
			}
			lease := Lease{Namespace: namespace, Name: l.Name}
			if l.Spec.HolderIdentity != nil {
				lease.Holder = *l.Spec.HolderIdentity
			}
			if l.Spec.LeaseDurationSeconds != nil {
				lease.Duration = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
			}
			at := l.Spec.RenewTime.Time
			if at.After(newest) {
				newest = at
			}
			q.api.Leases, renewed = append(q.api.Leases, lease), append(renewed, at)
		}
	}
	for i, at := range renewed {
		q.api.Leases[i].Age = newest.Sub(at).Truncate(time.Second)
	}
	return nil
}

// apiServices reads what package kube has no types for.
func (q *querying) apiServices(ctx context.Context) error {
	text, err := q.Discovery().RESTClient().Get().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices").
		SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct {
				Service *struct{ Namespace, Name string }
			}
			Status struct {
				Conditions []struct{ Type, Status, Reason, Message string }
			}
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		if item.Spec.Service == nil {
			continue
		}
		a := APIService{Name: item.Metadata.Name, Service: item.Spec.Service.Namespace + "/" + item.Spec.Service.Name, Problem: "its availability is unknown"}
		for _, c := range item.Status.Conditions {
			switch {
			case c.Type != "Available":
			case c.Status == "True":
				a.Problem = ""
			default:
				a.Problem = shortened(c.Reason+": "+c.Message, maxLine)
			}
		}
		q.api.APIServices = append(q.api.APIServices, a)
	}
	return nil
}

func (q *querying) namespaces(ctx context.Context) error {
	list, err := q.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range list.Items {
		if n.DeletionTimestamp == nil {
			continue
		}
		s := Namespace{Name: n.Name, For: q.now.Sub(n.DeletionTimestamp.Time).Truncate(time.Second)}
		for _, c := range n.Status.Conditions {
			if c.Status == corev1.ConditionTrue {
				s.Why = append(s.Why, shortened(c.Message, maxLine))
			}
		}
		q.api.Terminating = append(q.api.Terminating, s)
	}
	return nil
}

// tokens keeps of the Secrets with bootstrap tokens only the public half and the expiry.
func (q *querying) tokens(ctx context.Context) error {
	list, err := q.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{FieldSelector: "type=" + tokenType})
	if err != nil {
		return err
	}
	for _, s := range list.Items {
		t := Token{ID: string(s.Data["token-id"])}
		if at, err := time.Parse(time.RFC3339, string(s.Data["expiration"])); err == nil {
			t.Expires, t.Expired = at.UTC(), q.now.After(at)
		}
		q.api.Tokens = append(q.api.Tokens, t)
	}
	return nil
}

func (q *querying) dns(ctx context.Context) error {
	found, err := q.AppsV1().Deployments(stack.DNSNamespace).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + stack.DNSName})
	if err != nil {
		return err
	}
	d := DNS{Exists: len(found.Items) > 0}
	if d.Exists {
		d.Want, d.Ready = 1, found.Items[0].Status.ReadyReplicas
		if n := found.Items[0].Spec.Replicas; n != nil {
			d.Want = *n
		}
	}
	pods, err := q.CoreV1().Pods(stack.DNSNamespace).List(ctx, metav1.ListOptions{LabelSelector: dnsLabel})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if p.Spec.NodeName != "" {
			d.Nodes = append(d.Nodes, p.Spec.NodeName)
		}
	}
	slices.Sort(d.Nodes)
	d.Nodes = slices.Compact(d.Nodes)
	slicesOf, err := q.DiscoveryV1().EndpointSlices(stack.DNSNamespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kube-dns"})
	if err != nil {
		return err
	}
	for _, s := range slicesOf.Items {
		d.Endpoints += readyEndpoints(s.Endpoints)
	}
	q.api.DNS = d
	return nil
}

func readyEndpoints(all []discoveryv1.Endpoint) (n int) {
	for _, e := range all {
		if e.Conditions.Ready == nil || *e.Conditions.Ready {
			n++
		}
	}
	return n
}

// webhooks lists those with a Service, and looks whether anything is behind it.
func (q *querying) webhooks(ctx context.Context) error {
	validating, err := q.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	mutating, err := q.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var hooks []Webhook
	for _, c := range validating.Items {
		for _, w := range c.Webhooks {
			hooks = append(hooks, webhookOf("validatingwebhookconfiguration", c.Name, w.Name, w.ClientConfig, w.FailurePolicy))
		}
	}
	for _, c := range mutating.Items {
		for _, w := range c.Webhooks {
			hooks = append(hooks, webhookOf("mutatingwebhookconfiguration", c.Name, w.Name, w.ClientConfig, w.FailurePolicy))
		}
	}
	for _, w := range hooks {
		if w.Service != "" {
			w.Problem = q.behind(ctx, w.Service)
		}
		q.api.Webhooks = append(q.api.Webhooks, w)
	}
	return nil
}

// behind returns why a Service has nothing behind it; "" if it has, or if that is unknown.
func (q *querying) behind(ctx context.Context, service string) string {
	namespace, name, _ := strings.Cut(service, "/")
	if _, err := q.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{}); isNotFound(err) {
		return fmt.Sprintf("there is no Service %s", service)
	}
	found, err := q.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return ""
	}
	n := 0
	for _, s := range found.Items {
		n += readyEndpoints(s.Endpoints)
	}
	if n == 0 {
		return fmt.Sprintf("Service %s has no ready endpoint", service)
	}
	return ""
}
