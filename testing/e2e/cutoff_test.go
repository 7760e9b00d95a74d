package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// checkCutOff cuts SSH to one control plane of three, whose etcd works, and stops the etcd of another: the cluster lives by the
// other two. A change of both that can be reached repairs the one that is down, and does not restart the other, which etcd
// cannot spare as far as anybody can see: they are never changed together. With the way back, the rest is done.
func (c *cluster) checkCutOff(t *testing.T) {
	t.Helper()
	k := c.kube(t)
	nodes := c.nodes()
	needed, down, away := nodes[0], nodes[1], c.machine(t, nodes[2])
	started := func(node string) string {
		return docker(t, "exec", node, "systemctl", "show", "--value", "-p", "ActiveEnterTimestampMonotonic", "etcd", "kube-apiserver")
	}
	rule := []string{"INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"}
	docker(t, append([]string{"exec", away, "iptables", "-I"}, rule...)...)
	docker(t, "exec", down, "systemctl", "stop", "etcd")
	before := started(needed)
	c.spec.extra += "  etcd:\n    extraArgs: {snapshot-count: \"9000\"}\n"
	c.write(t, c.spec)

	some := []string{"--connect-timeout", "3s", "--only", needed + "," + down}
	var planned struct {
		Alive bool
		Steps []struct{ Verb string }
	}
	r := c.ok(t, append([]string{"plan", "-f", c.file, "--output", "json"}, some...)...)
	if err := json.Unmarshal([]byte(r.stdout), &planned); err != nil {
		t.Fatal(err)
	}
	for _, s := range planned.Steps {
		if s.Verb == "install" || !planned.Alive {
			t.Errorf("it lives, and the plan has %+v", planned)
			break
		}
	}
	r = c.applyStoppedWhen(t, os.Interrupt, "the one that was down is repaired, and the other is waited for", func(ctx context.Context) error {
		out, err := dockerContext(ctx, "exec", down, "sh", "-c", "systemctl is-active etcd; tr '\\0' ' ' </proc/$(pidof etcd)/cmdline")
		if err != nil {
			return err
		}
		if !strings.HasPrefix(out, "active") || !strings.Contains(out, "--snapshot-count=9000") {
			return fmt.Errorf("%s has %q", down, out)
		}
		return c.waits(ctx, needed+": check that etcd keeps its quorum", 5*time.Second)
	}, some...)
	if r.code != 130 {
		t.Errorf("want exit code 130: %v", r)
	}
	if after := started(needed); after != before {
		t.Errorf("%s, which is needed, was restarted: %q, before %q", needed, after, before)
	}
	if _, err := k.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}

	docker(t, append([]string{"exec", away, "iptables", "-D"}, rule...)...)
	c.apply(t)
	c.checkEtcd(t, needed)
	if started(needed) == before {
		t.Errorf("%s was not changed in the end", needed)
	}
	c.checkNoChange(t)
}

// waits wants a step of the last run to have been waiting for some time.
func (c *cluster) waits(ctx context.Context, name string, long time.Duration) error {
	out, err := c.command(ctx, "runs", "show", "-f", c.file, "--output", "json").Output()
	if err != nil {
		return err
	}
	var run struct {
		Steps []struct {
			Name         string
			Began, Ended time.Time
		}
	}
	if err := json.Unmarshal(out, &run); err != nil {
		return err
	}
	for _, s := range run.Steps {
		if s.Name == name && !s.Began.IsZero() && s.Ended.IsZero() && time.Since(s.Began) > long {
			return nil
		}
	}
	return fmt.Errorf("%q is not waiting in %+v", name, run.Steps)
}
