package diagnose

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
)

// soon is from when on the end of a certificate is told.
const soon = 7 * 24 * time.Hour

// rotatable are the CAs by the name that `slipway certs rotate-ca` has for them.
var rotatable = map[string]string{certs.KubernetesCA: "kubernetes", certs.EtcdCA: "etcd", certs.FrontProxyCA: "front-proxy"}

// findCertificates makes a finding of each certificate that ill says something about: once for each
// host and name, wherever it is used there.
func findCertificates(e *Evidence, ill func(c *Certificate) (what, evidence string)) []Finding {
	sorted := slices.Clone(e.Certificates)
	slices.SortStableFunc(sorted, func(a, b Certificate) int { return placeOrder(a.Place) - placeOrder(b.Place) })
	var found []Finding
	seen := map[string]bool{}
	for i := range sorted {
		c := &sorted[i]
		what, evidence := ill(c)
		key := c.Host + " " + c.Name
		if c.Name == "" {
			key = c.Host + " " + c.Location
		}
		if what == "" || seen[key] {
			continue
		}
		seen[key] = true
		f := Finding{
			Host: c.Host, Object: c.Location, What: what, Evidence: evidence, More: e.slipway("certs status -v"),
			Remedy: e.apply("restore the cluster's own:"), everywhere: c.Host == "" && rotatable[c.Name] != "",
		}
		found = append(found, f)
	}
	return found
}

// placeOrder puts files before what is read from them.
func placeOrder(p certs.Place) int {
	return max(slices.Index([]certs.Place{certs.InFile, certs.InKubeconfig, certs.Served, certs.InMemory, certs.InState}, p), 0)
}

func (c *Certificate) title() string {
	item, _, _ := strings.Cut(c.Name, "@")
	if item == "" {
		item = c.Location
	}
	return "the certificate " + item
}

func (c *Certificate) where() string {
	return fmt.Sprintf("%s %s, subject %s, issuer %s, valid %s to %s", c.Place, c.Location, c.Subject, c.Issuer,
		c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
}

// now is the time on a host.
func (e *Evidence) now(host string) time.Time {
	if h := e.hostNamed(host); h != nil && h.Reached() {
		return e.Taken.Add(h.Offset)
	}
	return e.Taken
}

// valid reports whether a certificate is valid by the clock of its host: otherwise that is said of
// it, and nothing else.
func (e *Evidence) valid(c *Certificate) bool {
	return c.NotAfter.IsZero() || !e.now(c.Host).After(c.NotAfter) && !e.now(c.Host).Before(c.NotBefore)
}

func findExpired(e *Evidence) []Finding {
	found := findCertificates(e, func(c *Certificate) (string, string) {
		if c.NotAfter.IsZero() || !e.now(c.Host).After(c.NotAfter) {
			return "", ""
		}
		return c.title() + " has expired on " + c.NotAfter.Format("2006-01-02 15:04 MST"), c.where()
	})
	for i, f := range found {
		name := authorityOf(e, f)
		if name == "" {
			continue
		}
		found[i].Remedy = Remedy{Text: "replace this CA:", Commands: []string{e.slipway("certs rotate-ca " + name)}}
	}
	return found
}

// authorityOf returns the name of a CA for rotate-ca if a finding is about one.
func authorityOf(e *Evidence, f Finding) string {
	for _, c := range e.Certificates {
		if c.Host == f.Host && c.Location == f.Object && rotatable[c.Name] != "" {
			return rotatable[c.Name]
		}
	}
	return ""
}

func findEarly(e *Evidence) []Finding {
	found := findCertificates(e, func(c *Certificate) (string, string) {
		if c.NotBefore.IsZero() || !e.now(c.Host).Before(c.NotBefore) {
			return "", ""
		}
		return c.title() + " is not valid before " + c.NotBefore.Format("2006-01-02 15:04:05 MST"), c.where()
	})
	for i := range found {
		found[i].Remedy = e.apply("set the clock right (NTP), or, if the file is not the cluster's, restore it:")
	}
	return found
}

func findForeign(e *Evidence) []Finding {
	return findCertificates(e, func(c *Certificate) (string, string) {
		if c.Trust == "" || !e.valid(c) {
			return "", ""
		}
		return c.title() + " was signed by another CA than the cluster's", c.where()
	})
}

func findNames(e *Evidence) []Finding {
	return findCertificates(e, func(c *Certificate) (string, string) {
		if len(c.Names) == 0 || !e.valid(c) {
			return "", ""
		}
		return c.title() + " lacks " + some(c.Names), c.where()
	})
}

// findMissing is for what should be in files: what is not served is found by other rules.
func findMissing(e *Evidence) []Finding {
	return findCertificates(e, func(c *Certificate) (string, string) {
		if c.Error == "" || c.Name == "" || c.Place != certs.InFile && c.Place != certs.InKubeconfig {
			return "", ""
		}
		return c.title() + " cannot be read: " + c.Error, c.Location
	})
}

// findDiffering is for files that are not the state's for no other reason.
func findDiffering(e *Evidence) []Finding {
	return findCertificates(e, func(c *Certificate) (string, string) {
		ofFile := c.Place == certs.InFile || c.Place == certs.InKubeconfig || c.Place == certs.TokenKeys
		if c.Wanted == nil || *c.Wanted || !ofFile || c.Host == "" || c.Trust != "" || len(c.Names) > 0 || !e.valid(c) {
			return "", ""
		}
		return c.title() + " is not the one that the state has", strings.Join(c.Detail, "; ")
	})
}

func findServed(e *Evidence) []Finding {
	found := findCertificates(e, func(c *Certificate) (string, string) {
		if c.OnDisk == nil || *c.OnDisk {
			return "", ""
		}
		return c.title() + " is served from memory, and its file has another one", strings.Join(c.Detail, "; ")
	})
	for i := range found {
		found[i].Remedy = Remedy{Text: "servers read their files again within a minute; if this stays, restart the server's unit"}
	}
	return found
}

// findKeys is for keys besides certificates that are the cluster's: others come with keys of their
// own.
func findKeys(e *Evidence) []Finding {
	var found []Finding
	for _, h := range e.reached() {
		for _, key := range h.Keys {
			foreign := func(c Certificate) bool {
				return c.Host == h.Name && c.Location == strings.TrimSuffix(key, ".key")+".crt" && (c.Wanted == nil || !*c.Wanted)
			}
			if slices.ContainsFunc(e.Certificates, foreign) {
				continue
			}
			found = append(found, Finding{
				Host: h.Name, Object: key, What: "the private key " + path.Base(key) + " is not the cluster's",
				Evidence: key + " does not belong to its certificate, or is missing",
				More:     e.ssh(h.Name, "ls -l "+key), Remedy: e.apply("restore it:"),
			})
		}
	}
	return found
}

func findExpiring(e *Evidence) []Finding {
	return findCertificates(e, func(c *Certificate) (string, string) {
		left := c.NotAfter.Sub(e.now(c.Host))
		if c.NotAfter.IsZero() || left < 0 || left > soon || left > c.NotAfter.Sub(c.NotBefore)/4 {
			return "", ""
		}
		return fmt.Sprintf("%s expires in %s", c.title(), left.Round(time.Hour)), c.where()
	})
}
