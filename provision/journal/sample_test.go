package journal

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// began is when every sample run does.
var began = time.Date(2026, 1, 2, 12, 3, 4, 0, time.UTC)

// act is a step of a sample and how long it takes.
type act struct {
	Step
	takes time.Duration
}

// sample is a run of demo up to the steps, which follow 6.3 s of looking for machines.
func sample(number int) *Run {
	return &Run{
		Version: Version, Number: number, Cluster: "demo", Command: "apply", Operator: "ana@workstation", Slipway: "v0.4.0",
		Began: began, Result: Succeeded,
		Phases: []Phase{
			{Name: "machines and bundle", Began: began, Ended: began.Add(5400 * time.Millisecond)},
			{Name: "observe", Began: began.Add(5400 * time.Millisecond), Ended: began.Add(6300 * time.Millisecond)},
			{Name: "converge", Began: began.Add(6300 * time.Millisecond)},
		},
	}
}

// play gives a run's steps their times, as an executor with so many workers would: in the order of the plan, each when
// what it needs is done. Steps that need one that failed are skipped.
func play(r *Run, workers int, acts []act) *Run {
	start := r.Phases[len(r.Phases)-1].Began
	free := make([]time.Time, workers)
	for i := range free {
		free[i] = start
	}
	done := map[string]*Step{}
	last := start
	r.Steps = make([]Step, len(acts))
	for i, a := range acts {
		s := &r.Steps[i]
		*s = a.Step
		done[s.Name] = s
		ready := start
		for _, d := range s.Deps {
			if done[d].State == Failed || done[d].State == Skipped {
				s.State, s.Error = Skipped, fmt.Sprintf("needs %q, which failed", d)
			}
			if done[d].Ended.After(ready) {
				ready = done[d].Ended
			}
		}
		if s.State == Skipped {
			continue
		}
		worker := 0
		for w := range free {
			if free[w].Before(free[worker]) {
				worker = w
			}
		}
		s.Began = ready
		if free[worker].After(ready) {
			s.Began = free[worker]
		}
		s.Ended = s.Began.Add(a.takes)
		free[worker] = s.Ended
		s.State = Succeeded
		if s.Error != "" {
			s.State = Failed
			r.Result = Failed
		}
		for n := range s.Notes {
			s.Notes[n].At = s.Began.Add(a.takes * time.Duration(n) / time.Duration(len(s.Notes)))
		}
		if s.Ended.After(last) {
			last = s.Ended
		}
	}
	r.Phases[len(r.Phases)-1].Ended = last
	r.Ended = last
	if r.Result == Succeeded {
		r.Ended = last.Add(1200 * time.Millisecond)
		r.Phases = append(r.Phases, Phase{Name: "observe", Began: last, Ended: r.Ended})
	}
	return r
}

// cut makes a run one that is still going on, at a moment after its beginning.
func cut(r *Run, after time.Duration) *Run {
	at := r.Began.Add(after)
	r.Result, r.Ended = Running, time.Time{}
	phases := r.Phases[:0]
	for _, p := range r.Phases {
		if p.Began.After(at) {
			break
		}
		if p.Ended.After(at) {
			p.Ended = time.Time{}
		}
		phases = append(phases, p)
	}
	r.Phases = phases
	for i := range r.Steps {
		switch s := &r.Steps[i]; {
		case s.Began.After(at):
			s.State, s.Began, s.Ended, s.Notes = Pending, time.Time{}, time.Time{}, nil
		case s.Ended.After(at):
			s.State, s.Ended = Running, time.Time{}
			s.Notes = slices.DeleteFunc(s.Notes, func(n Note) bool { return n.At.After(at) })
		}
	}
	return r
}

func notes(texts ...string) []Note {
	notes := make([]Note, len(texts))
	for i, text := range texts {
		notes[i].Text = text
	}
	return notes
}

