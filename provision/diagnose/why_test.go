package diagnose

import (
	"strings"
	"testing"
)

func TestWhy(t *testing.T) {
	for _, row := range []struct{ name, log, want string }{
		{"kubelet", `1.0 h systemd[1]: Started kubelet.service - kubelet.
1.1 h kubelet[7]: I1127 12:00:00.123456       7 server.go:203] "Kubelet version" kubeletVersion="v1.36.3"
1.2 h kubelet[7]: E1127 12:00:00.200000       7 run.go:72] "command failed" err="failed to load kubelet config file, path: /var/lib/kubelet/config.yaml"
1.3 h kubelet[7]: E1127 12:00:00.300000       7 other.go:1] "context canceled"
1.4 h systemd[1]: kubelet.service: Main process exited, code=exited, status=1/FAILURE
1.5 h systemd[1]: kubelet.service: Failed with result 'exit-code'.`, `"command failed" err="failed to load kubelet config file, path: /var/lib/kubelet/config.yaml"`},
		{"etcd", `1.1 h etcd[9]: {"level":"info","ts":"x","msg":"starting"}
1.2 h etcd[9]: {"level":"warn","ts":"x","msg":"slow"}
1.3 h etcd[9]: {"level":"fatal","ts":"x","caller":"etcdmain/etcd.go:204","msg":"discovery failed","error":"member has already been bootstrapped","stacktrace":"a\nb"}
1.4 h systemd[1]: etcd.service: Main process exited, code=exited, status=1/FAILURE`, "discovery failed: member has already been bootstrapped"},
		{"containerd", `1.1 h containerd[3]: time="2026-11-27T12:00:00Z" level=info msg="loading plugin"
1.2 h containerd[3]: time="2026-11-27T12:00:00Z" level=error msg="failed to load \"cni\" during init" error="cni config load failed"
1.3 h containerd[3]: containerd: failed to load TOML: /etc/containerd/config.toml: expected newline`, `failed to load "cni" during init: cni config load failed`},
		{"no program", `1.1 h systemd[1]: Starting kubelet.service - kubelet...
1.2 h (kubelet)[22]: kubelet.service: Unable to locate executable '/opt/x/kubelet': No such file or directory
1.3 h systemd[1]: kubelet.service: Failed at step EXEC spawning /opt/x/kubelet: No such file or directory
1.4 h systemd[1]: kubelet.service: Main process exited, code=exited, status=203/EXEC`, "Failed at step EXEC spawning /opt/x/kubelet: No such file or directory"},
		{"panic", "1.1 h etcd[9]: panic: freepages: failed to get all reachable pages\n1.2 h etcd[9]: goroutine 1 [running]:", "panic: freepages: failed to get all reachable pages"},
		{"killed", "1.1 h systemd[1]: x.service: A process of this unit has been killed by the OOM killer.\n1.2 h systemd[1]: x.service: Main process exited, code=killed, status=9/KILL", "A process of this unit has been killed by the OOM killer."},
		{"only systemd", "1.1 h x[1]: hello\n1.2 h systemd[1]: x.service: Main process exited, code=exited, status=2/INVALIDARGUMENT", "Main process exited, code=exited, status=2/INVALIDARGUMENT"},
		{"an older run", `1.1 h p[1]: E1127 12:00:00.200000       7 a.go:1] "old"
1.2 h systemd[1]: p.service: Scheduled restart job, restart counter is at 1.
1.3 h p[2]: E1127 12:00:01.200000       7 a.go:1] "new"
1.4 h systemd[1]: p.service: Scheduled restart job, restart counter is at 2.
1.5 h systemd[1]: Starting p.service - p...
1.6 h p[3]: hello`, `"new"`},
		{"quiet", "1.1 h x[1]: hello", ""},
		{"nothing", "", ""},
		{"secret", "1.1 h x[1]: Error: cannot open https://me:hunter2hunter2@example.com", "Error: cannot open https://me:[redacted]example.com"},
	} {
		if got := why(strings.Split(row.log, "\n")); got != row.want {
			t.Errorf("%s:\n got %s\nwant %s", row.name, got, row.want)
		}
	}
	if got := why([]string{"1.1 h x[1]: Error: " + strings.Repeat("ü", 1000)}); len([]rune(got)) != maxLine {
		t.Errorf("a long line has %d characters", len([]rune(got)))
	}
}

func FuzzWhy(f *testing.F) {
	f.Add(`1.2 h etcd[9]: {"level":"fatal","msg":"x"}`)
	f.Add(`1.2 h c[9]: level=error msg="a\"b" error=c`)
	f.Fuzz(func(t *testing.T, line string) {
		if got := why([]string{line}); strings.Contains(got, "\n") {
			t.Errorf("%q has more than one line", got)
		}
	})
}
