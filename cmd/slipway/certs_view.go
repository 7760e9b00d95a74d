package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/plan"
)

// certsView prints certificates for people.
type certsView struct {
	out   io.Writer
	now   time.Time
	all   bool // one line per place
	color bool // a terminal that wants colours
}

// certsRow is one line: a certificate in places of one kind, on one host or many.
type certsRow struct {
	certs.Use
	remarks   string
	hosts     []string
	locations []string
}

var levelColors = map[certs.Level]string{certs.Warning: yellow, certs.Critical: red, certs.Unknown: yellow}

func (v certsView) print(cluster string, uses []certs.Use) error {
	rows := v.rows(uses)
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "HOST\tCERTIFICATE\tWHERE\tSUBJECT\tENDS\tDAYS\tREMARKS")
	for _, r := range rows {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			several(r.hosts, "host"), cmp.Or(r.Name, "-"), r.where(), r.subject(), r.ends(), r.days(), r.remarks)
	}
	_ = table.Flush() // to memory
	_, _ = fmt.Fprintf(v.out, "%s\n\n", escaped(v.summary(cluster, uses)))
	// The table is coloured line by line: tabwriter would count colours as width.
	line := -1 // the header
	for s := range strings.Lines(text.String()) {
		s = escaped(strings.TrimRight(s, " \n"))
		if line >= 0 {
			s = v.paint(levelColors[rows[line].Level], s)
		}
		line++
		if _, err := fmt.Fprintln(v.out, s); err != nil {
			return err
		}
	}
	return nil
}

func (v certsView) paint(color, text string) string {
	return (&liveView{color: v.color}).paint(color, text)
}

// rows merges a certificate's places of the same kind into one line if there is the same to say
// about them.
func (v certsView) rows(uses []certs.Use) []*certsRow {
	var rows []*certsRow
	at := map[string]*certsRow{}
	for i, u := range uses {
		remarks := strings.Join(v.remarks(u), "; ")
		key := strings.Join([]string{u.SHA256, string(u.Place), remarks}, "\n")
		if v.all || u.SHA256 == "" {
			key = fmt.Sprint(i)
		}
		r := at[key]
		if r == nil {
			r = &certsRow{Use: u, remarks: remarks}
			at[key] = r
			rows = append(rows, r)
		}
		r.hosts, r.locations = appendNew(r.hosts, u.Host), appendNew(r.locations, u.Location)
	}
	return rows
}

// remarks are the first lines of all remarks: an error may be long.
func (v certsView) remarks(u certs.Use) []string {
	all := u.Remarks(v.now)
	for i, r := range all {
		all[i], _, _ = strings.Cut(r, "\n")
	}
	return all
}

// appendNew is for small sets in order of arrival, without empty members.
func appendNew(set []string, s string) []string {
	if s == "" || slices.Contains(set, s) {
		return set
	}
	return append(set, s)
}

// several returns the only element, or their number.
func several(set []string, noun string) string {
	switch len(set) {
	case 0:
		return "-"
	case 1:
		return set[0]
	}
	return plan.Count(len(set), noun)
}

// placeWords precede a location that is not clear by itself.
var placeWords = map[certs.Place]string{
	certs.Served: "served at ", certs.InMemory: "in memory at ", certs.InState: "state, ", certs.UnreadAPI: "the API at ",
	certs.UnreadSpec: "spec, ",
}

func (r *certsRow) where() string {
	if len(r.locations) == 0 {
		return "-"
	}
	text := placeWords[r.Place] + r.locations[0]
	if n := len(r.locations) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func (r *certsRow) subject() string {
	if r.KeyID != "" {
		return "key " + r.KeyID[:min(len(r.KeyID), 12)] + "…"
	}
	return cmp.Or(r.Subject, "-")
}

func (r *certsRow) ends() string {
	switch {
	case r.Error != "":
		return "-"
	case r.NotAfter.IsZero():
		return "never"
	}
	return r.NotAfter.Format(time.DateOnly)
}

func (r *certsRow) days() string {
	if r.DaysLeft == nil {
		return "-"
	}
	return fmt.Sprint(*r.DaysLeft)
}

// summary is the single line that a monitoring system shows.
func (v certsView) summary(cluster string, uses []certs.Use) string {
	distinct, count := map[string]bool{}, map[certs.Level]int{}
	var nearest *certs.Use
	for i, u := range uses {
		count[u.Level]++
		if u.SHA256 != "" {
			distinct[u.SHA256] = true
		}
		if !u.NotAfter.IsZero() && (nearest == nil || u.NotAfter.Before(nearest.NotAfter)) {
			nearest = &uses[i]
		}
	}
	text := fmt.Sprintf("Cluster %s: %s in %s", cluster, plan.Count(len(distinct), "certificate"), plan.Count(len(uses), "place"))
	for _, l := range []certs.Level{certs.Critical, certs.Warning, certs.Unknown} {
		if count[l] > 0 {
			text += fmt.Sprintf(", %d %s", count[l], l)
		}
	}
	if nearest == nil {
		return text
	}
	return fmt.Sprintf("%s; the first to expire is %s, on %s (%d days)", text, cmp.Or(nearest.Name, nearest.Subject),
		nearest.NotAfter.Format(time.DateOnly), *nearest.DaysLeft)
}
