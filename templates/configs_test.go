package templates

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"
	audit "k8s.io/apiserver/pkg/apis/audit/v1"
	proxy "k8s.io/kube-proxy/config/v1alpha1"
	scheduler "k8s.io/kube-scheduler/config/v1"
	kubelet "k8s.io/kubelet/config/v1beta1"
)

// Kubernetes' own types take every configuration in strict mode: no field is unknown, of another type, or there twice.
func TestConfigurationsAreWhatKubernetesTakes(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{kubelet.AddToScheme, proxy.AddToScheme, scheduler.AddToScheme, apiserver.AddToScheme, audit.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	node := Kubelet{
		CgroupDriver: "systemd", ClusterDNS: "10.96.0.10", DNSDomain: "on", ResolvConf: "/run/systemd/resolve/resolv.conf",
		Reserved: Reserved{KubeCPU: "100m", KubeMemory: "1Gi", SystemCPU: "100m", SystemMemory: "500Mi"},
	}
	local := node
	local.AllowCgroupV1, local.RestrictOOMScoreAdj, local.SharedDisk = true, true, true
	local.Taints = []Taint{{Key: "a", Value: "true", Effect: "NoSchedule"}, {Key: "b", Effect: "NoExecute"}}
	patched := node
	patched.Patch = map[string]any{"maxPods": uint64(77), "evictionHard": map[string]any{"memory.available": "5%"}}

	for name, tc := range map[string]struct {
		config interface{ Render() ([]byte, error) }
		check  func(t *testing.T, have runtime.Object)
	}{
		"kubelet": {node, func(t *testing.T, have runtime.Object) {
			k := as[*kubelet.KubeletConfiguration](t, have)
			if k.ClusterDomain != "on" || k.OOMScoreAdj != nil || k.EvictionHard != nil || k.FailCgroupV1 != nil || *k.PodPidsLimit != 4096 {
				t.Errorf("kubelet: %+v", k)
			}
		}},
		"kubelet of a local machine": {local, func(t *testing.T, have runtime.Object) {
			k := as[*kubelet.KubeletConfiguration](t, have)
			if len(k.RegisterWithTaints) != 2 || *k.OOMScoreAdj != 0 || k.EvictionHard["nodefs.available"] != "0%" || *k.FailCgroupV1 {
				t.Errorf("kubelet: %+v", k)
			}
		}},
		"patched kubelet": {patched, func(t *testing.T, have runtime.Object) {
			k := as[*kubelet.KubeletConfiguration](t, have)
			if k.MaxPods != 77 || k.EvictionHard["memory.available"] != "5%" || k.ClusterDomain != "on" {
				t.Errorf("kubelet: %+v", k)
			}
		}},
		"kube-proxy": {Proxy{NodeName: "demo-cp-1", PodSubnet: "10.244.0.0/16", Mode: "nftables", RestrictOOMScoreAdj: true}, func(t *testing.T, have runtime.Object) {
			p := as[*proxy.KubeProxyConfiguration](t, have)
			if p.Mode != "nftables" || p.HostnameOverride != "demo-cp-1" || *p.Conntrack.MaxPerCore != 0 || *p.OOMScoreAdj != 0 {
				t.Errorf("kube-proxy: %+v", p)
			}
		}},
		"kube-scheduler": {Scheduler{}, func(t *testing.T, have runtime.Object) {
			s := as[*scheduler.KubeSchedulerConfiguration](t, have)
			if !*s.LeaderElection.LeaderElect || *s.EnableProfiling || s.ClientConnection.Kubeconfig == "" {
				t.Errorf("kube-scheduler: %+v", s)
			}
		}},
		"admission": {PodSecurity{Enforce: "baseline", Warn: "restricted", Audit: "restricted"}, func(t *testing.T, have runtime.Object) {
			if a := as[*apiserver.AdmissionConfiguration](t, have); len(a.Plugins) != 2 || a.Plugins[0].Name != "PodSecurity" {
				t.Errorf("admission: %+v", a)
			}
		}},
		"authentication": {Authentication{JWT: []map[string]any{{"issuer": map[string]any{"url": "https://example.com", "audiences": []string{"a"}}}}}, func(t *testing.T, have runtime.Object) {
			if a := as[*apiserver.AuthenticationConfiguration](t, have); len(a.JWT) != 1 || len(a.Anonymous.Conditions) != 4 {
				t.Errorf("authentication: %+v", a)
			}
		}},
		"encryption": {Encryption{Keys: []EncryptionKey{{"new", "bmV3"}, {"old", "b2xk"}}}, func(t *testing.T, have runtime.Object) {
			e := as[*apiserver.EncryptionConfiguration](t, have)
			if p := e.Resources[0].Providers; len(p) != 2 || p[0].Secretbox.Keys[0].Name != "new" || p[0].Secretbox.Keys[1].Secret != "b2xk" || p[1].Identity == nil {
				t.Errorf("encryption: %d providers, wanted are secretbox with both keys and identity", len(p))
			}
		}},
		"audit policy": {AuditPolicy{}, func(t *testing.T, have runtime.Object) {
			if p := as[*audit.Policy](t, have); len(p.Rules) < 5 {
				t.Errorf("audit policy: %+v", p)
			}
		}},
	} {
		text, err := tc.config.Render()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		have, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		tc.check(t, have)
		if _, _, err := decoder.Decode(append([]byte("notAField: 1\n"), text...), nil, nil); err == nil {
			t.Errorf("%s: an unknown field was taken: this test would not see one", name)
		}
	}
}

func as[T runtime.Object](t *testing.T, have runtime.Object) T {
	t.Helper()
	typed, ok := have.(T)
	if !ok {
		t.Fatalf("decoded is a %T", have)
	}
	return typed
}

// The examples of RFC 7386, appendix A, whose target and patch are objects; and lists, which are replaced as they are.
func TestMergePatch(t *testing.T) {
	for _, tc := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{}`, `{"a":[{"b":null}]}`, `{"a":[{"b":null}]}`},
	} {
		if diff := cmp.Diff(object(t, tc.want), mergePatch(object(t, tc.target), object(t, tc.patch))); diff != "" {
			t.Errorf("%s patched with %s (-want +got):\n%s", tc.target, tc.patch, diff)
		}
	}
}

func object(t *testing.T, text string) (out map[string]any) {
	t.Helper()
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}
