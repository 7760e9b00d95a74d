package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDiagnose plants one fault after another: each is named, and nothing else, and its remedy works when typed as printed.
// These are some of the faults; TestLongDiagnose plants all.
func TestDiagnose(t *testing.T) {
	parallel(t, 2*time.Minute)
	d := newDiagnosed(t, "e2e-diag", "10.88.40.0/24")
	d.checkWell(t, 3)
	t.Run("bundle", d.checkBundle)
	for i, f := range faults {
		if i%5 == 0 {
			t.Run(f.name, func(t *testing.T) { d.check(t, f) })
		}
	}
}

// TestLongDiagnose plants all faults, also those that take longer to show, or to mend, and wants no finding on a healthy cluster
// fifty times.
func TestLongDiagnose(t *testing.T) {
	long(t)
	parallel(t, 15*time.Minute)
	d := newDiagnosed(t, "e2e-diaglong", "10.88.41.0/24")
	for _, f := range slices.Concat(faults, slowFaults) {
		t.Run(f.name, func(t *testing.T) { d.check(t, f) })
	}
	d.checkWell(t, 50)
}

// diagnosed is a cluster whose faults are found.
type diagnosed struct {
	*cluster
	kube *kube
}

func newDiagnosed(t *testing.T, name, subnet string) *diagnosed {
	t.Helper()
	// A small quota, so that etcd can be filled.
	c := newCluster(t, name, clusterSpec{subnet: subnet, controlPlanes: 3, workers: 1, extra: "  etcd:\n    extraArgs: {quota-backend-bytes: \"33554432\"}\n"})
	c.apply(t)
	d := &diagnosed{c, c.kube(t)}
	c.waitReady(t, d.kube, time.Minute)
	d.await(t, "nothing is found", func(r diagnosis) error { return wantOutline(r.outline(d.name), "") })
	return d
}

// diagnosis is the JSON of diagnose.
type diagnosis struct {
	Healthy         bool
	Findings, Infos []finding
}

type finding struct {
	Rule, Host, What, Evidence, More string
	Remedy                           struct {
		Text     string
		Commands []string
	}
	Explains []finding
}

// outline is "rule node, rule node", with the names of nodes without that of the cluster.
func (r diagnosis) outline(cluster string) string { return outlineOf(r.Findings, cluster) }

func outlineOf(findings []finding, cluster string) string {
	var all []string
	for _, f := range findings {
		all = append(all, strings.TrimSpace(f.Rule+" "+strings.TrimPrefix(f.Host, cluster+"-")))
	}
	return strings.Join(all, ", ")
}

func (d *diagnosed) diagnose(t *testing.T, more ...string) (diagnosis, result) {
	t.Helper()
	r := d.run(t, nil, append([]string{"diagnose", "-f", d.file, "--output", "json"}, more...)...)
	var found diagnosis
	if err := json.Unmarshal([]byte(r.stdout), &found); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	want := 1
	if found.Healthy {
		want = 0
	}
	if r.code != want || found.Healthy != (len(found.Findings) == 0) {
		t.Errorf("want exit code %d: %v", want, r)
	}
	return found, r
}

// await diagnoses until a check is satisfied: a fault takes a moment to show, and a remedy to work.
func (d *diagnosed) await(t *testing.T, what string, check func(r diagnosis) error) diagnosis {
	t.Helper()
	var last diagnosis
	eventually(t, 3*time.Minute, what, func(context.Context) error {
		var text result
		last, text = d.diagnose(t)
		if err := check(last); err != nil {
			return fmt.Errorf("%w; it said:\n%s", err, text.stdout)
		}
		return nil
	})
	return last
}

func wantOutline(got, want string) error {
	if got != want {
		return fmt.Errorf("found %q, want %q", got, want)
	}
	return nil
}

// checkWell wants no finding, however often one looks.
func (d *diagnosed) checkWell(t *testing.T, times int) {
	t.Helper()
	for i := range times {
		if found, r := d.diagnose(t); !found.Healthy {
			t.Fatalf("of a cluster that is well, at the %d. time: %v", i+1, r)
		}
	}
	if text := d.ok(t, "diagnose", "-f", d.file).stdout; !strings.HasPrefix(text, "No problems found (") {
		t.Errorf("it says: %s", text)
	}
}

// fault is something that goes wrong.
type fault struct {
	name  string
	plant func(t *testing.T, d *diagnosed)
	// want is the outline of what is found: exactly that. info is of remarks.
	want, info string
	// says is in the finding.
	says string
	// mend is for findings whose remedy is no command.
	mend func(t *testing.T, d *diagnosed)
}

// check plants a fault, waits until it is found, types what the finding shows, and waits until nothing is found.
func (d *diagnosed) check(t *testing.T, f fault) {
	f.plant(t, d)
	found := d.await(t, f.name+" is found", func(r diagnosis) error {
		if err := wantOutline(r.outline(d.name), f.want); err != nil || f.info == "" {
			return err
		}
		if got := outlineOf(r.Infos, d.name); !strings.Contains(got, f.info) {
			return fmt.Errorf("the remarks are %q, want %q", got, f.info)
		}
		return nil
	})
	list := found.Findings
	if f.info != "" {
		list = slices.DeleteFunc(found.Infos, func(i finding) bool { return i.Rule != strings.Fields(f.info)[0] })
	}
	text := list[0].What + list[0].Evidence
	if !strings.Contains(text, f.says) {
		t.Errorf("%q is not in %s", f.says, text)
	}
	for _, one := range list {
		if one.Rule != "machine" { // status says by its exit code that it is not well
			d.typed(t, one.More)
		}
	}
	if f.mend != nil {
		f.mend(t, d)
	} else {
		for _, one := range list {
			if len(one.Remedy.Commands) == 0 {
				t.Fatalf("there is no command that mends %+v", one)
			}
			for _, c := range one.Remedy.Commands {
				d.typed(t, c)
			}
		}
	}
	d.await(t, f.name+" is mended", func(r diagnosis) error {
		if got := outlineOf(r.Infos, d.name); f.info != "" && strings.Contains(got, f.info) {
			return fmt.Errorf("the remarks are still %q", got)
		}
		return wantOutline(r.outline(d.name), "")
	})
}

