package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// safety is a living cluster with data that must survive, and what its machines are made of.
type safety struct {
	*cluster
	kube *kube
	spec clusterSpec // as it was applied
}

// safetyRows prove the rows of the table in docs/safety.md. They run in the order of the table; each leaves a healthy
// cluster with its data behind. A row that is proven by another test names it.
var safetyRows = map[string]struct {
	prove func(*safety, *testing.T)
	by    string
}{
	"disk":            {prove: (*safety).disk},
	"data":            {prove: (*safety).data},
	"member":          {prove: (*safety).member},
	"membership":      {prove: (*safety).membership},
	"quorum":          {by: "TestEveryObservationIsSafe"},
	"surplus":         {prove: (*safety).surplus},
	"foreign-machine": {prove: (*safety).foreignMachine},
	"foreign-host":    {prove: (*safety).foreignHost},
	"two-specs":       {prove: (*safety).twoSpecs},
	"networks":        {prove: (*safety).networks},
	"plugin":          {prove: (*safety).plugin},
	"keys":            {prove: (*safety).keys},
	"state":           {prove: (*safety).destroyed},
	"directory":       {prove: (*safety).directory},
}

// TestSafety walks the table of docs/safety.md on a cluster with data.
func TestSafety(t *testing.T) {
	parallel(t, 300*time.Second)
	c := newCluster(t, "e2e-safe", clusterSpec{subnet: "10.88.41.0/24", controlPlanes: 3, workers: 1})
	c.apply(t)
	s := &safety{cluster: c, kube: c.kube(t), spec: c.spec}
	_, err := s.kube.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Data: map[string]string{"a": "b"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "safety.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, row[1])
	}
	if len(rows) != len(safetyRows) {
		t.Errorf("the table has the rows %v, and the test %d", rows, len(safetyRows))
	}
	// What ends with an empty cluster comes last.
	slices.SortStableFunc(rows, func(a, b string) int { return last(a) - last(b) })
	for _, row := range rows {
		proof, ok := safetyRows[row]
		switch {
		case !ok:
			t.Errorf("no test for the row %q", row)
		case proof.by != "":
			s.exists(t, proof.by)
		default:
			t.Run(row, func(t *testing.T) { proof.prove(s, t) })
		}
	}
}

func last(row string) int {
	return slices.Index([]string{"member", "data", "state", "directory"}, row) + 1
}

// exists wants a test of that name anywhere.
func (s *safety) exists(t *testing.T, name string) {
	t.Helper()
	files, err := filepath.Glob("../../provision/*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), "func "+name+"(") {
			return
		}
	}
	t.Errorf("there is no test %s", name)
}

// things are all machines, disks and networks of the cluster, with their IDs.
func (s *safety) things(t *testing.T) string {
	t.Helper()
	label := "label=slipway.dev/cluster=" + s.name
	return docker(t, "ps", "-a", "--no-trunc", "--filter", label, "--format", "{{.ID}} {{.Names}}") + "\n" +
		docker(t, "volume", "ls", "--filter", label, "--format", "{{.Name}}") + "\n" + docker(t, "network", "ls", "--filter", label, "--format", "{{.ID}}")
}

// refused wants slipway to fail and to leave everything as it is.
func (s *safety) refused(t *testing.T, words []string, args ...string) {
	t.Helper()
	before := s.things(t)
	r := s.run(t, nil, append(args, "-f", s.file)...)
	if r.code != 1 {
		t.Errorf("want exit code 1: %v", r)
	}
	wantError(t, r, words...)
	if after := s.things(t); after != before {
		t.Errorf("slipway %v was refused, and left of\n%s\nthis:\n%s", args, before, after)
	}
}

// healthy wants the cluster to be so, with its data, and nothing to be left to do.
func (s *safety) healthy(t *testing.T) {
	t.Helper()
	s.waitReady(t, s.kube, time.Minute)
	s.checkData(t)
	s.checkNoChange(t)
}

func (s *safety) checkData(t *testing.T) {
	t.Helper()
	if _, err := s.kube.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("the data is not there: %v", err)
	}
}

