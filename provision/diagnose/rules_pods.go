package diagnose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The reasons of the kubelet for containers that wait (k8s.io/kubernetes, pkg/kubelet/images and
// kuberuntime).
var (
	imageReasons  = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
	configReasons = []string{
		"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PostStartHookError", "CreatePodSandboxError",
	}
)

// podGroup is pods of one owner with the same trouble.
type podGroup struct {
	first Pod
	pods  []Pod
}

func (g *podGroup) object() string {
	kind, name, _ := strings.Cut(g.first.Owner, "/")
	return strings.ToLower(kind) + "/" + name + " in " + g.first.Namespace
}

// who is "deployment/web in default (3 pods)".
func (g *podGroup) who() string {
	if len(g.pods) == 1 {
		return g.object()
	}
	return fmt.Sprintf("%s (%s)", g.object(), count(len(g.pods), "pod"))
}

func (g *podGroup) describe() string {
	return fmt.Sprintf("kubectl -n %s describe pod %s", word(g.first.Namespace), word(g.first.Name))
}

func (g *podGroup) nodes() []string {
	var names []string
	for _, p := range g.pods {
		if p.Node != "" {
			names = append(names, p.Node)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// groups collects the pods with one of some reasons. With --only, pods on other nodes are left out.
func groups(e *Evidence, is func(p *Pod) bool) []podGroup {
	var all []podGroup
	for i := range e.API.Pods {
		p := &e.API.Pods[i]
		if !is(p) || p.Node != "" && !e.lookedAt(p.Node) {
			continue
		}
		at := slices.IndexFunc(all, func(g podGroup) bool {
			return g.first.Namespace == p.Namespace && g.first.Owner == p.Owner && g.first.Image == p.Image
		})
		if at < 0 {
			all = append(all, podGroup{first: *p})
			at = len(all) - 1
		}
		all[at].pods = append(all[at].pods, *p)
	}
	return all
}

func reasonIn(reasons []string) func(p *Pod) bool {
	return func(p *Pod) bool { return slices.Contains(reasons, p.Reason) }
}

func findImages(e *Evidence) []Finding {
	var found []Finding
	for _, g := range groups(e, reasonIn(imageReasons)) {
		p := g.first
		edit := fmt.Sprintf("kubectl -n %s edit %s", word(p.Namespace), word(strings.ToLower(p.Owner)))
		found = append(found, Finding{
			Object: g.object(), What: fmt.Sprintf("%s: the image %s cannot be pulled", g.who(), p.Image), Evidence: pullError(e, p), More: g.describe(),
			Remedy: Remedy{Text: "give the nodes access to its registry, or name an image that exists with `" + edit + "`"}, hosts: g.nodes(),
		})
	}
	return found
}

// pullError is the message of the attempt: while the kubelet backs off, only events have it.
func pullError(e *Evidence, p Pod) string {
	if p.Reason != "ImagePullBackOff" && p.Message != "" {
		return p.Reason + ": " + p.Message
	}
	for _, event := range e.API.Events {
		if event.Object == "Pod "+p.Namespace+"/"+p.Name && strings.Contains(event.Message, "Failed to pull image") {
			return event.Message
		}
	}
	return strings.TrimSuffix(p.Reason+": "+p.Message, ": ")
}

func findContainerConfig(e *Evidence) []Finding {
	var found []Finding
	for _, g := range groups(e, reasonIn(configReasons)) {
		p := g.first
		found = append(found, Finding{
			Object: g.object(), What: fmt.Sprintf("%s: the container %s cannot be created", g.who(), p.Container),
			Evidence: strings.TrimSuffix(p.Reason+": "+p.Message, ": "),
			More:     g.describe(), Remedy: Remedy{Text: "make what it names (a ConfigMap, a Secret, a command), or correct the pod"}, hosts: g.nodes(),
		})
	}
	return found
}

func findCrashLoops(e *Evidence) []Finding {
	var found []Finding
	for _, g := range groups(e, reasonIn([]string{"CrashLoopBackOff"})) {
		p := g.first
		how := fmt.Sprintf("exit code %d", p.ExitCode)
		text := "mend what its log says"
		if p.Last == "OOMKilled" {
			how, text = "it needs more memory than its limit (OOMKilled)", "raise the container's memory limit"
		}
		found = append(found, Finding{
			Object: g.object(), What: fmt.Sprintf("%s: the container %s ends again and again (%s): %s", g.who(), p.Container, count(int(p.Restarts), "restart"), how),
			Evidence: p.LastLine, More: fmt.Sprintf("kubectl -n %s logs %s -c %s --previous --tail=50", word(p.Namespace), word(p.Name), word(p.Container)),
			Remedy: Remedy{Text: text}, hosts: g.nodes(),
		})
	}
	return found
}

func findEvicted(e *Evidence) []Finding {
	var found []Finding
	for _, g := range groups(e, reasonIn([]string{"Evicted", "NodeShutdown"})) {
		p := g.first
		found = append(found, Finding{
			Object: g.object(), What: g.who() + ": evicted", Evidence: p.Message, More: g.describe(), hosts: g.nodes(),
			Remedy: Remedy{
				Text:     "once the node has what it lacked, remove what is left of it:",
				Commands: []string{fmt.Sprintf("kubectl -n %s delete pod --field-selector=status.phase=Failed", word(p.Namespace))},
			},
		})
	}
	return found
}

var unavailable = regexp.MustCompile(`^(\d+/\d+) nodes are available: (.*?)\.? *(?:preemption:.*|no new claims.*)?$`)

func findUnschedulable(e *Evidence) []Finding {
	var found []Finding
	for _, g := range groups(e, reasonIn([]string{"Unschedulable"})) {
		found = append(found, Finding{
			Object: g.object(), What: g.who() + ": no node takes it", Evidence: schedulerSays(g.first.Message), More: g.describe(),
			Remedy: Remedy{Text: "add nodes or free them, or change the pod's requests, selectors or tolerations"}, hosts: e.unwell(),
		})
	}
	return found
}

// schedulerSays is the scheduler's message without what it says of preemption.
func schedulerSays(message string) string {
	if m := unavailable.FindStringSubmatch(message); m != nil {
		return m[1] + " nodes fit: " + strings.TrimSuffix(strings.TrimSpace(m[2]), ".")
	}
	return message
}

// unwell are the nodes that take no pods because something is wrong.
func (e *Evidence) unwell() []string {
	var names []string
	for _, h := range e.Hosts {
		if n := e.nodeNamed(h.Name); n == nil || !n.Ready || len(n.Pressure) > 0 {
			names = append(names, h.Name)
		}
	}
	return names
}

func findStuck(e *Evidence) []Finding {
	var found []Finding
	for _, g := range groups(e, func(p *Pod) bool { return p.Reason == "Pending" }) {
		p := g.first
		evidence := "it has been there for " + p.For.String()
		for _, event := range e.API.Events {
			if event.Object == "Pod "+p.Namespace+"/"+p.Name {
				evidence = event.Reason + ": " + event.Message
				break
			}
		}
		hosts := g.nodes()
		if len(hosts) == 0 {
			evidence += "; no scheduler has looked at it"
			hosts = e.controlPlanes()
		}
		found = append(found, Finding{
			Object: g.object(), What: g.who() + ": does not start", Evidence: evidence, More: g.describe(),
			Remedy: Remedy{Text: "mend what the event says: a volume, a network, a Secret"}, hosts: hosts,
		})
	}
	return found
}