// typed runs a command as it was printed, in a shell. Without a terminal apply needs --yes.
func (d *diagnosed) typed(t *testing.T, command string) {
	t.Helper()
	if strings.HasPrefix(command, "slipway apply") {
		command += " --yes"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	dir := t.TempDir()
	for name, to := range map[string]string{"slipway": binary, "kubectl": d.kube.kubectl} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Env = append(os.Environ(), "SLIPWAY_STATE_DIR="+d.state, "KUBECONFIG="+d.kube.kubeconfig, "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("`%s`: %v\n%s", command, err, out)
	} else {
		t.Logf("typed: %s", command)
	}
}

func (d *diagnosed) worker() string { return d.name + "-worker-1" }

func (d *diagnosed) cp(n int) string { return fmt.Sprintf("%s-cp-%d", d.name, n) }

// on runs a script on a node; n is the number of a control plane, 0 the worker.
func on(n int, script string) func(t *testing.T, d *diagnosed) {
	return func(t *testing.T, d *diagnosed) {
		t.Helper()
		node := d.worker()
		if n > 0 {
			node = d.cp(n)
		}
		d.sshOK(t, node, "set -e\n"+strings.ReplaceAll(script, "{cp-1}", d.address(1)))
	}
}

// address of a control plane: the local provider gives them out in order.
func (d *diagnosed) address(n int) string {
	return strings.TrimSuffix(d.spec.subnet, "0/24") + fmt.Sprint(10+n)
}

// kubectl runs kubectl with a manifest on stdin, if there is one.
func kubectl(manifest string, args ...string) func(t *testing.T, d *diagnosed) {
	return func(t *testing.T, d *diagnosed) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), d.kube.kubectl, append([]string{"--kubeconfig", d.kube.kubeconfig}, args...)...)
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(manifest, "{image}", d.dnsImage(t)))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("kubectl %v: %v: %s", args, err, out)
		}
	}
}

// dnsImage is one that all nodes have.
func (d *diagnosed) dnsImage(t *testing.T) string {
	t.Helper()
	deployment, err := d.kube.AppsV1().Deployments("kube-system").Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return deployment.Spec.Template.Spec.Containers[0].Image
}

// checkBundle plants secrets, and searches the archive for them and for all keys of the state.
func (d *diagnosed) checkBundle(t *testing.T) {
	secrets := map[string]string{"a Secret": "correct horse battery staple", "a token": "q7w8e9.0123456789abcdef"}
	objects := []*corev1.Secret{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "planted"}, StringData: map[string]string{"password": secrets["a Secret"]}},
		{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-q7w8e9"}, Type: "bootstrap.kubernetes.io/token",
			StringData: map[string]string{"token-id": "q7w8e9", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"},
		},
	}
	for _, s := range objects {
		if _, err := d.kube.CoreV1().Secrets(s.Namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// Where an archive looks: a log and a configuration file.
	on(0, `echo 'planted: correct horse battery staple and q7w8e9.0123456789abcdef' | systemd-cat -t kubelet
cp -a /etc/kubernetes/kube-proxy.yaml /root/; { echo "# $(base64 -w0 /etc/kubernetes/pki/kube-proxy.key)"; sed 's/^/# /' /etc/kubernetes/pki/kube-proxy.key; echo '# correct horse battery staple'; } >>/etc/kubernetes/kube-proxy.yaml`)(t, d)
	defer on(0, "mv /root/kube-proxy.yaml /etc/kubernetes/")(t, d)
	d.walk(t, func(path, content string) {
		for i, line := range keyLines(content) {
			secrets[fmt.Sprintf("%s, line %d", path, i)] = line
		}
		if strings.HasSuffix(path, "encryption-key") {
			_, key, _ := strings.Cut(content, ":")
			secrets[path] = key
		}
	})
	if len(secrets) < 20 {
		t.Fatalf("there are only %d secrets to look for", len(secrets))
	}
	file := filepath.Join(t.TempDir(), "archive.tar.gz")
	d.run(t, nil, "diagnose", "-f", d.file, "--bundle", file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the archive: %v, %v", info, err)
	}
	files := unpacked(t, file)
	for _, part := range []string{"evidence.json", "findings.txt", "status.txt", "log/kubelet.service.log", "etc/kubernetes/kube-proxy.yaml", "routes.txt", "cluster.yaml"} {
		if !slices.ContainsFunc(files, func(f [2]string) bool { return strings.HasSuffix(f[0], part) && len(f[1]) > 0 }) {
			t.Errorf("the archive has no %s", part)
		}
		if slices.ContainsFunc(files, func(f [2]string) bool { return f[0] == "incomplete.txt" }) {
			t.Error("the archive is incomplete")
		}
	}
	for name, s := range secrets {
		for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s)), hex.EncodeToString([]byte(s))} {
			for _, f := range files {
				if strings.Contains(f[1], strings.TrimRight(form, "=")) {
					t.Errorf("%s has %s", f[0], name)
				}
			}
		}
	}
}

// unpacked are the names and contents of an archive.
func unpacked(t *testing.T, file string) (files [][2]string) {
	t.Helper()
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, [2]string{header.Name, string(text)})
	}
}