// jitter is a duration around one, the same each time.
func jitter(around time.Duration, of ...any) time.Duration {
	sum := uint32(2166136261)
	for _, b := range []byte(fmt.Sprint(of...)) {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return (around * time.Duration(70+sum%61) / 100).Round(time.Millisecond)
}

func hostStep(host, what string, kind Kind, around time.Duration, deps ...string) act {
	return act{Step{Name: host + ": " + what, Host: host, Kind: kind, Deps: deps}, jitter(around, host, what)}
}

// installSteps are those of a first start.
func installSteps(controlPlanes, workers []string) []act {
	var steps []act
	var servers []string
	hosts := append(append([]string{}, controlPlanes...), workers...)
	for i, h := range hosts {
		install := hostStep(h, "install", Change, 4*time.Second)
		for _, f := range []string{"/etc/kubernetes/kubelet.yaml", "/etc/kubernetes/pki/ca.crt", "/etc/systemd/system/containerd.service", "/opt/slipway/kubelet/v1.36.3/bin/kubelet"} {
			install.Changes = append(install.Changes, "+ file "+f+" (missing)")
		}
		for _, u := range []string{"containerd.service", "kubelet.service"} {
			install.Changes = append(install.Changes, "+ unit "+u+" (missing)")
		}
		if i < len(controlPlanes) {
			servers = append(servers, install.Name)
		}
		steps = append(steps, install)
	}
	api := act{Step{Name: "cluster: wait for the API", Kind: Gate, Deps: servers, Notes: notes("connection refused", "etcd has no leader", "readyz: 2 checks fail")}, 5200 * time.Millisecond}
	manifests := act{Step{Name: "cluster: apply manifests", Kind: Cluster, Deps: []string{api.Name}, Changes: []string{"+ Deployment kube-system/coredns", "+ Service kube-system/kube-dns", "+ ConfigMap kube-public/cluster-info"}}, 1400 * time.Millisecond}
	steps = append(steps, api, manifests)
	for i, h := range hosts {
		node := hostStep(h, "wait for the node", Gate, 6*time.Second, api.Name, h+": install")
		node.Notes = notes("the node is not registered", "not Ready: container runtime network not ready")
		late := hostStep(h, "start units that need the API", Change, 700*time.Millisecond, manifests.Name, h+": install")
		units := hostStep(h, "wait for the units", Gate, 2500*time.Millisecond, late.Name)
		steps = append(steps, node, late, units)
		if i < len(controlPlanes) {
			steps = append(steps, hostStep(h, "record that the cluster is up", Change, 60*time.Millisecond, api.Name))
		}
	}
	return steps
}

func names(pool string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("demo-%s-%d", pool, i+1))
	}
	return all
}

// rollingSteps change one control plane after another, then the workers.
func rollingSteps() []act {
	var steps []act
	var gate []string
	for _, h := range append(names("cp", 3), names("worker", 2)...) {
		change := hostStep(h, "change", Change, 3*time.Second, gate...)
		change.Changes = []string{"~ file /etc/kubernetes/kube-apiserver.yaml (content differs)", "^ unit kube-apiserver.service (runs with other inputs)"}
		units := hostStep(h, "wait for the units", Gate, 6*time.Second, change.Name)
		node := hostStep(h, "wait for the node", Gate, 5*time.Second, units.Name)
		node.Notes = notes("not Ready: kubelet stopped posting node status", "Ready, waiting for its labels")
		steps = append(steps, change, units)
		if strings.Contains(h, "cp") {
			server := hostStep(h, "wait for its API server", Gate, 9*time.Second, units.Name)
			server.Notes = notes("connection refused", "readyz: poststarthook/rbac/bootstrap-roles failed")
			node.Deps = []string{server.Name}
			steps = append(steps, server)
			gate = []string{node.Name}
		}
		steps = append(steps, node)
	}
	return steps
}

