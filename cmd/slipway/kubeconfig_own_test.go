package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/users"
)

// keptSecrets are those of another cluster than any before.
func keptSecrets(t *testing.T) *keys.Stored {
	t.Helper()
	_, c, _, _, _ := keptCluster(t)
	kept, err := c.readStored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// adminOf is the kubeconfig that a cluster of these secrets gives away.
func adminOf(t *testing.T, s *keys.Stored, server string) *clientcmdapi.Config {
	t.Helper()
	text, err := stack.AdminKubeconfig("demo", server, s.PKI())
	if err != nil {
		t.Fatal(err)
	}
	config, err := (&kubeconfigRun{}).named(text)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

const adminContext = "kubernetes-admin@demo"

func TestMergeRefusesAnothersEntries(t *testing.T) {
	theirs, ours := keptSecrets(t), keptSecrets(t)
	file := filepath.Join(t.TempDir(), "config")
	t.Setenv("KUBECONFIG", file)
	mine, before := adminOf(t, ours, "https://127.0.0.1:6443"), adminOf(t, theirs, "https://prod:6443")
	elsewhere := before.DeepCopy() // only the context has the name that is wanted
	elsewhere.Clusters["prod"], elsewhere.Contexts[adminContext].Cluster = elsewhere.Clusters["demo"], "prod"
	delete(elsewhere.Clusters, "demo")
	user := elsewhere.DeepCopy() // only the user has it
	user.AuthInfos[adminContext] = user.AuthInfos["kubernetes-admin"]
	user.Contexts = map[string]*clientcmdapi.Context{"prod": {Cluster: "prod", AuthInfo: adminContext}}
	for kind, config := range map[string]*clientcmdapi.Config{"cluster": before, "context": elsewhere, "user": user} {
		writeConfig(t, file, config, 0o600)
		text, _ := os.ReadFile(file)
		_, err := mergeKubeconfig(mine, casIn(ours))
		var taken *takenError
		if !errors.As(err, &taken) || taken.Kind != kind || taken.Server != "https://prod:6443" || taken.File != file {
			t.Errorf("%s: %+v", kind, err)
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != string(text) {
			t.Errorf("%s: the file was changed, %v", kind, err)
		}
		if _, err := mergeKubeconfig(renamed(mine, "mine"), casIn(ours)); err != nil {
			t.Errorf("%s: under another name: %v", kind, err)
		}
		got := readConfig(t, file)
		if got.CurrentContext != "mine" || got.Clusters["mine"].Server != "https://127.0.0.1:6443" || got.Contexts["mine"].AuthInfo != "mine" ||
			len(got.Clusters) != 2 || len(got.AuthInfos["mine"].ClientKeyData) == 0 {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}

// Nothing is issued for what would be refused.
func TestKubeconfigRefusesBeforeItIssues(t *testing.T) {
	r, c, infra, out, _ := keptCluster(t)
	file := filepath.Join(t.TempDir(), "config")
	t.Setenv("KUBECONFIG", file)
	writeConfig(t, file, kubeconfigOf("demo", "https://prod"), 0o600)
	r.merge = true
	var taken *takenError
	if err := r.give(t.Context(), c, infra); !errors.As(err, &taken) || out.Len() > 0 {
		t.Errorf("admin: %v, %s", err, out)
	}
	if got := listed(t, r); len(got) > 0 {
		t.Errorf("recorded is %v", got)
	}
	r.personal, r.user = true, "ana"
	if err := r.give(t.Context(), c, infra); !errors.As(err, &taken) {
		t.Errorf("a person: %v", err)
	}
	r.personal, r.user, r.context = false, "", "mine"
	if err := r.give(t.Context(), c, infra); err != nil || readConfig(t, file).CurrentContext != "mine" {
		t.Errorf("as another context: %v", err)
	}
	if err := (&kubeconfigRun{app: &app{}, context: "mine"}).check(); err == nil {
		t.Error("--context was taken without --merge")
	}
}

// A changed port, a CA on its way in or out, and one that only the record of kubeconfigs knows are the same cluster's.
func TestMergeKnowsItsOwn(t *testing.T) {
	old, now := keptSecrets(t), keptSecrets(t)
	file := filepath.Join(t.TempDir(), "config")
	t.Setenv("KUBECONFIG", file)
	ca, err := certs.Parse(old.Material[certs.KubernetesCA].Cert)
	if err != nil {
		t.Fatal(err)
	}
	recorded := *now
	users := users.Users{{Name: "ana", Serial: "1", CA: certs.Fingerprint(ca[0].Raw)}}
	if recorded.Users, err = users.Encode(); err != nil {
		t.Fatal(err)
	}
	rotating := *now
	rotating.Rotation = &certs.Rotation{Names: []string{certs.KubernetesCA}, Former: map[string][]string{certs.KubernetesCA: old.PKI().KnownKeys(certs.KubernetesCA)}}
	for name, s := range map[string]*keys.Stored{"port": old, "record": &recorded, "rotation": &rotating} {
		writeConfig(t, file, adminOf(t, old, "https://127.0.0.1:6443"), 0o600)
		if _, err := mergeKubeconfig(adminOf(t, now, "https://127.0.0.1:7443"), casIn(s)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := readConfig(t, file).Clusters["demo"].Server; got != "https://127.0.0.1:7443" {
			t.Errorf("%s: server %s", name, got)
		}
	}
}

func TestForgetKubeconfig(t *testing.T) {
	theirs, ours := keptSecrets(t), keptSecrets(t)
	dir := t.TempDir()
	first, second, third := filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "third")
	t.Setenv("KUBECONFIG", strings.Join([]string{filepath.Join(dir, "absent"), first, second, third}, string(filepath.ListSeparator)))
	others := renamed(adminOf(t, theirs, "https://prod"), "prod")
	others.AuthInfos["shared"] = &clientcmdapi.AuthInfo{Token: "abc"}
	others.AuthInfos["unused"] = &clientcmdapi.AuthInfo{Token: "def"}
	others.Contexts["shared@prod"] = &clientcmdapi.Context{Cluster: "prod", AuthInfo: "shared", Namespace: "shop"}
	mine := others.DeepCopy()
	mine.Clusters["demo"] = adminOf(t, ours, "https://127.0.0.1:6443").Clusters["demo"]
	mine.AuthInfos["lone"] = adminOf(t, ours, "").AuthInfos["kubernetes-admin"] // of our CA, and of no context
	mine.AuthInfos["token"] = &clientcmdapi.AuthInfo{Token: "ghi"}
	mine.Contexts["shared@demo"] = &clientcmdapi.Context{Cluster: "demo", AuthInfo: "shared"}
	mine.Contexts["token@demo"] = &clientcmdapi.Context{Cluster: "demo", AuthInfo: "token"}
	mine.CurrentContext = "elsewhere"
	writeConfig(t, first, mine, 0o644)
	elsewhere := clientcmdapi.NewConfig() // its cluster is in the first file
	elsewhere.Contexts["elsewhere"] = &clientcmdapi.Context{Cluster: "demo", AuthInfo: "lone"}
	writeConfig(t, second, elsewhere, 0o644)
	same := adminOf(t, theirs, "https://prod") // another cluster of the name, with entries of our names
	writeConfig(t, third, same, 0o644)

	said := forgetKubeconfig(casIn(ours))
	if len(said) != 2 || !strings.Contains(said[0], first) || !strings.Contains(said[1], "context elsewhere") {
		t.Errorf("said %q", said)
	}
	others.CurrentContext = ""
	for file, want := range map[string]*clientcmdapi.Config{first: others, second: clientcmdapi.NewConfig(), third: same} {
		if got := meaning(t, readConfig(t, file)); !reflect.DeepEqual(got, meaning(t, want)) {
			t.Errorf("%s has %v", file, got)
		}
	}
	for file, mode := range map[string]os.FileMode{first: 0o600, second: 0o600, third: 0o644} {
		if info, err := os.Stat(file); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("left are %v", entries)
	}
	if said := forgetKubeconfig(casIn(ours)); len(said) != 0 {
		t.Errorf("again: %q", said)
	}
}

// meaning is what a kubeconfig says, without where it is from.
func meaning(t *testing.T, config *clientcmdapi.Config) (all map[string]any) {
	t.Helper()
	config = config.DeepCopy()
	for _, c := range config.Clusters {
		c.LocationOfOrigin = ""
	}
	for _, c := range config.Contexts {
		c.LocationOfOrigin = ""
	}
	for _, c := range config.AuthInfos {
		c.LocationOfOrigin = ""
	}
	text, err := json.Marshal(config)
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A kubeconfig that is not there, cannot be read or is being written keeps nothing from being destroyed.
func TestForgetKubeconfigNotes(t *testing.T) {
	ours := keptSecrets(t)
	file := filepath.Join(t.TempDir(), "kube", "config")
	t.Setenv("KUBECONFIG", file)
	if said := forgetKubeconfig(casIn(ours)); len(said) != 0 {
		t.Errorf("absent: %q", said)
	}
	if _, err := os.Stat(filepath.Dir(file)); err == nil {
		t.Error("its directory was made")
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said := forgetKubeconfig(casIn(ours)); len(said) != 1 || !strings.Contains(said[0], "Warning") {
		t.Errorf("damaged: %q", said)
	}
	writeConfig(t, file, adminOf(t, ours, "https://demo"), 0o600)
	if err := os.WriteFile(file+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := forgetKubeconfig(casIn(ours)); len(said) != 1 || !strings.Contains(said[0], "another program") || readConfig(t, file).Clusters["demo"] == nil {
		t.Errorf("locked: %q", said)
	}
}

// An authority of the user's own may be that of other clusters, too: their entries are neither overwritten nor taken out.
func TestEntriesOfASharedAuthority(t *testing.T) {
	kept := keptSecrets(t)
	file := filepath.Join(t.TempDir(), "config")
	t.Setenv("KUBECONFIG", file)
	const here, there = "https://127.0.0.1:6443", "https://prod:6443"
	for name, tt := range map[string]struct {
		authorities spec.Authorities
		shared      bool
	}{
		"slipway's":  {},
		"the user's": {authorities: spec.Authorities{Kubernetes: &spec.Authority{CertFile: "ca.crt"}}, shared: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cluster{spec: &spec.Cluster{Spec: spec.ClusterSpec{PKI: spec.PKI{Authorities: tt.authorities}}}}
			own := c.casOf(kept, &spec.Infrastructure{Endpoint: strings.TrimPrefix(here, "https://")})
			writeConfig(t, file, adminOf(t, kept, there), 0o600)
			_, err := mergeKubeconfig(adminOf(t, kept, here), own)
			if errors.As(err, new(*takenError)) != tt.shared || !tt.shared && err != nil {
				t.Errorf("merged: %v", err)
			}
			theirs := renamed(adminOf(t, kept, there), "prod")
			both := theirs.DeepCopy()
			both.AuthInfos["lone"] = theirs.AuthInfos["prod"] // which signed it nobody can tell
			mine := renamed(adminOf(t, kept, here), "mine")
			both.Clusters["mine"], both.Contexts["mine"], both.AuthInfos["mine"] = mine.Clusters["mine"], mine.Contexts["mine"], mine.AuthInfos["mine"]
			writeConfig(t, file, both, 0o600)
			said := forgetKubeconfig(own)
			left := readConfig(t, file)
			if left.Clusters["mine"] != nil || left.Contexts["mine"] != nil || left.AuthInfos["mine"] != nil {
				t.Errorf("its own are left; said %q", said)
			}
			if kept := left.Clusters["prod"] != nil && left.Contexts["prod"] != nil && left.AuthInfos["prod"] != nil && left.AuthInfos["lone"] != nil; kept != tt.shared {
				t.Errorf("another's are left: %t; said %q", kept, said)
			}
		})
	}
}
