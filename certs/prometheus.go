package certs

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// metric is one family of the exposition. value gives false for a use that the family has nothing to say of.
type metric struct {
	name, help string
	labels     func(Use) []label
	value      func(Use) (string, bool)
}

type label struct{ name, value string }

var metrics = []metric{
	{
		"slipway_certificate_not_after_seconds", "When the certificate ends, in seconds since 1970.", certificateLabels,
		func(u Use) (string, bool) { return seconds(u.NotAfter) },
	},
	{
		"slipway_certificate_not_before_seconds", "When the certificate begins, in seconds since 1970.", certificateLabels,
		func(u Use) (string, bool) { return seconds(u.NotBefore) },
	},
	{
		"slipway_certificate_matches_disk", "Whether the certificate that is served is the one in its file.", certificateLabels,
		func(u Use) (string, bool) { return truth(u.OnDisk) },
	},
	{
		"slipway_certificate_matches_state", "Whether the certificate is the one that the cluster's state has.", certificateLabels,
		func(u Use) (string, bool) { return truth(u.Wanted) },
	},
	{
		"slipway_certificate_matches_spec", "Whether the certificate that the cluster's state has is what its spec asks for.", certificateLabels,
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

// WriteMetrics writes uses in the text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats),
// as gauges, in a fixed order. Of several uses with the same labels, one that could not be read counts, else the first.
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
	return out.Flush() // it keeps the first error of all
}

// readable puts what could not be read first.
func readable(u Use) int {
	if u.Error != "" {
		return 0
	}
	return 1
}

// escape is what the format asks for in the value of a label.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// exposition leaves labels without a value out: to Prometheus they are the same as none.
func exposition(labels []label) string {
	var parts []string
	for _, l := range labels {
		if l.value != "" {
			parts = append(parts, l.name+`="`+escape.Replace(strings.ToValidUTF8(l.value, "\uFFFD"))+`"`)
		}
	}
	return strings.Join(parts, ",")
}
