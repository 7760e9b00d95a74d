package templates

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// words are YAML of another type, or none, unless they are in quotes. All but the last may be a DNS domain or a label.
var words = []string{
	"on", "off", "yes", "no", "y", "n", "true", "false", "null", "nan", "1", "0x10", "0o7", "1e3", "1.5", "1.10", "2026-11-26", "12.30.45",
	"cluster.local", "a, b: [c] {d} #\"'\n\u2028",
}

// TestScalars: whatever a value looks like, readers of every rendered YAML find the same string.
func TestScalars(t *testing.T) {
	for _, word := range words {
		for name, c := range map[string]struct {
			text func() ([]byte, error)
			want map[string][]any // values by path
		}{
			"kubelet": {Kubelet{
				CgroupDriver: word, ClusterDNS: word, DNSDomain: word, ResolvConf: word, Taints: []Taint{{word, word, word}},
			}.Render, map[string][]any{
				"cgroupDriver": {}, "clusterDNS": {0}, "clusterDomain": {}, "resolvConf": {},
				"registerWithTaints": {0, "key"}, "registerWithTaints ": {0, "value"}, "registerWithTaints  ": {0, "effect"},
			}},
			"kube-proxy": {Proxy{NodeName: word, PodSubnet: word, Mode: word, ConntrackWritable: true}.Render, map[string][]any{
				"hostnameOverride": {}, "clusterCIDR": {}, "mode": {},
			}},
			"admission": {PodSecurity{word, word, word}.Render, map[string][]any{
				"plugins": {0, "configuration", "defaults", "enforce"},
			}},
			"encryption": {Encryption{Keys: []EncryptionKey{{word, word}}}.Render, map[string][]any{
				"resources": {0, "providers", 0, "secretbox", "keys", 0, "name"},
			}},
		} {
			text, err := c.text()
			if err != nil {
				t.Fatalf("%s of %q: %v", name, word, err)
			}
			var doc map[string]any
			if err := yaml.Unmarshal(text, &doc); err != nil {
				t.Errorf("%s of %q: %v\n%s", name, word, err, text)
				continue
			}
			for field, path := range c.want {
				if got := at(doc[strings.TrimSpace(field)], path); got != word {
					t.Errorf("%s: %s is %T %v, want the string %q", name, field, got, got, word)
				}
			}
		}
	}
}

// at follows keys and indices.
func at(value any, path []any) any {
	for _, step := range path {
		switch v := value.(type) {
		case map[string]any:
			key, _ := step.(string)
			value = v[key]
		case []any:
			i, _ := step.(int)
			value = v[i]
		}
	}
	return value
}

// TestKeysStayPlain: hosts are known by the digest of this file (provision.Refuse), which an older slipway wrote without quotes.
func TestKeysStayPlain(t *testing.T) {
	for _, first := range "+/0a9Z" {
		key := string(first) + strings.Repeat("+/k", 14) + "="
		text, err := Encryption{Keys: []EncryptionKey{{"key1", key}}}.Render()
		if err != nil || !strings.Contains(string(text), "name: key1\n        secret: "+key+"\n") {
			t.Errorf("%v:\n%s", err, text)
		}
	}
}
