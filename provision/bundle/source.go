package bundle

import (
	"bufio"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Upstream's download sites, unless a mirror replaces them all.
const (
	kubernetesDownloads = "https://dl.k8s.io"
	githubDownloads     = "https://github.com"
	githubReleases      = "https://api.github.com/repos/" // describes releases, with the digests of their files
)

// upstream says where a component is published. Templates may use {version}, {number} (the version
// without its v), {arch}, {name} (the program) and, in Digest, {file}. Paths are relative to Base
// or to the mirror.
type upstream struct {
	Base    string // of URLs; githubDownloads if empty
	Version string // upstream's version, if it differs from the recipe's
	File    string // one file a program, or an archive of all programs if Member is set
	Digest  string // the file with File's SHA-256, as sha256sum writes it or bare
	Member  string // the program's path in the archive, a gzipped tar
	// Release is the URL of a JSON description of the release with the digest of every file, for
	// upstreams that publish no Digest. Mirrors have to have Digest.
	Release string
}

func (u upstream) base() string {
	if u.Base == "" {
		return githubDownloads
	}
	return u.Base
}

// upstreamVersion is that of what upstream publishes.
func (r recipe) upstreamVersion() string {
	if r.Upstream.Version != "" {
		return r.Upstream.Version
	}
	return r.Version
}

// remote is one file to download.
type remote struct {
	path     string            // relative to the base
	digest   string            // path of its digest, relative to the base
	release  string            // see upstream.Release
	programs map[string]string // member of the archive to program; a plain file has one, from ""
}

// remotes lists the files that hold a recipe's programs.
func (r recipe) remotes(arch string) []remote {
	version := r.upstreamVersion()
	expand := func(template, name, file string) string {
		return strings.NewReplacer("{version}", version, "{number}", strings.TrimPrefix(version, "v"),
			"{arch}", arch, "{name}", name, "{file}", file).Replace(template)
	}
	u := r.Upstream
	var files []remote
	for _, name := range r.names() {
		file := expand(u.File, name, "")
		member := expand(u.Member, name, "")
		if u.Member != "" && len(files) > 0 {
			files[0].programs[member] = name
			continue
		}
		files = append(files, remote{
			path: file, digest: expand(u.Digest, name, file), release: expand(u.Release, name, file),
			programs: map[string]string{member: name},
		})
	}
	return files
}

var sha256Hex = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// parseDigest finds a file's SHA-256 in a published file: lines of "<hex> <name>" as sha256sum
// writes them (a * before the name means binary mode), or the bare digest.
func parseDigest(content, file string) (string, error) {
	var bare string
	lines := bufio.NewScanner(strings.NewReader(content))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || !sha256Hex.MatchString(fields[0]) {
			continue
		}
		digest := strings.ToLower(fields[0])
		switch {
		case len(fields) == 1:
			bare = digest
		case path.Base(strings.TrimPrefix(fields[1], "*")) == path.Base(file):
			return digest, nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if bare == "" {
		return "", fmt.Errorf("no SHA-256 of %s in it", path.Base(file))
	}
	return bare, nil
}

// parseRelease finds a file's SHA-256 in GitHub's description of a release
// (REST API "Get a release by tag name": assets[].digest is "sha256:<hex>").
func parseRelease(content, file string) (string, error) {
	var release struct {
		Assets []struct{ Name, Digest string }
	}
	if err := json.Unmarshal([]byte(content), &release); err != nil {
		return "", err
	}
	for _, asset := range release.Assets {
		digest, ok := strings.CutPrefix(asset.Digest, "sha256:")
		if asset.Name == path.Base(file) && ok && sha256Hex.MatchString(digest) {
			return strings.ToLower(digest), nil
		}
	}
	return "", fmt.Errorf("no SHA-256 of %s in it", path.Base(file))
}
