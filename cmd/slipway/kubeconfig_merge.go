package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// mergeKubeconfig adds the entries of mine to the user's files, replacing entries of the same name
// where these are, makes its context current, and returns the file that records that. Users get the
// names of their contexts, so that one of the same name in another cluster stays. Entries of
// another cluster are never replaced: own are the CAs that identify the cluster's entries, and the
// error is a *takenError. Each file that changes is replaced as a whole, and only its owner can
// read it then.
func mergeKubeconfig(mine *clientcmdapi.Config, own ownCAs) (path string, err error) {
	access := clientcmd.NewDefaultPathOptions()
	unlock, err := lockKubeconfigs(access.GetLoadingPrecedence())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	path = access.GetDefaultFilename()
	changed, err := mergedKubeconfigs(access, path, mine, own)
	if err != nil {
		return "", fmt.Errorf("merge the kubeconfig: %w", err)
	}
	// The file with the current context comes last: it may refer to entries in the others.
	for _, file := range append(slices.Sorted(maps.Keys(changed)), path) {
		if config, ok := changed[file]; ok {
			if err := replaceKubeconfig(file, config); err != nil {
				return "", err
			}
		}
	}
	return path, nil
}

// mergedKubeconfigs returns the files that change, with their new content: an entry stays in the
// file that has it, and new ones go with the current context to path (clientcmd.ModifyConfig does
// the same, with a write for each).
func mergedKubeconfigs(access clientcmd.ConfigAccess, path string, mine *clientcmdapi.Config, own ownCAs) (map[string]*clientcmdapi.Config, error) {
	there, err := access.GetStartingConfig()
	if err != nil {
		return nil, err
	}
	if err := checkTaken(there, mine, own); err != nil {
		return nil, err
	}
	files := kubeconfigFiles{path: path, changed: map[string]*clientcmdapi.Config{}}
	for name, cluster := range mine.Clusters {
		var origin string
		if old := there.Clusters[name]; old != nil {
			origin = old.LocationOfOrigin
		}
		files.with(origin).Clusters[name] = cluster
	}
	for name, context := range mine.Contexts {
		var origin, userOrigin string
		if old := there.Contexts[name]; old != nil {
			origin = old.LocationOfOrigin
		}
		if old := there.AuthInfos[name]; old != nil {
			userOrigin = old.LocationOfOrigin
		}
		files.with(origin).Contexts[name] = &clientcmdapi.Context{Cluster: context.Cluster, AuthInfo: name}
		files.with(userOrigin).AuthInfos[name] = mine.AuthInfos[context.AuthInfo]
	}
	files.with(path).CurrentContext = mine.CurrentContext
	return files.changed, errors.Join(files.errs...)
}

// kubeconfigFiles are the files that a merge changes, by path, and the errors of reading them.
type kubeconfigFiles struct {
	path    string // of new entries
	changed map[string]*clientcmdapi.Config
	errs    []error
}

// with returns the file that has an entry, or will get it; origin is "" for a new entry.
func (f *kubeconfigFiles) with(origin string) *clientcmdapi.Config {
	if origin == "" {
		origin = f.path
	}
	if f.changed[origin] == nil {
		config, err := clientcmd.LoadFromFile(origin)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.errs = append(f.errs, err)
		}
		if err != nil {
			config = clientcmdapi.NewConfig()
		}
		f.changed[origin] = config
	}
	return f.changed[origin]
}

// replaceKubeconfig replaces a file, or the target of a link, by a kubeconfig.
func replaceKubeconfig(path string, config *clientcmdapi.Config) error {
	text, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	file, err := newPrivateFile("the kubeconfig", path)
	if err != nil {
		return err
	}
	defer file.Discard()
	return file.Commit(text)
}

// lockKubeconfigs prevents kubectl, and other users of its library, from writing the files, with a
// lock file next to each (k8s.io/client-go/tools/clientcmd, lockFile). As there, it does not wait
// for an existing lock. It creates the directories.
func lockKubeconfigs(files []string) (unlock func() error, err error) {
	var locks []string
	unlock = func() error {
		var errs []error
		for _, lock := range locks {
			errs = append(errs, os.Remove(lock))
		}
		return errors.Join(errs...)
	}
	for _, file := range slices.Sorted(slices.Values(files)) {
		if file == "" { // KUBECONFIG=a::b
			continue
		}
		lock := file + ".lock"
		err := os.MkdirAll(filepath.Dir(file), 0o700)
		if err == nil {
			err = createLock(lock)
		}
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("another program is writing it: %s exists; remove that file if no program does; nothing was changed", lock)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write the kubeconfig %s: %w", file, err), unlock())
		}
		locks = append(locks, lock)
	}
	return unlock, nil
}

func createLock(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0) //nolint:gosec // G304: next to the user's kubeconfig
	if err != nil {
		return err
	}
	return f.Close()
}
