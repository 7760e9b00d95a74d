package spec

import (
	"path"
	"strings"
	"unicode"
)

// ExpiryMetrics is where nodes write the expiry of their certificates, for monitoring.
type ExpiryMetrics struct {
	// Directory on every node in which a timer keeps slipway-certificates.prom, for the textfile
	// collector of Prometheus's node exporter. It is made if it does not exist. Without it, there
	// is no timer.
	Directory string `json:"directory,omitempty"`
}

func validateExpiryMetrics(d *document, m ExpiryMetrics) {
	const at = "spec.pki.expiryMetrics.directory"
	if m.Directory == "" || d.isBad(at) {
		return
	}
	if !path.IsAbs(m.Directory) || path.Clean(m.Directory) != m.Directory || m.Directory == "/" || strings.ContainsFunc(m.Directory, unicode.IsControl) {
		d.judge(at, "write an absolute path, such as /var/lib/prometheus/node-exporter", "%q is not the path of a directory on a node", m.Directory)
	}
}
