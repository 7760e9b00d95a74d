package spec

import (
	"net/url"
	"strings"
)

// validateBundle reports mistakes in the URL of a mirror. Others read the spec and the processes of
// machines, so it must have no secrets.
func validateBundle(d *document, c *Cluster) {
	const at = "spec.bundle.url"
	if c.Spec.Bundle.URL == "" {
		return
	}
	u, err := url.Parse(c.Spec.Bundle.URL)
	switch local := c.Spec.Provider.Local; {
	case err == nil && u.User != nil, err != nil && strings.Contains(c.Spec.Bundle.URL, "@"):
		d.judge(at, "remove them: what a mirror serves is no secret, and machines fetch it without", "contains credentials")
	case err != nil || !isServer(u) || u.Hostname() == "":
		d.judge(at, "write a URL such as https://mirror.example.com/slipway", "%q is not the URL of a mirror", c.Spec.Bundle.URL)
	case local != nil && local.Bundle != CopyBundle:
		d.judge(at, "remove it, or add `bundle: copy` to spec.provider.local", "has no meaning, since local machines mount the bundle of this computer")
	}
}
