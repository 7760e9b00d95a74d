package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	goccy "github.com/goccy/go-yaml"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/provision/secret"
)

const plain = "correct horse battery staple"

// holder has a secret in every place where a struct can have one that others can see.
type holder struct {
	Field   secret.Bytes
	Pointer *secret.Bytes
	List    []secret.Bytes
	Map     map[string]secret.Bytes
	Any     any `xml:"-"`
}

func newHolder() holder {
	s := secret.Bytes(plain)
	return holder{s, &s, []secret.Bytes{s}, map[string]secret.Bytes{"key": s}, s}
}

// forms are how bytes look when they are printed by mistake.
func forms() []string {
	b := []byte(plain)
	asJSON, _ := json.Marshal(b)
	return []string{
		plain, fmt.Sprintf("%x", b), fmt.Sprintf("%X", b), fmt.Sprintf("% x", b),
		strings.Trim(fmt.Sprintf("%d", b), "[]"), strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", b), "[]byte{"), "}"),
		strings.Trim(string(asJSON), `"`), fmt.Sprintf("%o", b), fmt.Sprintf("%b", b),
	}
}

func expectHidden(t *testing.T, how, out string) {
	t.Helper()
	for _, form := range forms() {
		if strings.Contains(out, form) {
			t.Errorf("%s shows the secret: %s", how, out)
		}
	}
	if !strings.Contains(out, "redacted") {
		t.Errorf("%s does not say that something was left out: %s", how, out)
	}
}

func TestPrinting(t *testing.T) {
	s, h := secret.Bytes(plain), newHolder()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%10.3s"} {
		for _, value := range []any{s, &s, h.List, h.Map, []any{s}} {
			expectHidden(t, fmt.Sprintf("%s of %T", verb, value), fmt.Sprintf(verb, value))
		}
		// A pointer inside a struct is printed as an address, the rest must still be hidden.
		expectHidden(t, verb+" of a struct", fmt.Sprintf(verb, h))
	}
	expectHidden(t, "Sprint", fmt.Sprint(s))
	expectHidden(t, "Sprintln", fmt.Sprintln("key:", s))
	expectHidden(t, "String", s.String())
	expectHidden(t, "an error", fmt.Errorf("no good: %v: %w", s, errors.ErrUnsupported).Error())
}

func TestMarshalling(t *testing.T) {
	for name, marshal := range map[string]func(any) ([]byte, error){
		"JSON":            json.Marshal,
		"YAML":            yaml.Marshal,
		"positional YAML": func(v any) ([]byte, error) { return goccy.Marshal(v) },
	} {
		out, err := marshal(newHolder())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		expectHidden(t, name, string(out))
	}
	type document struct{ Field secret.Bytes }
	out, err := xml.Marshal(document{secret.Bytes(plain)})
	if err != nil {
		t.Fatal(err)
	}
	expectHidden(t, "XML", string(out))
}

// TestRedactedIsNotRead: what was redacted must not come back as a secret.
func TestRedactedIsNotRead(t *testing.T) {
	out, err := json.Marshal(secret.Bytes(plain))
	if err != nil {
		t.Fatal(err)
	}
	var back secret.Bytes
	if err := json.Unmarshal(out, &back); err == nil {
		t.Errorf("read back as %d bytes", len(back))
	}
}

func TestLogging(t *testing.T) {
	var out bytes.Buffer
	for name, handler := range map[string]slog.Handler{"text": slog.NewTextHandler(&out, nil), "JSON": slog.NewJSONHandler(&out, nil)} {
		out.Reset()
		s := secret.Bytes(plain)
		slog.New(handler).With("with", s).Info("made", "bytes", s, "pointer", &s, "struct", newHolder(), slog.Group("group", "in", s))
		expectHidden(t, name+" log", out.String())
	}
}

func TestReveal(t *testing.T) {
	if got := string(secret.Bytes(plain).Reveal()); got != plain {
		t.Errorf("got %q", got)
	}
	if secret.Bytes(nil).Reveal() != nil {
		t.Error("nothing became something")
	}
}
