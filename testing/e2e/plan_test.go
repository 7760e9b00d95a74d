package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// change is one of `slipway plan --output json`.
type change struct {
	Host   string `json:"host"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Action string `json:"action"`
	Cause  string `json:"cause"`
	Reason string `json:"reason"`
}

// planned is what the tests read of `slipway plan --output json`.
type planned struct {
	Version   string            `json:"version"`
	Changes   []change          `json:"changes"`
	Steps     []json.RawMessage `json:"steps"`
	Resources []struct {
		Kind   string `json:"kind"`
		Name   string `json:"name"`
		Reason string `json:"reason"`
	} `json:"resources"`
	Disruptions []struct {
		What  string   `json:"what"`
		Hosts []string `json:"hosts"`
		How   string   `json:"how"`
	} `json:"disruptions"`
}

// plan wants the exit code of --detailed-exitcode to fit, and leaves out slipway's own list of what it owns.
func (c *cluster) plan(t *testing.T) planned {
	t.Helper()
	r := c.run(t, nil, "plan", "-f", c.file, "--output", "json", "--detailed-exitcode")
	var p planned
	if err := json.Unmarshal([]byte(r.stdout), &p); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	if want := map[bool]int{true: 0, false: 2}[len(p.Steps)+len(p.Resources) == 0]; r.code != want {
		t.Errorf("exit code %d, want %d with %d steps: %v", r.code, want, len(p.Steps), r)
	}
	p.Changes = slices.DeleteFunc(p.Changes, func(c change) bool { return c.Name == "/var/lib/slipway/owned" })
	return p
}

// checkResources removes the API balancer: the plan names it, and apply makes another.
func (c *cluster) checkResources(t *testing.T) {
	t.Helper()
	balancer := c.name + "-balancer"
	docker(t, "rm", "-f", balancer)
	p := c.plan(t)
	if len(p.Resources) != 1 || p.Resources[0].Kind != "balancer" || p.Resources[0].Name != balancer || p.Resources[0].Reason != "does not exist" || len(p.Steps) != 0 {
		t.Errorf("planned is %+v", p)
	}
	c.apply(t)
	c.checkNothingPlanned(t)
	if state := docker(t, "inspect", "-f", "{{.State.Status}}", balancer); strings.TrimSpace(state) != "running" {
		t.Errorf("the balancer is %s", state)
	}
}

// checkNothingPlanned wants an empty plan.
func (c *cluster) checkNothingPlanned(t *testing.T) {
	t.Helper()
	if p := c.plan(t); len(p.Changes)+len(p.Steps)+len(p.Resources) != 0 {
		t.Errorf("still planned: %+v", p)
	}
}

// checkDrift changes all kinds of things behind slipway's back. The plan must name exactly these, with their reasons,
// and apply repair exactly these, while nobody who uses the API notices.
func (c *cluster) checkDrift(t *testing.T, k *kube) {
	t.Helper()
	c.checkNothingPlanned(t)
	cp1, cp2, cp3, worker := c.nodes()[0], c.nodes()[1], c.nodes()[2], c.nodes()[3]
	c.sshOK(t, cp1, `sed -i 's/^Description=.*/Description=edited/' /etc/systemd/system/kube-scheduler.service`)
	c.sshOK(t, cp2, `rm /etc/kubernetes/pki/apiserver-kubelet-client.crt; chmod 0644 /etc/kubernetes/pki/kube-proxy.key`)
	c.sshOK(t, cp3, `systemctl stop kube-controller-manager`)
	c.sshOK(t, worker, `rm /opt/slipway/kubernetes/*/bin/kubelet; sysctl -qw net.ipv4.ip_forward=0; ctr -n k8s.io images rm $(ctr -n k8s.io images ls -q | grep pause)`)
	// A program with one other byte, in front of the bundle's: the link to it, its size and its mode are as they should be.
	c.sshOK(t, worker, `at=$(readlink -f /usr/local/bin/crictl); cp -p "$at" /root/crictl; printf X | dd of=/root/crictl bs=1 seek=5000 conv=notrunc status=none; `+
		`mount --bind /root/crictl "$at"`)
	k.ctl(t, "label", "node", worker, "node-role.kubernetes.io/control-plane=")
	k.ctl(t, "label", "node", worker, "theirs=stays")
	if err := k.AppsV1().Deployments("kube-system").Delete(t.Context(), "coredns", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	p := c.plan(t)
	want := []change{
		{"", "object", "Deployment kube-system/coredns", "create", "drift", "is missing"},
		{cp1, "file", "/etc/systemd/system/kube-scheduler.service", "update", "drift", "edited on the host at "},
		{cp2, "file", "/etc/kubernetes/pki/apiserver-kubelet-client.crt", "create", "drift", "removed on the host"},
		{cp2, "file", "/etc/kubernetes/pki/kube-proxy.key", "update", "drift", "mode is 0644, should be 0600"},
		{cp3, "unit", "kube-controller-manager.service", "update", "drift", "is inactive/dead since "},
		{worker, "image", "slipway.invalid/pause:", "create", "drift", "the container runtime does not have it"},
		{worker, "label", "node-role.kubernetes.io/control-plane", "delete", "drift", "added in the API"},
		{worker, "program", "/opt/slipway/cri-tools/", "update", "drift", "its content differs from the bundle's: its SHA-256 begins with "},
		{worker, "program", "/opt/slipway/kubernetes/" + kubernetesVersion + "/bin/kubelet", "create", "drift", "removed on the host"},
		{worker, "sysctl", "net.ipv4.ip_forward", "update", "drift", "is 0, should be 1"},
	}
	if diff := gocmp.Diff(want, abridged(p.Changes, want)); diff != "" {
		t.Errorf("planned (-want +got):\n%s", diff)
	}
	if len(p.Disruptions) > 0 {
		t.Errorf("nothing that runs has to be restarted, and the plan predicts %+v", p.Disruptions)
	}

	before := c.startTimes(t)
	users := c.useAPI(t, k, worker)
	c.apply(t)
	users.stop(t)
	for i, line := range strings.Split(c.startTimes(t), "\n") {
		if was := strings.Split(before, "\n")[i]; was != line && !strings.Contains(c.startedUnit(t, i), "kube-controller-manager") {
			t.Errorf("restarted without need: %q became %q (%s)", was, line, c.startedUnit(t, i))
		}
	}
	c.checkNothingPlanned(t)
	node, err := k.CoreV1().Nodes().Get(t.Context(), worker, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ours := node.Labels["node-role.kubernetes.io/control-plane"]; ours || node.Labels["theirs"] != "stays" {
		t.Errorf("labels are %v", node.Labels)
	}
	if got, want := c.lastRun(t).changed(), labels(p.Changes); !slices.Equal(got, want) {
		t.Errorf("the run changed %q, and should have changed %q", got, want)
	}
}

// abridged sorts changes and cuts off what the wanted ones do not say: times, and versions of images.
func abridged(got, want []change) []change {
	got = slices.Clone(got)
	slices.SortFunc(got, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	for i := range min(len(got), len(want)) {
		if strings.HasPrefix(got[i].Reason, want[i].Reason) {
			got[i].Reason = want[i].Reason
		}
		if strings.HasPrefix(got[i].Name, want[i].Name) {
			got[i].Name = want[i].Name
		}
	}
	return got
}

// labels write changes as the journal does, without their reasons.
func labels(changes []change) []string {
	signs := map[string]string{"create": "+", "update": "~", "delete": "-", "restart": "^"}
	var all []string
	for _, c := range changes {
		all = append(all, cmp.Or(c.Host, "cluster")+" "+signs[c.Action]+" "+c.Kind+" "+c.Name)
	}
	slices.Sort(all)
	return all
}

// startedUnit names the unit that a line of startTimes is of.
func (c *cluster) startedUnit(t *testing.T, line int) string {
	t.Helper()
	lines := strings.Split(c.startTimes(t), "\n")
	for i := line; i < len(lines) && lines[i] != ""; i++ {
		if strings.HasPrefix(lines[i], "Id=") {
			return lines[i]
		}
	}
	for i := line; i >= 0 && lines[i] != ""; i-- {
		if strings.HasPrefix(lines[i], "Id=") {
			return lines[i]
		}
	}
	return ""
}

// checkReconfigure changes a flag of the API server, the audit policy, a setting of the kubelets and a label in the
// spec: a rolling change that nobody who uses the API notices, after which nothing is planned.
func (c *cluster) checkReconfigure(t *testing.T, k *kube) {
	t.Helper()
	spec := c.spec
	spec.kubernetes = `    apiServer:
      extraArgs: {event-ttl: 2h}
      auditPolicy: {rules: [{level: Metadata}]}
    kubelet:
      configPatch: {maxPods: 77}
`
	spec.workerLabels = "tier: web"
	c.write(t, spec)
	p := c.plan(t)
	for _, change := range p.Changes {
		if change.Cause != "wanted" || !strings.HasPrefix(change.Reason, "spec.") || !strings.HasSuffix(change.Reason, " changed") {
			t.Errorf("the reason of %+v is not a field of the spec", change)
		}
	}
	var restarts []string
	for _, d := range p.Disruptions {
		restarts = append(restarts, d.What+" on "+strings.Join(d.Hosts, " ")+", "+d.How)
	}
	cps, all := strings.Join(c.controlPlanes(), " "), strings.Join(c.nodes(), " ")
	want := []string{"kube-apiserver restarts on " + cps + ", one at a time", "kubelet restarts on " + all + ", one at a time"}
	if !slices.Equal(restarts, want) {
		t.Errorf("predicted are %q, want %q", restarts, want)
	}

	worker := c.nodes()[len(c.nodes())-1]
	users := c.useAPI(t, k, worker)
	c.apply(t)
	users.stop(t)
	c.checkNothingPlanned(t)
	for _, node := range c.controlPlanes() {
		c.sshOK(t, node, `tr '\0' '\n' </proc/$(systemctl show --value -p MainPID kube-apiserver)/cmdline | grep -qx -- --event-ttl=2h`)
	}
	raw := k.ctl(t, "get", "--raw", "/api/v1/nodes/"+worker+"/proxy/configz")
	if !strings.Contains(raw, `"maxPods":77`) {
		t.Errorf("the kubelet of %s runs with %s", worker, raw)
	}
	if got := k.ctl(t, "get", "node", worker, "-o", "jsonpath={.metadata.labels.tier}"); got != "web" {
		t.Errorf("the label of %s is %q", worker, got)
	}

	spec.workerLabels = ""
	c.write(t, spec)
	if got, want := labels(c.plan(t).Changes), []string{worker + " - label tier"}; !slices.Equal(got, want) {
		t.Errorf("without the label in the spec, planned is %q, want %q", got, want)
	}
	c.apply(t)
	if got := k.ctl(t, "get", "node", worker, "-o", "jsonpath={.metadata.labels.tier}"); got != "" {
		t.Errorf("what left the spec stays on %s: %q", worker, got)
	}
}

// checkSavedPlan wants a saved plan to be carried out to the letter, or not at all.
func (c *cluster) checkSavedPlan(t *testing.T, k *kube) {
	t.Helper()
	worker := c.nodes()[len(c.nodes())-1]
	label := func() string { return k.ctl(t, "get", "node", worker, "-o", "jsonpath={.metadata.labels.saved}") }
	spec := c.spec
	spec.workerLabels = "saved: plan"
	c.write(t, spec)
	file := filepath.Join(t.TempDir(), "next.plan")
	c.ok(t, "plan", "-f", c.file, "-o", file)
	saved, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(saved), "PRIVATE KEY") {
		t.Error("the saved plan holds a private key")
	}

	const path = "/etc/crictl.yaml"
	c.sshOK(t, worker, "cp -p "+path+" /root/aside; echo '# mine' >> "+path)
	r := c.run(t, nil, "apply", file, "--yes")
	if r.code != 1 {
		t.Errorf("after drift, want exit code 1: %v", r)
	}
	wantError(t, r, worker, path, "nothing was changed")
	if label() != "" || c.sshOK(t, worker, "tail -n 1 "+path) != "# mine\n" {
		t.Error("a plan that was refused has touched something")
	}

	c.sshOK(t, worker, "cp -p /root/aside "+path)
	c.ok(t, "apply", file, "--yes")
	if got := label(); got != "plan" {
		t.Errorf("the label is %q", got)
	}
	if got, want := c.lastRun(t).changed(), []string{worker + " + label saved"}; !slices.Equal(got, want) {
		t.Errorf("the run changed %q, and the plan was %q", got, want)
	}
	r = c.run(t, nil, "apply", file, "--yes")
	if r.code != 1 {
		t.Errorf("a plan applied twice: %v", r)
	}
	c.checkNothingPlanned(t)
}

// checkOnly leaves other hosts alone.
func (c *cluster) checkOnly(t *testing.T) {
	t.Helper()
	one, other := c.nodes()[0], c.nodes()[len(c.nodes())-1]
	for _, node := range []string{one, other} {
		c.sshOK(t, node, "rm /etc/crictl.yaml")
	}
	c.ok(t, "apply", "-f", c.file, "--yes", "--only", other)
	if got, want := labels(c.plan(t).Changes), []string{one + " + file /etc/crictl.yaml"}; !slices.Equal(got, want) {
		t.Errorf("left is %q, want %q", got, want)
	}
	c.apply(t)
	c.checkNothingPlanned(t)
}

// run is what the tests read of `slipway runs show --output json`.
type run struct {
	Number int    `json:"number"`
	Result string `json:"result"`
	Steps  []struct {
		Name    string   `json:"name"`
		Host    string   `json:"host"`
		State   string   `json:"state"`
		Changes []string `json:"changes"`
	} `json:"steps"`
}

func (c *cluster) lastRun(t *testing.T) run {
	t.Helper()
	var r run
	if err := json.Unmarshal([]byte(c.ok(t, "runs", "show", "-f", c.file, "--output", "json").stdout), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// changed lists what the steps that ended well have changed, without the reasons, sorted.
func (r run) changed() []string {
	var all []string
	for _, s := range r.Steps {
		if s.State == "succeeded" {
			all = append(all, changedBy(s.Host, s.Changes)...)
		}
	}
	slices.Sort(all)
	return all
}

func changedBy(host string, lines []string) []string {
	var all []string
	for _, line := range lines {
		what, _, _ := strings.Cut(line, " (")
		if !strings.HasSuffix(what, " /var/lib/slipway/owned") {
			all = append(all, fmt.Sprintf("%s %s", cmp.Or(host, "cluster"), what))
		}
	}
	return all
}
