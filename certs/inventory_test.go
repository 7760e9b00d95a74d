package certs

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// goldenText compares with a file of testdata, which -update writes.
func goldenText(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); run with -update if that is right:\n%s", file, diff)
	}
}

func TestRead(t *testing.T) {
	pki := base(t)
	at := Use{Host: "demo-cp-1", Place: InFile, Location: "/f"}
	item := pki.Material["apiserver@demo-cp-1"]
	cert := parse(t, pki, "apiserver@demo-cp-1")

	got := Read(at, item.Cert)
	if len(got) != 1 || got[0].Error != "" {
		t.Fatalf("got %+v", got)
	}
	u := got[0]
	if u.Subject != "CN=kube-apiserver" || u.Issuer != "CN=kubernetes" || u.Serial != cert.SerialNumber.Text(16) ||
		!u.NotAfter.Equal(cert.NotAfter) || !u.NotBefore.Equal(cert.NotBefore) || len(u.SHA256) != 64 || u.Host != "demo-cp-1" {
		t.Errorf("got %+v", u)
	}
	if !slices.Contains(u.SANs, "kubernetes.default") || !slices.Contains(u.SANs, "10.96.0.1") {
		t.Errorf("SANs are %v", u.SANs)
	}

	bundle := slices.Concat(pki.Material[KubernetesCA].Cert, item.Key.Reveal(), pki.Material[EtcdCA].Cert)
	if got := Read(at, bundle); len(got) != 2 || got[0].Subject != "CN=kubernetes" || got[1].Subject != "CN=etcd-ca" {
		t.Errorf("a bundle with a key in it: %+v", got)
	}
	key := Read(at, pki.Material[ServiceAccounts].Cert)
	if len(key) != 1 || key[0].Place != TokenKeys || len(key[0].KeyID) != 43 || !key[0].NotAfter.IsZero() {
		t.Errorf("a public key: %+v", key)
	}
	damaged := bytes.Replace(item.Cert, []byte("\nMII"), []byte("\n***"), 1)
	for name, tt := range map[string]struct {
		text  []byte
		count int
		err   string
	}{
		"empty":             {nil, 1, "it contains no certificate"},
		"something else":    {[]byte("hello"), 1, "it contains no certificate"},
		"only a key":        {item.Key.Reveal(), 1, "it contains no certificate"},
		"damaged":           {damaged, 1, "1 of its 1 PEM blocks cannot be read"},
		"damaged in a row":  {slices.Concat(item.Cert, damaged), 2, "1 of its 2 PEM blocks"},
		"no certificate":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), 1, "certificate: "},
		"no public key":     {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), 1, "public key: "},
		"cut off in base64": {item.Cert[:200], 1, "1 of its 1 PEM blocks"},
	} {
		got := Read(at, tt.text)
		if len(got) != tt.count || !strings.Contains(got[len(got)-1].Error, tt.err) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestCompare(t *testing.T) {
	pki := base(t)
	read := func(names ...string) []Use {
		var uses []Use
		for _, name := range names {
			uses = append(uses, Read(Use{Location: "/" + name}, pki.Material[name].Cert)...)
		}
		return uses
	}
	ca, etcd := read(KubernetesCA)[0], read(EtcdCA)[0]

	same, other, unread := ca, etcd, Use{Error: "refused"}
	same.AgainstDisk(ca)
	same.AgainstState(read(EtcdCA, KubernetesCA))
	other.AgainstDisk(ca)
	other.AgainstState(read(KubernetesCA))
	unread.AgainstDisk(ca)
	unread.AgainstState(read(KubernetesCA))
	if !*same.OnDisk || !*same.Wanted || len(same.Detail) > 0 {
		t.Errorf("the same: %+v", same)
	}
	if *other.OnDisk || *other.Wanted || len(other.Detail) != 2 ||
		!strings.Contains(other.Detail[0], "/ca has serial "+ca.Serial) || !strings.Contains(other.Detail[1], "serial "+ca.Serial) {
		t.Errorf("another: %+v", other)
	}
	if unread.OnDisk != nil || unread.Wanted != nil {
		t.Errorf("unread: %+v", unread)
	}
	ca.AgainstDisk(Use{Error: "no such file"})
	ca.AgainstState(nil)
	if ca.OnDisk != nil || ca.Wanted != nil {
		t.Errorf("with nothing to compare it with: %+v", ca)
	}

	wanted := read(KubernetesCA, EtcdCA)
	if got := Lacking(Use{Location: "/f"}, read(KubernetesCA), wanted); len(got) != 1 || !strings.Contains(got[0].Error, "lacks CN=etcd-ca") {
		t.Errorf("half a bundle: %+v", got)
	}
	if got := Lacking(Use{}, wanted, wanted); got != nil {
		t.Errorf("a whole one: %+v", got)
	}
	if got := Lacking(Use{}, read(FrontProxyCA), wanted); got != nil {
		t.Errorf("something else, which says so itself: %+v", got)
	}
}

// What is used is held against the spec where it is what the state has, wherever that is.
func TestAgainstSpec(t *testing.T) {
	pki := base(t)
	in, p := demo(), policy
	in.EtcdSANs = []string{"etcd.example.com"}
	p.CAKeyAlgorithm = ECDSAP384
	now := day0.Add(9*365*day + 30*day) // leaves are due
	changedPKI, changes, err := Ensure(t.Context(), pki.Material, Table(in), p, now)
	if err != nil {
		t.Fatal(err)
	}
	changes = append(changes, changedPKI.Drift...)
	use := func(place Place, name string) Use {
		return Read(Use{Place: place, Name: name}, pki.Material[name].Cert)[0]
	}
	foreign := Read(Use{Place: InFile, Name: "etcd/server@demo-cp-1"}, changedPKI.Material["etcd/server@demo-cp-1"].Cert)[0]
	for _, tt := range []struct {
		use  Use
		want string // "" where it is what is asked for, "-" where nothing is known
	}{
		{use(Served, "etcd/server@demo-cp-1"), "not what the spec asks for: SANs changed: +etcd.example.com"},
		{use(InFile, "etcd/server@demo-cp-1"), "not what the spec asks for: SANs changed: +etcd.example.com"},
		{use(InState, EtcdCA), "not what the spec asks for: key algorithm changed: is ECDSA-P256, wanted ECDSA-P384"},
		{use(InWebhook, KubernetesCA), "not what the spec asks for: key algorithm changed: is ECDSA-P256, wanted ECDSA-P384"},
		{use(InFile, "scheduler@demo-cp-1"), ""}, // ends soon
		{use(TokenKeys, ServiceAccounts), "-"},
		{foreign, "-"}, // of which it is said that it is not what the state has
		{Use{Error: "x"}, "-"},
	} {
		uses := []Use{tt.use}
		AgainstSpec(uses, pki.Material, changes)
		u := uses[0]
		if got := strings.Join(u.Detail, "; "); got != strings.Trim(tt.want, "-") {
			t.Errorf("%s %s: remarks %q, want %q", u.Place, u.Name, got, tt.want)
		}
		if (u.Specified == nil) != (tt.want == "-") || u.Specified != nil && *u.Specified != (tt.want == "") {
			t.Errorf("%s %s: specified is %v", u.Place, u.Name, u.Specified)
		}
	}
	parents := Read(Use{}, pki.Material[EtcdCA].Cert)
	chained := Material{KubernetesCA: {Cert: slices.Concat(pki.Material[KubernetesCA].Cert, pki.Material[EtcdCA].Cert)}}
	if AgainstSpec(parents, chained, changes); parents[0].Specified != nil {
		t.Error("the spec is said to ask something of an authority's parent")
	}
}

func ptr[T any](v T) *T { return &v }

// sample has what people meet, in no order.
func sample() []Use {
	leaf := func(host, item string, days int) Use {
		return Use{
			Host: host, Place: InFile, Location: "/etc/kubernetes/pki/" + item + ".crt", Name: item + "@" + host, Subject: "CN=" + item, Issuer: "CN=kubernetes",
			Serial: item, NotBefore: day0.Truncate(time.Second).Add(-day), NotAfter: day0.Truncate(time.Second).Add(time.Duration(days)*day + time.Hour),
			SHA256: "5a" + item,
		}
	}
	stale := leaf("cp-1", "apiserver", 900)
	stale.Place, stale.Location, stale.OnDisk, stale.Wanted, stale.SANs = Served, "10.0.0.1:6443", ptr(false), ptr(false), []string{"kubernetes", "10.0.0.1"}
	stale.Detail = []string{"served is not what is on disk: /etc/kubernetes/pki/apiserver.crt has serial 7, ends 2036-03-01"}
	fine := leaf("cp-1", "scheduler", 3000)
	fine.OnDisk, fine.Wanted, fine.Specified = ptr(true), ptr(true), ptr(true)
	unapplied := leaf("cp-1", "etcd", 2000)
	unapplied.Wanted, unapplied.Specified, unapplied.Detail = ptr(true), ptr(false), []string{"not what the spec asks for: SANs changed: +etcd.example.com"}
	future := leaf("cp-2", "future", 400)
	future.NotBefore = day0.Add(day)
	return []Use{
		{Place: TokenKeys, Location: "sa", Name: "sa", SHA256: "7f", KeyID: "q-Z"},
		fine,
		unapplied,
		leaf("cp-2", "kubelet", 20),
		leaf("cp-2", "expired", -3),
		stale,
		leaf("cp-2", "soon", 6),
		future,
		{Host: "cp-3", Place: UnreadHost, Error: "dial: \"no\" route\nto C:\\host"},
		{Place: InWebhook, Location: `Webhook a"b\c`, Subject: "CN=x\ny", Serial: "1", NotBefore: day0, NotAfter: day0.Add(500 * day), SHA256: "1"},
	}
}

func TestJudgeAndSort(t *testing.T) {
	uses := sample()
	if worst := Judge(uses, 30*day, 7*day, day0); worst != Critical {
		t.Errorf("the worst is %v", worst)
	}
	Sort(uses)
	var got []string
	for _, u := range uses {
		line := u.Level.String() + " " + u.Host + " " + u.Subject
		if u.DaysLeft != nil {
			line += fmt.Sprintf(" %d", *u.DaysLeft)
		}
		got = append(got, line+" "+strings.Join(u.Remarks(day0), ";"))
	}
	want := []string{
		"critical cp-2 CN=expired -3 has expired",
		"critical cp-2 CN=soon 6 ",
		"critical cp-2 CN=future 400 is not valid before 2026-03-02T12:00:00Z",
		"warning cp-2 CN=kubelet 20 ",
		"warning cp-1 CN=apiserver 900 " + sample()[5].Detail[0],
		"warning cp-1 CN=etcd 2000 not what the spec asks for: SANs changed: +etcd.example.com",
		"unknown cp-3  dial: \"no\" route\nto C:\\host",
		"ok  CN=x\ny 500 ",
		"ok cp-1 CN=scheduler 3000 ",
		"ok   ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, tt := range []struct {
		levels []Use
		want   Level
	}{
		{nil, OK},
		{[]Use{{}}, OK},
		{[]Use{{}, {Error: "x"}}, Unknown},
		{[]Use{{Error: "x"}, {OnDisk: ptr(false)}}, Warning},
		{[]Use{{Error: "x"}, {Specified: ptr(false)}}, Warning},
		{[]Use{{OnDisk: ptr(true), Wanted: ptr(true), Specified: ptr(true)}}, OK},
		{[]Use{{NotAfter: day0.Add(-1)}, {Error: "x"}, {OnDisk: ptr(false)}}, Critical},
		{[]Use{{NotAfter: day0.Add(7 * day)}}, Critical},
		{[]Use{{NotAfter: day0.Add(7*day + 1)}}, Warning},
		{[]Use{{NotAfter: day0.Add(30 * day)}}, Warning},
		{[]Use{{NotAfter: day0.Add(30*day + 1)}}, OK},
	} {
		if got := Judge(tt.levels, 30*day, 7*day, day0); got != tt.want {
			t.Errorf("%+v are %v, want %v", tt.levels, got, tt.want)
		}
	}
}

// TestJSON holds the form that programs rely on.
func TestJSON(t *testing.T) {
	uses := sample()
	Judge(uses, 30*day, 7*day, day0)
	Sort(uses)
	got, err := json.MarshalIndent(uses, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	goldenText(t, "inventory.json", append(got, '\n'))
}

func TestWriteMetrics(t *testing.T) {
	uses := sample()
	var out bytes.Buffer
	if err := WriteMetrics(&out, append(uses, uses[1], Use{Host: "cp-1", Place: uses[1].Place, Location: uses[1].Location, Name: uses[1].Name, Error: "half of it"})); err != nil {
		t.Fatal(err)
	}
	goldenText(t, "inventory.prom", out.Bytes())
	seen := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		if series := line[:strings.LastIndexByte(line, ' ')]; seen[series] {
			t.Errorf("twice, which Prometheus refuses: %s", series)
		} else {
			seen[series] = true
		}
	}
}

// Prometheus' own parser reads back what was written, whatever is in the value of a label.
func TestPrometheusReadsMetrics(t *testing.T) {
	const name = "a \"b\" \\n c\n\xff{d=\"e\"} 1 # é"
	uses := append(sample(), Use{Host: "cp-1", Place: InFile, Name: name, Error: "cut"})
	var out bytes.Buffer
	if err := WriteMetrics(&out, uses); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&out)
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != len(metrics) {
		t.Errorf("%d families were read, and %d written", len(families), len(metrics))
	}
	found := false
	for _, m := range families["slipway_certificate_read_error"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "name" && l.GetValue() == strings.ToValidUTF8(name, "\uFFFD") {
				found = m.GetGauge().GetValue() == 1
			}
		}
	}
	if !found {
		t.Errorf("no series has the name %q and the value 1", name)
	}
}

// FuzzRead: whatever a host or an object holds, there is an entry for it, and one without an Error
// has a fingerprint.
func FuzzRead(f *testing.F) {
	pki, err := shared()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pki.Material[KubernetesCA].Cert)
	f.Add(pki.Material[ServiceAccounts].Cert)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		uses := Read(Use{Place: InFile}, text)
		for _, u := range uses {
			if (u.Error == "") != (len(u.SHA256) == 64) {
				t.Errorf("got %+v", u)
			}
		}
		if len(uses) == 0 {
			t.Error("no entry")
		}
	})
}
