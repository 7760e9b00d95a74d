package certs

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// metric is a metric family. value returns false for a use without a sample in this family.
type metric struct {
	name, help string
	labels     func(Use) []label
	value      func(Use) (string, bool)
}

type label struct{ name, value string }

var metrics = []metric{
	{
		"slipway_certificate_not_after_seconds", "When the certificate expires, in seconds since 1970.", certificateLabels,
		func(u Use) (string, bool) { return seconds(u.NotAfter) },
	},
	{
		"slipway_certificate_not_before_seconds", "When the certificate becomes valid, in seconds since 1970.", certificateLabels,
		func(u Use) (string, bool) { return seconds(u.NotBefore) },
	},
	{
		"slipway_certificate_matches_disk", "Whether the served certificate is the one in its file.", certificateLabels,
		func(u Use) (string, bool) { return truth(u.OnDisk) },
	},
	{
		"slipway_certificate_matches_state", "Whether the certificate is the one in the cluster's state.", certificateLabels,
		func(u Use) (string, bool) { return truth(u.Wanted) },
	},
	{
		"slipway_certificate_matches_spec", "Whether the certificate in the cluster's state matches the spec.", certificateLabels,
		func(u Use) (string, bool) { return truth(u.Specified) },
	},
	{
		"slipway_certificate_read_error", "Whether a certificate at this place could not be read.", placeLabels,
		func(u Use) (string, bool) {
			failed := u.Error != ""
			return truth(&failed)
		},
	},
}

func seconds(t time.Time) (string, bool) { return fmt.Sprint(t.Unix()), !t.IsZero() }

func truth(b *bool) (string, bool) {
	switch {
	case b == nil:
		return "", false
	case *b:
		return "1", true
	}
	return "0", true
}

func placeLabels(u Use) []label {
	return []label{{"host", u.Host}, {"place", string(u.Place)}, {"location", u.Location}, {"name", u.Name}}
}

func certificateLabels(u Use) []label {
	return append(placeLabels(u), label{"subject", u.Subject}, label{"serial", u.Serial})
}

// WriteMetrics writes uses in the text format of Prometheus
// (prometheus.io/docs/instrumenting/exposition_formats), as gauges, in a fixed order. Of several
// uses with the same labels, it writes one that could not be read, or else the first.
func WriteMetrics(w io.Writer, uses []Use) error {
	out := bufio.NewWriter(w)
	sorted := slices.Clone(uses)
	Sort(sorted)
	slices.SortStableFunc(sorted, func(a, b Use) int { return readable(a) - readable(b) })
	for _, m := range metrics {
		_, _ = fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n", m.name, m.help, m.name)
		seen := map[string]bool{}
		for _, u := range sorted {
			value, ok := m.value(u)
			series := m.name + "{" + exposition(m.labels(u)) + "}"
			if !ok || seen[series] {
				continue
			}
			seen[series] = true
			_, _ = fmt.Fprintf(out, "%s %s\n", series, value)
		}
	}
	return out.Flush() // returns the first error of any write
}

// readable orders unreadable entries first.
func readable(u Use) int {
	if u.Error != "" {
		return 0
	}
	return 1
}

// escape replaces the characters that the format does not allow in label values.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// exposition omits labels without a value, which for Prometheus is the same.
func exposition(labels []label) string {
	var parts []string
	for _, l := range labels {
		if l.value != "" {
			parts = append(parts, l.name+`="`+escape.Replace(strings.ToValidUTF8(l.value, "\uFFFD"))+`"`)
		}
	}
	return strings.Join(parts, ",")
}
