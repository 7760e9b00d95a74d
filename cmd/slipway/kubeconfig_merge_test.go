package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfigOf has a cluster, with a user of the same name and one context.
func kubeconfigOf(cluster, server string) *clientcmdapi.Config {
	c := clientcmdapi.NewConfig()
	c.Clusters[cluster] = &clientcmdapi.Cluster{Server: server}
	c.AuthInfos["ana"] = &clientcmdapi.AuthInfo{ClientKeyData: []byte("key of " + cluster)}
	c.Contexts["ana@"+cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: "ana"}
	c.CurrentContext = "ana@" + cluster
	return c
}

func writeConfig(t *testing.T, path string, c *clientcmdapi.Config, mode fs.FileMode) {
	t.Helper()
	text, err := clientcmd.Write(*c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
}

func readConfig(t *testing.T, path string) *clientcmdapi.Config {
	t.Helper()
	c, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantPrivate wants files that only their owner can read, and nothing beside them.
func wantPrivate(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(names) {
		t.Errorf("there are %v, want %q; %v", entries, names, err)
	}
	for _, name := range names {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// Others could read the file until it had a key, whose directory and target stay: a link is not replaced.
func TestMergeWritesWholePrivateFiles(t *testing.T) {
	home, elsewhere := t.TempDir(), t.TempDir()
	link, target := filepath.Join(home, "config"), filepath.Join(elsewhere, "kubeconfig")
	writeConfig(t, target, kubeconfigOf("other", "https://other"), 0o644)
	before := open(t, target) // as who reads while it is written
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", link)
	if path, err := mergeKubeconfig(kubeconfigOf("demo", "https://demo"), ownCAs{}); err != nil || path != link {
		t.Fatalf("%s, %v", path, err)
	}
	wantPrivate(t, elsewhere, "kubeconfig")
	if to, err := os.Readlink(link); err != nil || to != target {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if entries, _ := os.ReadDir(home); len(entries) != 1 {
		t.Errorf("left are %v", entries)
	}
	got := readConfig(t, link)
	if got.CurrentContext != "ana@demo" || got.Clusters["other"].Server != "https://other" || got.Clusters["demo"].Server != "https://demo" ||
		string(got.AuthInfos["ana@demo"].ClientKeyData) != "key of demo" || string(got.AuthInfos["ana"].ClientKeyData) != "key of other" {
		t.Errorf("got %+v", got)
	}
	old, now := stat(t, before), stat(t, open(t, target))
	if os.SameFile(old, now) {
		t.Error("the file was written in its place: who reads it, or a crash, sees half of it")
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func stat(t *testing.T, f *os.File) fs.FileInfo {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Entries stay in the file that has them, and what is new goes to the first file that there is, as with kubectl.
func TestMergeIntoSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	absent, first, second := filepath.Join(dir, "absent"), filepath.Join(dir, "first"), filepath.Join(dir, "second")
	writeConfig(t, first, kubeconfigOf("other", "https://other"), 0o644)
	before := kubeconfigOf("demo", "https://now")
	before.Clusters["demo"].TLSServerName = "before"
	writeConfig(t, second, before, 0o644)
	t.Setenv("KUBECONFIG", strings.Join([]string{absent, "", first, second}, string(filepath.ListSeparator)))
	if path, err := mergeKubeconfig(kubeconfigOf("demo", "https://now"), ownCAs{}); err != nil || path != first {
		t.Fatalf("%s, %v", path, err)
	}
	wantPrivate(t, dir, "first", "second")
	one, two := readConfig(t, first), readConfig(t, second)
	if one.CurrentContext != "ana@demo" || one.Clusters["other"] == nil || one.Clusters["demo"] != nil || one.AuthInfos["ana@demo"] == nil {
		t.Errorf("the first has %+v", one)
	}
	if two.Clusters["demo"].Server != "https://now" || two.Clusters["demo"].TLSServerName != "" || two.Contexts["ana@demo"].AuthInfo != "ana@demo" || two.AuthInfos["ana@demo"] != nil {
		t.Errorf("the second has %+v", two)
	}
}

// What cannot be read, or is being written by another program, is left as it is, and so is everything else.
func TestMergeRefusals(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	t.Setenv("KUBECONFIG", file)
	refused := func(content, want string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadDir(dir)
		if _, err := mergeKubeconfig(kubeconfigOf("demo", "https://demo"), ownCAs{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		after, _ := os.ReadDir(dir)
		if text, err := os.ReadFile(file); err != nil || string(text) != content || len(after) != len(before) {
			t.Errorf("it holds %q, %v; there are %v", text, err, after)
		}
	}
	refused("{", "merge the kubeconfig: ")
	if err := os.WriteFile(file+".lock", nil, 0); err != nil {
		t.Fatal(err)
	}
	refused("", "another program is writing it: "+file+".lock exists")
	if err := os.Remove(file + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := mergeKubeconfig(kubeconfigOf("demo", "https://demo"), ownCAs{}); err != nil {
		t.Errorf("into an empty file: %v", err)
	}
	wantPrivate(t, dir, "config")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), file); err != nil {
		t.Fatal(err)
	}
	if _, err := mergeKubeconfig(kubeconfigOf("demo", "https://demo"), ownCAs{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("into a link that leads nowhere: %v", err)
	}
}
