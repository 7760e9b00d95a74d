package stack_test

import (
	"path"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// What is readable for more than its owner: nobody but root needs the rest (CIS 1.1 and 4.1 ask for 0600).
var publicFiles = []string{"/etc/crictl.yaml", "/etc/modules-load.d/slipway.conf", "/etc/sysctl.d/90-slipway.conf", stack.AccountsFile, stack.NoResolvConf}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	in := fixture.Input(t)
	in.Facts["demo-worker-1"] = stack.Facts{} // has no resolver
	for host, state := range fixture.Desired(t, in).Hosts {
		for p, f := range state.Files {
			switch {
			case !f.Mode.IsRegular():
			case f.Owner != "root:root":
				t.Errorf("%s: %s is %s's", host, p, f.Owner)
			case slices.Contains(publicFiles, p) != (f.Mode == 0o644), f.Mode != 0o600 && f.Mode != 0o644:
				t.Errorf("%s: %s has mode %v", host, p, f.Mode)
			}
		}
	}
}

// cisFlags are what the CIS benchmark (v1.11) wants to see on command lines, by unit: the section, and the argument. An
// argument that begins with "!" must not be there, whatever its value.
var cisFlags = map[string][][2]string{
	"kube-apiserver.service": {
		{"1.2.1", "!--anonymous-auth"},
		{"1.2.2", "!--token-auth-file"},
		{"1.2.4", "--kubelet-client-key="},
		{"1.2.5", "--kubelet-certificate-authority="},
		{"1.2.7", "--authorization-mode=Node,RBAC"},
		{"1.2.15", "--profiling=false"},
		{"1.2.16", "--audit-log-path="},
		{"1.2.17", "--audit-log-maxage=30"},
		{"1.2.18", "--audit-log-maxbackup=10"},
		{"1.2.19", "--audit-log-maxsize=100"},
		{"1.2.22", "--service-account-key-file="},
		{"1.2.23", "--etcd-certfile="},
		{"1.2.24", "--tls-cert-file="},
		{"1.2.25", "--client-ca-file="},
		{"1.2.26", "--etcd-cafile="},
		{"1.2.27", "--encryption-provider-config="},
		{"1.2.30", "--service-account-extend-token-expiration=false"},
		{"3.2.1", "--audit-policy-file="},
	},
	"kube-controller-manager.service": {
		{"1.3.2", "--profiling=false"},
		{"1.3.3", "--use-service-account-credentials=true"},
		{"1.3.4", "--service-account-private-key-file="},
		{"1.3.5", "--root-ca-file="},
		{"1.3.7", "--bind-address=127.0.0.1"},
	},
	"kube-scheduler.service": {{"1.4.1", "--profiling=false"}, {"1.4.2", "--bind-address=127.0.0.1"}},
	"etcd.service": {
		{"2.1", "--cert-file="},
		{"2.2", "--client-cert-auth=true"},
		{"2.3", "!--auto-tls"},
		{"2.4", "--peer-key-file="},
		{"2.5", "--peer-client-cert-auth=true"},
		{"2.6", "!--peer-auto-tls"},
		{"2.7", "--trusted-ca-file=/etc/kubernetes/pki/etcd/"},
	},
	stack.KubeletService: {{"4.2.7", "--hostname-override="}}, // which nodes' certificates are for; CIS asks where a cloud names nodes
}

func TestCISFlags(t *testing.T) {
	for unit, wants := range cisFlags {
		file := fixture.Desired(t, fixture.Input(t)).Hosts["demo-cp-1"].Files[stack.UnitDir+unit]
		lines := strings.Split(strings.ReplaceAll(string(file.Content), " \\\n", "\n"), "\n")
		for _, want := range wants {
			flag, absent := strings.CutPrefix(want[1], "!")
			has := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), flag) })
			if has == absent {
				t.Errorf("CIS %s: %s: %s is there: %v", want[0], unit, flag, has)
			}
		}
	}
}

// kubeletSettings are the fields of a KubeletConfiguration that an auditor looks at.
type kubeletSettings struct {
	Authentication struct {
		Anonymous struct{ Enabled *bool }
		X509      struct{ ClientCAFile string }
	}
	Authorization                   struct{ Mode string }
	ReadOnlyPort, PodPidsLimit      int
	StreamingConnectionIdleTimeout  string
	MakeIPTablesUtilChains          *bool
	EventRecordQPS                  *int
	TLSCertFile, TLSPrivateKeyFile  string
	SeccompDefault                  bool
	KubeReserved, SystemReserved    map[string]string
	ShutdownGracePeriod             string
	ShutdownGracePeriodCriticalPods string
}

func TestCISKubelet(t *testing.T) {
	for host, state := range fixture.Desired(t, fixture.Input(t)).Hosts {
		var c kubeletSettings
		if err := yaml.Unmarshal(state.Files[stack.KubeletFile].Content, &c); err != nil {
			t.Fatal(err)
		}
		for section, ok := range map[string]bool{
			"4.2.1":  c.Authentication.Anonymous.Enabled != nil && !*c.Authentication.Anonymous.Enabled,
			"4.2.2":  c.Authorization.Mode == "Webhook",
			"4.2.3":  c.Authentication.X509.ClientCAFile == stack.CAFile,
			"4.2.4":  c.ReadOnlyPort == 0,
			"4.2.5":  c.StreamingConnectionIdleTimeout == "", // the default, 4h
			"4.2.6":  c.MakeIPTablesUtilChains == nil,        // the default, true
			"4.2.8":  c.EventRecordQPS == nil,                // the default, 50
			"4.2.9":  path.Ext(c.TLSCertFile) == ".crt" && path.Ext(c.TLSPrivateKeyFile) == ".key",
			"4.2.13": c.PodPidsLimit == 4096,
			"4.2.14": c.SeccompDefault,
		} {
			if !ok {
				t.Errorf("CIS %s does not hold on %s", section, host)
			}
		}
		for _, reserved := range []map[string]string{c.KubeReserved, c.SystemReserved} {
			if reserved["cpu"] == "" || reserved["memory"] == "" {
				t.Errorf("%s reserves %v", host, reserved)
			}
		}
		if c.ShutdownGracePeriod != "30s" || c.ShutdownGracePeriodCriticalPods != "10s" {
			t.Errorf("%s: of %q, %q are for critical pods", host, c.ShutdownGracePeriod, c.ShutdownGracePeriodCriticalPods)
		}
	}
}

// All that the node cannot do without outlives pods when memory runs out.
func TestServicesOutlivePods(t *testing.T) {
	for host, state := range fixture.Desired(t, fixture.Input(t)).Hosts {
		for name := range state.Units {
			text := string(state.Files[stack.UnitDir+name].Content)
			if strings.Contains(text, "Restart=always") && !strings.Contains(text, "\nOOMScoreAdjust=-99") {
				t.Errorf("%s: %s is not protected from the OOM killer", host, name)
			}
		}
	}
}
