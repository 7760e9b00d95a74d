package diagnose

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"
)

const (
	// maxLogs is of how many containers the end of the log is read.
	maxLogs = 20
	// startTime is how long a pod may take to start before that is remarkable.
	startTime = 2 * time.Minute
)

// pods keeps those that are not well.
func (q *querying) pods(ctx context.Context) error {
	page := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return q.CoreV1().Pods("").List(ctx, o)
	})
	page.PageSize = pageSize
	oldest := targets{}
	err := page.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
		pod := o.(*corev1.Pod) // a list has items of one type
		q.api.PodCount++
		oldest.note(pod)
		if p, ill := podOf(pod, q.now); ill {
			q.api.Pods = append(q.api.Pods, p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.api.Targets = oldest.addresses()
	q.lastLines(ctx)
	return nil
}

// targets are the oldest pods that can be reached, by node: those leave last.
type targets map[string]*corev1.Pod

func (t targets) note(pod *corev1.Pod) {
	ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	if !ready || pod.DeletionTimestamp != nil || pod.Spec.HostNetwork || pod.Status.PodIP == "" {
		return
	}
	if have := t[pod.Spec.NodeName]; have == nil || pod.CreationTimestamp.Before(&have.CreationTimestamp) {
		t[pod.Spec.NodeName] = pod
	}
}

// addresses have a port that the pod names. Where nothing listens the answer is that, which does as
// well.
func (t targets) addresses() map[string]netip.AddrPort {
	all := map[string]netip.AddrPort{}
	for node, pod := range t {
		port := uint16(1)
		for _, c := range pod.Spec.Containers {
			for _, p := range c.Ports {
				if port == 1 && (p.Protocol == corev1.ProtocolTCP || p.Protocol == "") {
					port = uint16(p.ContainerPort) //nolint:gosec // G115: a port
				}
			}
		}
		if at, err := netip.ParseAddr(pod.Status.PodIP); err == nil {
			all[node] = netip.AddrPortFrom(at, port)
		}
	}
	return all
}

// podOf returns what is wrong with a pod; ill is false if nothing is.
func podOf(pod *corev1.Pod, now time.Time) (p Pod, ill bool) {
	p = Pod{
		Namespace: pod.Namespace, Name: pod.Name, Node: pod.Spec.NodeName, Owner: ownerOf(pod), Phase: string(pod.Status.Phase),
		For: now.Sub(pod.CreationTimestamp.Time).Truncate(time.Second),
	}
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded {
		return p, false
	}
	if pod.Status.Phase == corev1.PodFailed {
		p.Reason, p.Message = pod.Status.Reason, shortened(RedactPatterns(pod.Status.Message), maxLine)
		return p, p.Reason == "Evicted" || p.Reason == "NodeShutdown"
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			p.Reason, p.Message = c.Reason, shortened(c.Message, maxLine)
			return p, true
		}
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if p.container(c) {
			return p, true
		}
	}
	if pod.Status.Phase == corev1.PodPending && p.For > startTime {
		p.Reason = "Pending"
		return p, true
	}
	return p, false
}

// container takes over what is wrong with a container.
func (p *Pod) container(c corev1.ContainerStatus) bool {
	if last := c.LastTerminationState.Terminated; last != nil {
		p.Last, p.ExitCode = last.Reason, last.ExitCode
	}
	p.Container, p.Image, p.Restarts = c.Name, c.Image, c.RestartCount
	if w := c.State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" && w.Reason != "" {
		p.Reason, p.Message = w.Reason, shortened(RedactPatterns(w.Message), maxLine)
		return true
	}
	// Between two attempts it runs, or has ended: it counts as crashing all the same.
	if t := c.State.Terminated; t != nil && c.RestartCount > 0 && t.ExitCode != 0 {
		p.Reason, p.Last, p.ExitCode = "CrashLoopBackOff", t.Reason, t.ExitCode
		return true
	}
	return false
}

// ownerOf returns "Deployment/web" for a pod of a ReplicaSet of a Deployment.
func ownerOf(pod *corev1.Pod) string {
	o := metav1.GetControllerOf(pod)
	if o == nil {
		return "Pod/" + pod.Name
	}
	if hash := pod.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
		if name, ok := strings.CutSuffix(o.Name, "-"+hash); ok {
			return "Deployment/" + name
		}
	}
	return o.Kind + "/" + o.Name
}

// lastLines reads how the logs of crashed containers end.
func (q *querying) lastLines(ctx context.Context) {
	var wait sync.WaitGroup
	read, seen := 0, map[string]bool{}
	for i := range q.api.Pods {
		p := &q.api.Pods[i]
		if p.Reason != "CrashLoopBackOff" || seen[p.Namespace+p.Owner] || read == maxLogs {
			continue
		}
		seen[p.Namespace+p.Owner] = true
		read++
		wait.Go(func() { p.LastLine = q.lastLine(ctx, p) })
	}
	wait.Wait()
}

func (q *querying) lastLine(ctx context.Context, p *Pod) string {
	lines := int64(20)
	for _, previous := range []bool{true, false} {
		stream, err := q.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: p.Container, Previous: previous, TailLines: &lines}).Stream(ctx)
		if err != nil {
			continue
		}
		said, _ := io.ReadAll(io.LimitReader(stream, 64<<10))
		_ = stream.Close()
		if line := lastOf(string(said)); line != "" {
			return line
		}
	}
	return ""
}

// lastOf returns the line that says best why a program has ended, or its last one.
func lastOf(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		// The kubelet's words for a log that is gone.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "unable to retrieve container logs for ") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	if reason := why(lines); reason != "" {
		return reason
	}
	return shortened(RedactPatterns(lines[len(lines)-1]), maxLine)
}

// try creates objects without effect, in a namespace of users and in the system's: a webhook that
// does not answer is named in the error. Webhooks with side effects are not called then, which the
// API server says in other words.
func (q *querying) try(ctx context.Context) {
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	meta := metav1.ObjectMeta{GenerateName: "slipway-diagnose-"}
	pod := &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "none", Image: "slipway.invalid/none"}}}}
	var errs []error
	for _, namespace := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		_, err := q.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta}, dry)
		errs = append(errs, err)
		_, err = q.CoreV1().Pods(namespace).Create(ctx, pod, dry)
		errs = append(errs, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			continue
		}
		if said := shortened(RedactPatterns(err.Error()), maxLine); !slices.Contains(q.api.Tries, said) {
			q.api.Tries = append(q.api.Tries, said)
		}
	}
}

func webhookOf(kind, config, name string, client admissionv1.WebhookClientConfig, policy *admissionv1.FailurePolicyType) Webhook {
	w := Webhook{Kind: kind, Config: config, Name: name, Fail: policy == nil || *policy == admissionv1.Fail}
	if client.Service != nil {
		w.Service = client.Service.Namespace + "/" + client.Service.Name
	}
	return w
}

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