// disk removes machines, in every way that leaves their disks, and wants them back with their data.
func (s *safety) disk(t *testing.T) {
	nodes := s.nodes()
	for name, tt := range map[string]struct {
		removed []string
		args    []string
	}{
		"a control plane":           {nodes[1:2], nil},
		"the worker, with --only":   {nodes[3:], []string{"--only", nodes[3]}},
		"all but one control plane": {nodes[1:], nil},
		"all":                       {nodes, nil},
	} {
		t.Run(name, func(t *testing.T) {
			plan := filepath.Join(t.TempDir(), "saved.plan")
			s.ok(t, "plan", "-f", s.file, "-o", plan)
			docker(t, append([]string{"rm", "-f", "-v"}, tt.removed...)...)
			before := s.things(t)
			if r := s.run(t, nil, "apply", plan, "--yes"); r.code != 1 || s.things(t) != before {
				t.Errorf("the saved plan of machines that are gone: %v, and of\n%s\nthis is left:\n%s", r, before, s.things(t))
			}
			s.refused(t, []string{tt.removed[0] + " does not exist"}, "plan", "-o", filepath.Join(t.TempDir(), "a.plan"))
			s.ok(t, append([]string{"apply", "-f", s.file, "--yes"}, tt.args...)...)
			s.healthy(t)
		})
	}
}

// keys hides the state: what is there is another's then, whether machines run or only disks are left.
func (s *safety) keys(t *testing.T) {
	aside := s.state + ".aside"
	hide := func() {
		if err := os.Rename(s.state, aside); err != nil {
			t.Fatal(err)
		}
	}
	restore := func() {
		if err := os.RemoveAll(s.state); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, s.state); err != nil {
			t.Fatal(err)
		}
	}
	hide()
	s.refused(t, []string{"do not belong to it", s.nodes()[0]}, "apply", "--yes")
	docker(t, append([]string{"rm", "-f"}, s.nodes()...)...)
	s.refused(t, []string{"do not belong to it", "disk " + s.nodes()[0], "docker volume rm"}, "apply", "--yes")
	s.refused(t, []string{"do not belong to it"}, "apply", "--yes", "--only", s.nodes()[3])
	s.refused(t, []string{"do not belong to it"}, "plan")
	restore()
	s.apply(t)
	s.healthy(t)
}

// foreignMachine is a destroy by somebody who has no state of this cluster.
func (s *safety) foreignMachine(t *testing.T) {
	mine := s.state
	s.state = filepath.Join(t.TempDir(), "another")
	defer func() { s.state = mine }()
	s.refused(t, []string{"no state of cluster " + s.name, "nothing was removed", s.nodes()[0]}, "destroy", "--yes")
}

// foreignHost wants a host that carries another UID to be left alone, and the others to be managed.
func (s *safety) foreignHost(t *testing.T) {
	worker := s.nodes()[3]
	s.sshOK(t, worker, "cp /var/lib/slipway/cluster /root/uid; echo 0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22 >/var/lib/slipway/cluster; echo '# mine' >>/etc/crictl.yaml")
	s.sshOK(t, s.nodes()[0], "rm /etc/crictl.yaml")
	s.refused(t, []string{worker + ": it is part of another cluster, with the UID 0b7c1c3e"}, "apply", "--yes")
	s.sshOK(t, s.nodes()[0], "test -s /etc/crictl.yaml") // this was seen to
	s.sshOK(t, worker, "grep -q '# mine' /etc/crictl.yaml; mv /root/uid /var/lib/slipway/cluster")
	s.apply(t)
	s.healthy(t)
}

