package kube

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// RootCAs returns the contents of the ConfigMaps kube-root-ca.crt, by namespace.
func (c *Client) RootCAs(ctx context.Context) (map[string]string, error) {
	list, err := c.typed.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", rootCA).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list the ConfigMaps %s: %w", rootCA, err)
	}
	published := map[string]string{}
	for _, m := range list.Items {
		published[m.Namespace] = m.Data["ca.crt"]
	}
	return published, nil
}
