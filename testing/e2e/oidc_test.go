package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// checkIdentityProvider has every API server take the tokens of an issuer, and of no other, without a restart; and then no
// more.
func (c *cluster) checkIdentityProvider(t *testing.T, k *kube) {
	t.Helper()
	gateway := docker(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", c.controlPlanes()[0])
	provider, other := newIssuer(t, gateway), newIssuer(t, gateway)
	was, before := c.spec, c.startTimes(t)
	spec := was
	spec.kubernetes += fmt.Sprintf(`    apiServer:
      authentication:
        jwt:
        - issuer:
            url: %s
            audiences: [kubernetes]
            certificateAuthority: |
              %s
          claimMappings:
            username: {claim: sub, prefix: "oidc:"}
            groups: {claim: groups, prefix: "oidc:"}
          userValidationRules:
          - {expression: '!user.username.startsWith("system:")', message: reserved}
`, provider.url, strings.ReplaceAll(strings.TrimSpace(provider.ca), "\n", "\n              "))
	c.write(t, spec)
	c.apply(t)
	for _, server := range c.apiServers(t, k) {
		if out, err := k.whoami(t, server, provider.token(t, provider.url)); err != nil || out != "oidc:ana oidc:dev system:authenticated" {
			t.Errorf("%s takes the provider's token for %q: %v", server, out, err)
		}
		for what, token := range map[string]string{
			"another issuer": other.token(t, other.url), "another issuer that calls itself the provider": other.token(t, provider.url),
		} {
			if out, err := k.whoami(t, server, token); err == nil || !strings.Contains(out, "Unauthorized") && !strings.Contains(out, "logged in") {
				t.Errorf("%s takes a token of %s: %q, %v", server, what, out, err)
			}
		}
	}
	c.checkNoChange(t)
	c.write(t, was)
	c.apply(t)
	for _, server := range c.apiServers(t, k) {
		if out, err := k.whoami(t, server, provider.token(t, provider.url)); err == nil {
			t.Errorf("%s takes the token of a provider that is gone: %q", server, out)
		}
	}
	if after := c.startTimes(t); after != before {
		t.Errorf("an identity provider restarted units; before:\n%s\nafter:\n%s", before, after)
	}
}

// apiServers are the URLs of all API servers.
func (c *cluster) apiServers(t *testing.T, k *kube) []string {
	t.Helper()
	var urls []string
	for _, name := range c.controlPlanes() {
		node, err := k.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range node.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				urls = append(urls, "https://"+a.Address+":6443")
			}
		}
	}
	return urls
}

// whoami asks an API server who has a token: name and groups, or what kubectl says instead.
func (k *kube) whoami(t *testing.T, server, token string) (string, error) {
	t.Helper()
	config, err := clientcmd.LoadFromFile(k.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.kubectl, "--kubeconfig", file, "--server", server, "auth", "whoami",
		"-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups[*]}")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
