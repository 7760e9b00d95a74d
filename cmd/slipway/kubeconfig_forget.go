package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// forgetKubeconfig removes the entries of a cluster, identified by its CAs, from the user's
// kubeconfigs, and reports what it removed. Everything else stays. It never fails: a kubeconfig
// that cannot be read or written must not prevent destroying a cluster.
func forgetKubeconfig(own ownCAs) (said []string) {
	var files []string
	for _, file := range clientcmd.NewDefaultPathOptions().GetLoadingPrecedence() {
		if _, err := os.Stat(file); file != "" && !slices.Contains(files, file) && !errors.Is(err, fs.ErrNotExist) {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		return nil
	}
	left := func(err error) []string {
		return append(said, fmt.Sprintf("Warning: the cluster's entries stay in the kubeconfig: %v", err))
	}
	unlock, err := lockKubeconfigs(files)
	if err != nil {
		return left(err)
	}
	defer func() {
		if err := unlock(); err != nil {
			said = append(said, fmt.Sprintf("Warning: unlock the kubeconfig: %v", err))
		}
	}()
	f := &forgetting{own: own}
	for _, file := range files {
		config, err := clientcmd.LoadFromFile(file)
		if err != nil { // another file may use its entries
			return left(err)
		}
		f.configs = append(f.configs, config)
	}
	f.find()
	for i, config := range f.configs {
		taken := f.from(i)
		if len(taken) == 0 {
			continue
		}
		if err := replaceKubeconfig(files[i], config); err != nil {
			return left(err)
		}
		said = append(said, fmt.Sprintf("Removed from the kubeconfig %s: %s.", files[i], strings.Join(taken, ", ")))
	}
	return said
}

// forgetting is what is known of a cluster in kubeconfigs. The first file with a name determines
// its meaning.
type forgetting struct {
	own     ownCAs
	configs []*clientcmdapi.Config

	gone  []map[string]bool // contexts of the cluster, by file
	stay  map[string]bool   // other contexts
	users map[string]bool   // of the cluster's contexts, or with a certificate of its CA
	kept  map[string]bool   // users of contexts that stay
}

// ofCluster reports whether a context in config refers to the cluster: by the config's own entry,
// otherwise by the first entry of that name.
func (f *forgetting) ofCluster(config *clientcmdapi.Config, context *clientcmdapi.Context) bool {
	for _, c := range append([]*clientcmdapi.Config{config}, f.configs...) {
		if entry := c.Clusters[context.Cluster]; entry != nil {
			return len(f.own.trustedBy(entry)) > 0
		}
	}
	return false
}

// find reads all files before anything is removed.
func (f *forgetting) find() {
	f.users, f.kept, f.stay = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, config := range f.configs {
		gone := map[string]bool{}
		f.gone = append(f.gone, gone)
		for _, entry := range config.Clusters { // the certificate of a replaced CA may be only here
			f.own.certs = append(f.own.certs, f.own.trustedBy(entry)...)
		}
		for name, context := range config.Contexts {
			if f.ofCluster(config, context) {
				f.users[context.AuthInfo], gone[name] = true, true
			} else {
				f.kept[context.AuthInfo], f.stay[name] = true, true
			}
		}
	}
	for _, config := range f.configs {
		for name, entry := range config.AuthInfos {
			if f.own.signed(entry) {
				f.users[name] = true
			}
		}
	}
}

// from removes the cluster's entries from a file, and returns their names.
func (f *forgetting) from(file int) (taken []string) {
	config := f.configs[file]
	for _, name := range slices.Sorted(maps.Keys(f.gone[file])) {
		taken = append(taken, "context "+name)
		delete(config.Contexts, name)
	}
	for _, name := range slices.Sorted(maps.Keys(config.Clusters)) {
		if len(f.own.trustedBy(config.Clusters[name])) > 0 {
			taken = append(taken, "cluster "+name)
			delete(config.Clusters, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.AuthInfos)) {
		if f.users[name] && !f.kept[name] {
			taken = append(taken, "user "+name)
			delete(config.AuthInfos, name)
		}
	}
	current := config.CurrentContext
	if !f.stay[current] && slices.ContainsFunc(f.gone, func(gone map[string]bool) bool { return gone[current] }) {
		taken = append(taken, "the current context")
		config.CurrentContext = ""
	}
	return taken
}