func failedSteps() []act {
	steps := installSteps(names("cp", 3), names("worker", 1))
	stderr := "demo-cp-2: \"systemctl start containerd.service etcd.service kube-apiserver.service\" failed with exit code 1: " +
		"Job for etcd.service failed because the control process exited with error code.\n" +
		"See \"systemctl status etcd.service\" and \"journalctl -xeu etcd.service\" for details.\n"
	for i := range 12 {
		stderr += fmt.Sprintf(`{"level":"warn","ts":"2026-01-02T12:03:%02d.114Z","caller":"rafthttp/probing_status.go:68","msg":"prober detected unhealthy status","round-tripper-name":"ROUND_TRIPPER_RAFT_MESSAGE","error":"dial tcp 10.88.0.4:2380: connect: no route to host"}`+"\n", 14+i)
	}
	steps[1].Error = stderr + "write /var/lib/etcd/member/snap/db: no space left on device"
	steps[1].takes = 9300 * time.Millisecond
	return steps
}

// samples are the runs that the drawings are tested and looked at with, and the moment at which each is drawn.
func samples(t testing.TB) (map[string]*Run, time.Time) {
	t.Helper()
	install := play(sample(1), 64, installSteps(names("cp", 3), names("worker", 1)))
	failed := play(sample(2), 64, failedSteps())
	failed.Error = "2 steps failed"
	many := play(sample(5), 64, installSteps(names("cp", 3), names("worker", 297)))
	many.Operator = "ci@runner-7"
	unchanged := sample(6)
	unchanged.Result, unchanged.Phases = Unchanged, unchanged.Phases[:2]
	unchanged.Ended = unchanged.Phases[1].Ended
	killed := cut(play(sample(7), 64, rollingSteps()), 31*time.Second)
	killed.abandon()
	single := play(sample(8), 64, installSteps(names("cp", 1), nil))
	manyFailed := installSteps(names("cp", 3), names("worker", 297))
	for _, i := range []int{17, 140, 141} {
		manyFailed[i].Error = "connection lost: " + strings.Repeat("read tcp 10.88.3.9:22: connection reset by peer\n", 3)
	}
	return map[string]*Run{
		"cold":    cold(),
		"install": install, "failed": failed, "many": many, "unchanged": unchanged, "killed": killed, "single": single,
		"rolling":    play(sample(3), 64, rollingSteps()),
		"running":    cut(play(sample(4), 3, installSteps(names("cp", 3), names("worker", 2))), 17*time.Second),
		"manyfailed": play(sample(9), 64, manyFailed),
	}, began.Add(18 * time.Second)
}

// cold is a run that was killed while it built its bundle.
func cold() *Run {
	r := sample(10)
	at := func(minutes float64) time.Time { return began.Add(time.Duration(minutes * float64(time.Minute))) }
	r.Result, r.Phases = Running, r.Phases[:1]
	r.Phases[0].Ended = time.Time{}
	r.Phases[0].Parts = []Part{
		{
			Name: "etcd v3.6.16", State: Succeeded, Began: at(0), Ended: at(2.5),
			Phases: []Phase{{Name: "fetching", Began: at(0.1), Ended: at(1)}, {Name: "compiling", Began: at(1), Ended: at(2.5)}},
		},
		{
			Name: "kubernetes v1.36.3", State: Running, Began: at(2.5), Detail: "444 of 1,480 packages",
			Phases: []Phase{{Name: "fetching", Began: at(2.5), Ended: at(4)}, {Name: "compiling", Began: at(4)}},
		},
		{Name: "pause 3.10.2", State: Failed, Began: at(2.5), Ended: at(9), Detail: "gcc: exit status 1"},
	}
	r.abandon()
	return r
}

// seeds are stored runs to begin fuzzing with.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	runs, _ := samples(t)
	seeds := [][]byte{
		[]byte(`{"version":1,"number":1,"began":"2026-01-02T12:03:04Z","result":"running","steps":[{"name":"a","deps":["a"],"began":"0001-01-02T00:00:00Z","ended":"9999-01-01T00:00:00Z"}]}`),
		[]byte(`{"version":2}`),
		[]byte(`{"version":1,"number":1,"began":"2026-01-02T12:03:04Z","result":"failed","planned":2,"plannedChanges":1,"steps":[{"state":"failed"},{"state":"pending"},{"name":"c","state":"running"}]}`),
	}
	for _, name := range []string{"cold", "failed", "killed", "running", "unchanged"} {
		content, err := json.Marshal(runs[name])
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, content)
	}
	return seeds
}
