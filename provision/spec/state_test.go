package spec

import (
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"
)

func withState(state string) string { return minimal + "  state: " + state + "\n" }

func TestState(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pq := hybrid.Recipient().String()
	for yaml, want := range map[string]State{
		"{}":                         {},
		"{directory: ~/slipway}":     {Directory: "~/slipway"},
		"{encryption: {none: true}}": {Encryption: &Encryption{None: true}},
		"{s3: {bucket: abc}, encryption: {none: true}}": {S3: &S3State{Bucket: "abc", Prefix: "demo"}, Encryption: &Encryption{None: true}},
		"{s3: {bucket: abc, endpoint: 'http://10.0.0.1:9000', insecureHTTP: true}, encryption: {passphrase: true}}": {
			S3:         &S3State{Bucket: "abc", Prefix: "demo", Endpoint: "http://10.0.0.1:9000", InsecureHTTP: true},
			Encryption: &Encryption{Passphrase: true},
		},
		"{encryption: {none: true}, s3: {bucket: abc, prefix: a/b, region: eu-west-1, endpoint: 'http://[::1]:9000', pathStyle: true}}": {
			Encryption: &Encryption{None: true},
			S3:         &S3State{Bucket: "abc", Prefix: "a/b", Region: "eu-west-1", Endpoint: "http://[::1]:9000", PathStyle: true},
		},
		"{encryption: {passphrase: true}}":                                             {Encryption: &Encryption{Passphrase: true}},
		"{encryption: {recipients: [" + anAgeKey + ", '" + anSSHKey + " a@example']}}": {Encryption: &Encryption{Recipients: []string{anAgeKey, anSSHKey + " a@example"}}},
		"{encryption: {recipients: [" + pq + "]}}":                                     {Encryption: &Encryption{Recipients: []string{pq}}},
	} {
		if got := mustParse(t, withState(yaml)).Spec.State; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", yaml, got)
		}
	}
	errs := mistakes(t, withState("{encryption: {recipients: ["+anAgeKey+", "+pq+"]}}"))
	if len(errs) != 1 || errs[0].Field != "spec.state.encryption.recipients" || !strings.Contains(errs[0].Message, "cannot be used together") {
		t.Errorf("keys of two kinds: %v", errs)
	}
}

func TestStateMistakesAtOnce(t *testing.T) {
	errs := mistakes(t, withState("{directory: ~a, s3: {bucket: A, prefix: /, endpoint: x}, encryption: {passphrase: true, recipients: [a, b]}}"))
	if len(errs) != 8 {
		t.Errorf("%d mistakes: %v", len(errs), errs)
	}
}

// TestPrivateKeyIsNotRepeated: what is printed may be in a log that others read.
func TestPrivateKeyIsNotRepeated(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{id.String(), strings.ToLower(id.String())} {
		errs := mistakes(t, withState("{encryption: {recipients: ["+key+"]}}"))
		if len(errs) != 1 || !strings.Contains(errs[0].Message, "this is a private key") || strings.Contains(errs.Error(), key) {
			t.Errorf("%v", errs)
		}
	}
}
