package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	strictjson "sigs.k8s.io/json"
)

const authenticationPath = "spec.kubernetes.apiServer.authentication"

// unknownField matches the errors of sigs.k8s.io/json for unknown and duplicate fields.
var unknownField = regexp.MustCompile(`^(unknown|duplicate) field "(.+)"$`)

// validateAuthentication reports what the API server would report. It decodes strictly into
// upstream's types and calls upstream's validation, which also compiles the expressions. With a bad
// file, an API server does not start, and a running one keeps its old configuration.
func validateAuthentication(d *document, c *Cluster) {
	api := c.Spec.Kubernetes.APIServer
	if len(api.Authentication.JWT) == 0 || d.isBad(authenticationPath) {
		return
	}
	file := apiserverv1.AuthenticationConfiguration{}
	whole := true
	for i, item := range api.Authentication.JWT {
		authenticator, ok := decodeAuthenticator(d, fmt.Sprintf("%s.jwt[%d]", authenticationPath, i), item)
		whole = whole && ok
		file.JWT = append(file.JWT, authenticator)
	}
	if !whole {
		return
	}
	config, err := convertAuthentication(&file)
	if err != nil {
		d.judge(authenticationPath, remedyOf(field.ErrorTypeInvalid), "%v", err)
		return
	}
	issuer := c.ServiceAccountIssuer()
	for _, e := range validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), config, []string{issuer}) {
		message, _, _ := strings.Cut(e.ErrorBody(), "\n") // for expressions, more lines follow that mark the position
		d.judge(authenticatorPath(e.Field), remedyOf(e.Type), "%s", message)
	}
	for i, a := range file.JWT {
		at := fmt.Sprintf("%s.jwt[%d][issuer]", authenticationPath, i)
		if strings.Contains(a.Issuer.CertificateAuthority, "PRIVATE KEY") {
			d.judge(at+".certificateAuthority", "remove the key and consider it compromised", "has a private key, and only certificates belong here")
		}
		if _, ok := api.ExtraArgs["egress-selector-config-file"]; a.Issuer.EgressSelectorType != "" && !ok {
			d.judge(at+".egressSelectorType", "remove it, or name a file in extraArgs", "needs the flag --egress-selector-config-file")
		}
	}
}

// decodeAuthenticator reports every unknown field, and the first value of a wrong type.
func decodeAuthenticator(d *document, path string, item map[string]any) (a apiserverv1.JWTAuthenticator, ok bool) {
	if d.isBad(path) {
		return a, false
	}
	text, err := json.Marshal(item)
	if err != nil {
		d.judge(path, "write it so that it can be converted to JSON", "%v", err)
		return a, false
	}
	strict, err := strictjson.UnmarshalStrict(text, &a)
	for _, e := range strict {
		at, message := path, e.Error()
		if m := unknownField.FindStringSubmatch(message); m != nil {
			at, message = belowItem(path, m[2]), m[1]+" field"
		}
		d.judgeKey(at, "use the fields of a JWTAuthenticator (apiserver.config.k8s.io/v1)", "%s", message)
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		d.judge(belowItem(path, wrong.Field), "write a value of that type", "is a %s, and must be a %v", wrong.Value, wrong.Type)
	case err != nil:
		d.judge(path, "use the fields of a JWTAuthenticator (apiserver.config.k8s.io/v1)", "%v", err)
	}
	return a, err == nil && len(strict) == 0
}

func convertAuthentication(file *apiserverv1.AuthenticationConfiguration) (*apiserver.AuthenticationConfiguration, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	scheme.Default(file)
	config := &apiserver.AuthenticationConfiguration{}
	return config, scheme.Convert(file, config, nil)
}

// authenticatorPath returns the path in the spec of a field of the API server's file
// ("jwt[0].issuer.url").
func authenticatorPath(name string) string {
	item, below, _ := strings.Cut(name, ".")
	return belowItem(join(authenticationPath, item), below)
}

// belowItem is the path of a field in a free object: its first step is the key of a map.
func belowItem(path, name string) string {
	if name == "" {
		return path
	}
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		return joinKey(path, name)
	}
	return joinKey(path, name[:end]) + name[end:]
}

func remedyOf(t field.ErrorType) string {
	switch t {
	case field.ErrorTypeRequired:
		return "add it"
	case field.ErrorTypeDuplicate:
		return "list every issuer once"
	case field.ErrorTypeNotSupported:
		return "use one of these values"
	default:
		return "write the fields of a JWTAuthenticator (apiserver.config.k8s.io/v1); see docs/hardening.md"
	}
}

// ServiceAccountIssuer returns the issuer of service-account tokens.
func (c *Cluster) ServiceAccountIssuer() string {
	if issuer, ok := c.Spec.Kubernetes.APIServer.ExtraArgs["service-account-issuer"]; ok {
		return issuer
	}
	return "https://kubernetes.default.svc." + c.Spec.Network.DNSDomain
}
