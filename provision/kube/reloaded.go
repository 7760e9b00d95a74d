package kube

import (
	"bufio"
	"context"
	"fmt"
	"regexp"
)

// Metrics with the digest of the file that an API server uses, as a label
// (k8s.io/apiserver/pkg/server/options/{encryptionconfig,authenticationconfig}/metrics).
var (
	encryptionMetric     = regexp.MustCompile(`^apiserver_encryption_config_controller_last_config_info\{(?:.*,)?hash="([^"]*)"`)
	authenticationMetric = regexp.MustCompile(`^apiserver_authentication_config_controller_last_config_info\{(?:.*,)?hash="([^"]*)"`)
)

// EncryptionConfigs returns the digests ("sha256:" and hexadecimal) of the EncryptionConfigurations
// that the API server behind this client uses: none or one.
func (c *Client) EncryptionConfigs(ctx context.Context) (digests []string, err error) {
	return c.configs(ctx, encryptionMetric)
}

// AuthenticationConfigs is EncryptionConfigs for AuthenticationConfigurations.
func (c *Client) AuthenticationConfigs(ctx context.Context) (digests []string, err error) {
	return c.configs(ctx, authenticationMetric)
}

func (c *Client) configs(ctx context.Context, metric *regexp.Regexp) (digests []string, err error) {
	metrics, err := c.rest.Get().AbsPath("/metrics").Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for metrics: %w", err)
	}
	defer func() { _ = metrics.Close() }()
	lines := bufio.NewScanner(metrics)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := metric.FindSubmatch(lines.Bytes()); m != nil {
			digests = append(digests, string(m[1]))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return digests, nil
}
