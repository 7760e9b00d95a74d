package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/testing/fixture"
)

var certsNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// sampleUses are what people meet: the same authority everywhere, a server that has not reloaded, what ends soon, what
// cannot be read.
func sampleUses() []certs.Use {
	end := func(days int) time.Time { return certsNow.Add(time.Duration(days)*24*time.Hour + time.Hour) }
	began := certsNow.Add(-24 * time.Hour)
	yes, no := true, false
	uses := []certs.Use{
		{Place: certs.InState, Location: "ca", Name: "ca", Subject: "CN=kubernetes", Serial: "1", SHA256: "01", NotBefore: began, NotAfter: end(10950)},
		{Place: certs.InWebhook, Location: "ValidatingWebhookConfiguration policy, webhook pods.example.com", Subject: "CN=policy", Serial: "5", SHA256: "05", NotBefore: began, NotAfter: end(3)},
		{Place: certs.UnreadSpec, Location: "cluster.yaml", Error: "it is not known what the spec asks for: there is no machine yet: demo-worker-2"},
		{Place: certs.UnreadAPI, Location: "https://127.0.0.1:6444", Error: "demo-cp-1: dial 127.0.0.1:6444: connection refused\ndemo-cp-2: the same"},
	}
	for _, host := range []string{"demo-cp-1", "demo-cp-2"} {
		uses = append(uses,
			certs.Use{Host: host, Place: certs.InFile, Location: "/etc/kubernetes/pki/ca.crt", Name: "ca", Subject: "CN=kubernetes", Serial: "1", SHA256: "01", NotBefore: began, NotAfter: end(10950), Wanted: &yes},
			certs.Use{Host: host, Place: certs.InKubeconfig, Location: "/etc/kubernetes/admin.conf, certificate-authority-data", Name: "ca", Subject: "CN=kubernetes", Serial: "1", SHA256: "01", NotBefore: began, NotAfter: end(10950), Wanted: &yes},
			certs.Use{Host: host, Place: certs.InKubeconfig, Location: "/etc/kubernetes/scheduler.conf, certificate-authority-data", Name: "ca", Subject: "CN=kubernetes", Serial: "1", SHA256: "01", NotBefore: began, NotAfter: end(10950), Wanted: &yes},
			certs.Use{Host: host, Place: certs.InFile, Location: "/etc/kubernetes/pki/apiserver.crt", Name: "apiserver@" + host, Subject: "CN=kube-apiserver", Serial: "7", SHA256: "07" + host, NotBefore: began, NotAfter: end(3650), Wanted: &yes},
			certs.Use{Host: host, Place: certs.TokenKeys, Location: "/etc/kubernetes/pki/sa.pub", Name: "sa", SHA256: "0a", KeyID: "q-ZwAbCdEfGhIjKlMnOp", Wanted: &yes},
		)
	}
	uses = append(uses,
		certs.Use{
			Host: "demo-cp-1", Place: certs.Served, Location: "10.89.0.11:6443", Name: "apiserver@demo-cp-1", Subject: "CN=kube-apiserver", Serial: "6", SHA256: "06", NotBefore: began, NotAfter: end(20), OnDisk: &no,
			Detail: []string{"served is not what is on disk: /etc/kubernetes/pki/apiserver.crt has serial 7, ends 2036-11-18"},
		},
		certs.Use{Host: "demo-cp-1", Place: certs.InMemory, Location: "10.89.0.11:6443 as apiserver-loopback-client", Subject: "CN=loopback", Serial: "9", SHA256: "09", NotBefore: began, NotAfter: end(-2)},
		certs.Use{Host: "demo-worker-1", Place: certs.UnreadHost, Error: "the machine is stopped"})
	certs.Judge(uses, 30*24*time.Hour, 7*24*time.Hour, certsNow)
	certs.Sort(uses)
	return uses
}

func TestCertsView(t *testing.T) {
	for name, tt := range map[string]struct {
		view   certsView
		filter []string
	}{
		"certs-status":  {},
		"certs-verbose": {view: certsView{all: true}},
		"certs-color":   {view: certsView{color: true}},
		"certs-host":    {filter: []string{"demo-cp-2", "demo-worker-1"}},
		"certs-name":    {filter: []string{"apiserver"}},
		"certs-item":    {filter: []string{"apiserver@demo-cp-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			uses, err := filterUses(sampleUses(), tt.filter)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			tt.view.out, tt.view.now = &out, certsNow
			if err := tt.view.print("demo", uses); err != nil {
				t.Fatal(err)
			}
			fixture.Golden(t, name+".golden", out.String())
		})
	}
}

func TestPrintCerts(t *testing.T) {
	for output, want := range map[string]string{
		"json":       `{"cluster":"demo","level":"critical","certificates":[{"host":"demo-cp-1","place":"memory"`,
		"prometheus": `slipway_certificate_not_after_seconds{host="demo-cp-1",place="served",location="10.89.0.11:6443",name="apiserver@demo-cp-1",`,
		"text":       "Cluster demo: 7 certificates in 17 places, 2 critical, 1 warning, 3 unknown; the first to expire is CN=loopback, on 2026-11-19 (-2 days)\n",
	} {
		var out bytes.Buffer
		a := &app{stdout: &out, output: output}
		if err := a.printCerts("demo", sampleUses(), certs.Critical, certsNow); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if output == "json" { // the form is held by package certs
			text = strings.Join(strings.Fields(text), "")
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: got %s, want %s", output, text, want)
		}
	}
	if _, err := filterUses(sampleUses(), []string{"ca", "nobody"}); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("a name that nothing has: %v", err)
	}
}

func TestCertsThresholds(t *testing.T) {
	const d = 24 * time.Hour
	for _, tt := range []struct {
		o          certsStatusOptions
		warn, crit time.Duration
		err        string
	}{
		{certsStatusOptions{warn: "30d", crit: "7d"}, 30 * d, 7 * d, ""},
		{certsStatusOptions{warn: "2d", crit: "7d", warned: true}, 2 * d, 2 * d, ""},
		{certsStatusOptions{warn: "30d", crit: "1y", crat: true}, 365 * d, 365 * d, ""},
		{certsStatusOptions{warn: "2d", crit: "7d", warned: true, crat: true}, 0, 0, "--crit 7d is longer than --warn 2d"},
		{certsStatusOptions{warn: "30", crit: "7d"}, 0, 0, "--warn: the duration \"30\" has no unit"},
		{certsStatusOptions{warn: "30d", crit: "6x"}, 0, 0, "--crit: "},
	} {
		warn, crit, err := tt.o.thresholds()
		if warn != tt.warn || crit != tt.crit || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: got %v, %v, %v", tt.o, warn, crit, err)
		}
	}
	if !slices.Equal(outputsOf(newCertsStatusCmd(&app{})), []string{"text", "json", "prometheus"}) {
		t.Error("certs status does not know its own output")
	}
}