// twoSpecs applies another file with the same name of a cluster.
func (s *safety) twoSpecs(t *testing.T) {
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	mine := s.file
	defer func() { s.file = mine }()
	s.file = filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(s.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.refused(t, []string{mine, s.file, "metadata.name", "uid: "}, "apply", "--yes")
}

// networks changes them, which a living cluster cannot take.
func (s *safety) networks(t *testing.T) {
	changed := s.spec
	changed.extra += "  network: {podSubnet: 10.50.0.0/16}\n"
	s.write(t, changed)
	defer s.write(t, s.spec)
	s.refused(t, []string{"spec.network.podSubnet was 10.244.0.0/16"}, "apply", "--yes")
}

// plugin changes it, which pods of a living cluster would lose their network by, without the flag that allows it.
func (s *safety) plugin(t *testing.T) {
	changed := s.spec
	changed.extra += "  network: {plugin: none}\n"
	s.write(t, changed)
	const reason = "spec.network.plugin was flannel and is none"
	s.refused(t, []string{reason, "--allow-plugin-change"}, "apply", "--yes")
	s.refused(t, []string{reason, "--allow-plugin-change"}, "plan")
	s.refused(t, []string{"--only"}, "apply", "--yes", "--allow-plugin-change", "--only", s.nodes()[3])
	s.write(t, s.spec)
	s.checkNoChange(t)
}

// membership asks for more control planes and for fewer: nothing is made, and the old spec is as good as before.
func (s *safety) membership(t *testing.T) {
	for n, node := range map[int]string{5: "-cp-4", 1: "-cp-2"} {
		changed := s.spec
		changed.controlPlanes = n
		s.write(t, changed)
		s.refused(t, []string{s.name + node}, "apply", "--yes")
		s.refused(t, []string{s.name + node}, "plan")
	}
	s.write(t, s.spec)
	s.checkNoChange(t)
}

// surplus makes a worker that joins, which is not taken away again when it leaves the spec.
func (s *safety) surplus(t *testing.T) {
	fewer := s.spec
	fewer.workers = 0
	s.write(t, fewer)
	defer s.write(t, s.spec)
	r := s.ok(t, "apply", "-f", s.file, "--yes")
	if !strings.Contains(r.stderr, s.name+"-worker-1 is not in ") {
		t.Errorf("the machine that left the spec is not named: %v", r)
	}
	s.refused(t, []string{"has joined the cluster"}, "destroy", "--machine", s.name+"-worker-1", "--yes")
	docker(t, "exec", s.name+"-worker-1", "mv", "/var/lib/slipway", "/root/aside") // as if it had never joined
	s.write(t, s.spec)
	s.refused(t, []string{"is in " + s.file}, "destroy", "--machine", s.name+"-worker-1", "--yes")
	s.write(t, fewer)
	s.ok(t, "destroy", "-f", s.file, "--machine", s.name+"-worker-1", "--yes")
	if left := s.disks(t, s.name+"-worker-1"); len(left) > 0 {
		t.Errorf("of the machine are left the disks %v", left)
	}
	s.write(t, s.spec)
	s.apply(t)
	s.healthy(t)
}

// member loses a machine with its disk: it is left alone, and everything else is managed.
func (s *safety) member(t *testing.T) {
	lost := s.nodes()[1]
	docker(t, "rm", "-f", lost)
	docker(t, append([]string{"volume", "rm"}, s.disks(t, lost)...)...)
	s.refused(t, []string{lost + ": its machine is gone"}, "plan")
	changed := s.spec
	changed.workerLabels = "tier: web"
	s.write(t, changed)
	s.refused(t, []string{lost + ": its machine is gone"}, "apply", "--yes")
	node, err := s.kube.CoreV1().Nodes().Get(t.Context(), s.nodes()[3], metav1.GetOptions{})
	if err != nil || node.Labels["tier"] != "web" {
		t.Errorf("the others were not managed: %v, %v", node.Labels, err)
	}
	s.ok(t, "apply", "-f", s.file, "--yes", "--only", s.nodes()[0]+","+s.nodes()[3])
	r := s.run(t, nil, "certs", "renew", "-f", s.file, "--yes", "--wait=served", "kubelet-client")
	if r.code != 1 || !strings.Contains(r.stderr, lost+": its machine is gone") || strings.Contains(r.stderr, "nothing was changed") {
		t.Errorf("renewed without the one that is lost: %v", r)
	}
	s.checkData(t)
}

// disks are the volumes of a machine.
func (s *safety) disks(t *testing.T, machine string) []string {
	t.Helper()
	return strings.Fields(docker(t, "volume", "ls", "-q", "--filter", "label=slipway.dev/machine="+machine))
}

// data loses every disk of a control plane: nothing begins again without its own yes.
func (s *safety) data(t *testing.T) {
	old := t.TempDir()
	docker(t, "exec", s.nodes()[0], "systemctl", "stop", "etcd")
	for _, dir := range dataDirs {
		docker(t, "cp", "-q", "-a", s.nodes()[0]+":"+dir, old)
	}
	docker(t, "rm", "-f", s.nodes()[0], s.nodes()[2])
	docker(t, append([]string{"volume", "rm"}, append(s.disks(t, s.nodes()[0]), s.disks(t, s.nodes()[2])...)...)...)
	hint := "--rebuild-empty " + s.name
	s.refused(t, []string{hint, "has been up since"}, "apply", "--yes")
	s.refused(t, []string{hint}, "apply", "--yes", "--only", s.nodes()[3])
	s.refused(t, []string{hint}, "plan")
	s.refused(t, []string{hint}, "certs", "renew", "--yes")
	s.refused(t, []string{"names \"other\""}, "apply", "--yes", "--rebuild-empty", "other")
	s.ok(t, "apply", "-f", s.file, "--yes", "--rebuild-empty", s.name)
	s.waitReady(t, s.kube, time.Minute)
	s.checkNoChange(t)
	s.refused(t, []string{"still has etcd data"}, "apply", "--yes", "--rebuild-empty", s.name)
	s.returned(t, s.nodes()[0], old)
}

// dataDirs have etcd's data on a control plane, and what slipway has recorded beside it.
var dataDirs = []string{"/var/lib/etcd", "/var/lib/slipway"}

// returned brings the data of before back to one control plane of a cluster that has begun again. Its etcd and that of the others
// take nothing from each other, and it is left alone.
func (s *safety) returned(t *testing.T, node, old string) {
	docker(t, "exec", node, "systemctl", "stop", "etcd")
	for _, dir := range dataDirs {
		docker(t, "exec", node, "sh", "-c", "rm -rf "+dir+"/*")
		docker(t, "cp", "-q", "-a", filepath.Join(old, filepath.Base(dir)), node+":"+filepath.Dir(dir))
	}
	docker(t, "exec", node, "systemctl", "start", "--no-block", "etcd")
	s.refused(t, []string{node + ": its etcd data is of another generation of this cluster"}, "apply", "--yes")
	eventually(t, time.Minute, "the others go on by themselves", func(ctx context.Context) error { // a connection to its API server is kept for a while
		list, err := s.kube.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		if err == nil && strings.Contains(fmt.Sprint(list.Items), "kept") {
			t.Error("the data of before is there")
		}
		return err
	})
	if docker(t, "exec", node, "sh", "-c", "ls /var/lib/etcd/member/wal") == "" {
		t.Error("the data of before was not left alone")
	}
}

// notOurs is a file of somebody's in the directory of the state.
func (s *safety) notOurs() string { return filepath.Join(s.state, s.name, "mine.txt") }

// destroyed destroys the cluster, beside a file of somebody's, and wants its machines and its state to be gone.
func (s *safety) destroyed(t *testing.T) {
	if err := os.WriteFile(s.notOurs(), []byte("not slipway's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.ok(t, "destroy", "-f", s.file, "--yes"); !strings.Contains(r.stderr, filepath.Base(s.notOurs())) {
		t.Errorf("what was left is not named: %v", r)
	}
	if s.things(t) != "\n\n" {
		t.Errorf("machines are left: %s", s.things(t))
	}
	s.walk(t, func(path, _ string) {
		if path != s.notOurs() {
			t.Errorf("of the state is left %s", path)
		}
	})
}

// directory wants what destroy found beside the state to be as it was.
func (s *safety) directory(t *testing.T) {
	if text, err := os.ReadFile(s.notOurs()); err != nil || string(text) != "not slipway's\n" {
		t.Errorf("somebody's file is %q, %v", text, err)
	}
	if err := os.RemoveAll(filepath.Dir(s.notOurs())); err != nil {
		t.Error(err)
	}
}
