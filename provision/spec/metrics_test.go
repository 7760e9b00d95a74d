package spec

import (
	"strings"
	"testing"
)

func TestExpiryMetrics(t *testing.T) {
	with := func(directory string) string {
		return minimal + "  pki: {expiryMetrics: {directory: " + directory + "}}\n"
	}
	if got := mustParse(t, with("/var/lib/metrics")).Spec.PKI.ExpiryMetrics.Directory; got != "/var/lib/metrics" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"metrics", "~/metrics", "/", "/var//lib", "/var/lib/", "/a/../b", `"/a\nb"`} {
		errs := mistakes(t, with(bad))
		if len(errs) != 1 || errs[0].Field != "spec.pki.expiryMetrics.directory" || !strings.Contains(errs[0].Message, "is not the path of a directory") {
			t.Errorf("%s: %v", bad, errs)
		}
	}
}
