package diagnose

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/stack"
)

// ArchiveLines is how many lines of each unit's log an archive has.
const ArchiveLines = 2000

// Archive writes a support archive (tar, gzip): the evidence, the findings, the logs and
// configuration of hosts, and further texts by name. Everything goes through the redactor; at is
// the time of its files.
func Archive(to io.Writer, g *Gathered, r *Report, texts map[string]string, redactor Redactor, at time.Time) error {
	files := maps.Clone(texts)
	for name, content := range map[string]any{"evidence.json": g.Evidence, "findings.json": r} {
		text, err := encoded(content)
		if err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		files[name] = text
	}
	for name, text := range g.Texts {
		node, file, _ := strings.Cut(name, "/")
		files["hosts/"+node+"/"+fileName(file)] = text
	}
	for name, text := range g.Logs {
		node, unit, _ := strings.Cut(name, "/")
		files["hosts/"+node+"/log/"+path.Base(unit)+".log"] = text // the host may have said ../
	}
	zipped := gzip.NewWriter(to)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := redactor.Redact(files[name])
		header := &tar.Header{Name: path.Join("slipway-diagnose-"+g.Evidence.Cluster, name), Mode: 0o600, Size: int64(len(text)), ModTime: at, Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		if _, err := io.WriteString(archive, text); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	if err := zipped.Close(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// encoded is JSON with the characters of HTML as they are: escaped, parts of a secret would not be
// found.
func encoded(content any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(content)
	return text.String(), err
}

// fileName puts a host's files below "files", and its other texts beside.
func fileName(name string) string {
	if strings.HasPrefix(name, "/") {
		return "files" + path.Clean(name)
	}
	return path.Base(name) + ".txt"
}

// KnownSecrets reads the contents of the cluster's Secrets, to find them in texts, and the words
// that are not secret although Secrets have them. Nothing of it is kept elsewhere.
func KnownSecrets(ctx context.Context, in stack.Input, hosts map[string]host.Host) (secrets []secret.Bytes, public []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var dialers []host.Dialer
	for _, m := range in.ControlPlanes() {
		if d, ok := hosts[m.Name].(host.Dialer); ok {
			dialers = append(dialers, d)
		}
	}
	client, err := kube.New(live.APIConfig(in.PKI, stack.BalancerPort, dialers...))
	if err != nil {
		return nil, nil, err
	}
	page := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return client.Typed().CoreV1().Secrets("").List(ctx, o)
	})
	page.PageSize = pageSize
	err = page.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
		s := o.(*corev1.Secret) // a list has items of one type
		public = append(public, s.Namespace, s.Name)
		secrets = append(secrets, contentsOf(s)...)
		return nil
	})
	for _, n := range in.Cluster.Nodes() {
		public = append(public, n.Name)
	}
	if err != nil {
		return secrets, public, fmt.Errorf("read the Secrets that must not be in the archive: %w", err)
	}
	return secrets, public, nil
}

// contentsOf returns what is secret in a Secret: not a CA's certificate, a namespace, or the options
// of a bootstrap token.
func contentsOf(s *corev1.Secret) []secret.Bytes {
	var all []secret.Bytes
	for key, value := range s.Data {
		switch {
		case bytes.HasPrefix(value, []byte("-----BEGIN CERTIFICATE-----")) && !bytes.Contains(value, []byte("PRIVATE KEY")):
		case s.Type == corev1.SecretTypeServiceAccountToken && key != corev1.ServiceAccountTokenKey:
		case s.Type == tokenType && key != "token-secret":
		default:
			all = append(all, value)
		}
	}
	if s.Type == tokenType {
		all = append(all, slices.Concat(s.Data["token-id"], []byte("."), s.Data["token-secret"]))
	}
	return all
}
