package diagnose

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/testing/fixture"
)

// contents unpacks an archive, and checks the modes of its files.
func contents(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if err == io.EOF { //nolint:errorlint // tar returns it as it is
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if header.Mode != 0o600 {
			t.Errorf("%s has mode %o", header.Name, header.Mode)
		}
		files[strings.TrimPrefix(header.Name, "slipway-diagnose-demo/")] = string(text)
	}
}

// forms are the ways in which a secret may be written.
func forms(s string) map[string]string {
	return map[string]string{
		"raw": s, "in base64": base64.StdEncoding.EncodeToString([]byte(s)), "in base64 without padding": base64.RawStdEncoding.EncodeToString([]byte(s)),
		"in base64 for URLs": base64.RawURLEncoding.EncodeToString([]byte(s)), "in hex": hex.EncodeToString([]byte(s)), "in HEX": strings.ToUpper(hex.EncodeToString([]byte(s))),
		"in base64 of a longer text": base64.StdEncoding.EncodeToString([]byte("before " + s + " and after")),
	}
}

// planted are secrets of all kinds, and what of them must not be found: with parts of keys, a line.
func planted(t *testing.T) (secrets []secret.Bytes, found map[string]string) {
	t.Helper()
	found = map[string]string{}
	add := func(name string, s []byte) {
		secrets = append(secrets, s)
		found[name] = string(s)
		lines := strings.Split(strings.TrimSpace(string(s)), "\n")
		if len(lines) > 2 {
			found[name+", a line"] = lines[1]
		}
	}
	for name, item := range fixture.Input(t).PKI.Material {
		if len(item.Key) > 0 {
			add(name, item.Key.Reveal())
		}
	}
	add("encryption key", []byte("\x01\xff23456789abcdef0123456789abc<>&\""))
	for _, s := range []*corev1.Secret{
		{Data: map[string][]byte{"password": []byte("correct horse battery staple"), "short": []byte("tiny")}},
		{Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"), "namespace": []byte("kube-system")}},
		{Type: tokenType, Data: map[string][]byte{"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef")}},
	} {
		for i, content := range contentsOf(s) {
			if len(content) >= shortest {
				add(fmt.Sprintf("%s %d", s.Type, i), content.Reveal())
			}
		}
	}
	return secrets, found
}

// TestArchiveHasNoSecrets plants every secret in every form into every kind of content.
func TestArchiveHasNoSecrets(t *testing.T) {
	secrets, found := planted(t)
	var text strings.Builder
	for name, s := range found {
		for _, form := range forms(s) {
			fmt.Fprintf(&text, "%s: x=%s;\n", name, form)
			asJSON, err := json.Marshal(map[string]string{"v": form})
			if err != nil {
				t.Fatal(err)
			}
			text.Write(asJSON)
			text.WriteString("\n")
		}
	}
	e := well()
	e.Hosts[0].Problem = text.String()
	g := &Gathered{
		Evidence: *e, Texts: map[string]string{"cp-1//etc/x.conf": text.String(), "cp-1/routes": "default via kube-system\n" + text.String()},
		Logs: map[string]string{"cp-1/kubelet.service": text.String()},
	}
	report := &Report{Findings: []Finding{{What: text.String()}}}
	var packed bytes.Buffer
	err := Archive(&packed, g, report, map[string]string{"status.txt": text.String()}, NewRedactor(secrets, []string{"kube-system"}), noon)
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, packed.Bytes())
	for _, name := range []string{"evidence.json", "findings.json", "status.txt", "hosts/cp-1/files/etc/x.conf", "hosts/cp-1/routes.txt", "hosts/cp-1/log/kubelet.service.log"} {
		if !strings.Contains(files[name], redacted) {
			t.Errorf("%s is missing, or nothing was removed from it", name)
		}
	}
	if !strings.Contains(files["hosts/cp-1/routes.txt"], "default via kube-system") {
		t.Error("a word that is no secret was removed")
	}
	for name, s := range found {
		for form, encoded := range forms(s) {
			if form == "in base64 of a longer text" {
				encoded = encoded[12 : len(encoded)-16] // its ends are not the secret's
			}
			for file, content := range files {
				if strings.Contains(content, encoded) {
					t.Errorf("%s has %s %s", file, name, form)
				}
			}
		}
	}
}

// TestRedactPatterns is for secrets that nobody told of.
func TestRedactPatterns(t *testing.T) {
	key := string(certs.Material(fixture.Input(t).PKI.Material)["ca"].Key.Reveal())
	body := strings.Split(key, "\n")[1]
	for _, row := range []struct{ text, gone, stays string }{
		{"a\n" + key + "b", body, "b"},
		{"cut " + strings.TrimSuffix(key, "-----END EC PRIVATE KEY-----\n"), body, "cut "},
		{strings.ReplaceAll(key, "\n", `\n`) + " after", body, " after"},
		{"x: " + base64.StdEncoding.EncodeToString([]byte(key)), base64.StdEncoding.EncodeToString([]byte(key))[40:80], "x: "},
		{"token eyJhbGciOiJSUzI1NiIsImtpZCI6.eyJpc3MiOiJrdWJlcm5ldGVz.c2lnbmF0dXJl.", "c2lnbmF0dXJl", "token"},
		{"--token=abcdef.0123456789abcdef --x", "0123456789abcdef", "--x"},
		{"join abcdef.0123456789abcdef now", "0123456789abcdef", "join abcdef."},
		{"Authorization: Bearer abc123xyz, next", "abc123xyz", "Authorization: Bearer"},
		{"https://user:pa55word@example.com/x", "pa55word", "example.com/x"},
		{"DB_PASSWORD=hunter2 HOME=/root", "hunter2", "HOME=/root"},
		{`{"clientSecret":"s3cr3t-value","id":"y"}`, "s3cr3t-value", `"id":"y"`},
		{"    client-key-data: LS0tabc\n    x: y", "LS0tabc", "x: y"},
		{"- name: key1\n  secret: c2VjcmV0IGlzIHNlY3VyZQ==\n", "c2VjcmV0IGlzIHNlY3VyZQ", "key1"},
		{"AGE-SECRET-KEY-1QQPQYQ end", "1QQPQYQ", "end"},
		{"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "nothing at all", "MIIB"},
		{"secret kube-system/x was not found", "nothing at all", "kube-system/x was not found"},
	} {
		got := RedactPatterns(row.text)
		if strings.Contains(got, row.gone) || !strings.Contains(got, row.stays) {
			t.Errorf("%q became %q", row.text, got)
		}
	}
}

func FuzzRedact(f *testing.F) {
	r := NewRedactor([]secret.Bytes{secret.Bytes("correct horse battery")}, nil)
	f.Add("a", "b")
	f.Fuzz(func(t *testing.T, before, after string) {
		if got := r.Redact(before + "correct horse battery" + after); strings.Contains(got, "correct horse battery") {
			t.Error(got)
		}
	})
}
