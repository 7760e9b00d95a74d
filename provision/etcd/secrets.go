package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The keys of Secrets in etcd, below the API server's default prefix.
const secretsPrefix = "/registry/secrets/"

const (
	// secretsPage limits memory use: values are at most 1 MiB, and nearly all are small.
	secretsPage = 100
	// pageTimeout is for one page.
	pageTimeout = 30 * time.Second
)

// Plain is the key for unencrypted Secrets in the result of EncryptionPrefixes.
const Plain = "plain"

// EncryptionPrefixes counts the Secrets by the prefix of their values: "k8s:enc:secretbox:v1:<key's
// name>:" for those that an API server has encrypted, else Plain. It keeps nothing else of the
// values. It uses the first endpoint that answers, and reads are linearizable; concurrent writes
// may be counted or not.
func (c *Client) EncryptionPrefixes(ctx context.Context) (map[string]int, error) {
	var errs []error
	for _, e := range c.endpoints {
		counts, err := c.encryptionPrefixes(ctx, e, secretsPage)
		if err == nil {
			return counts, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", e.Address, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("look how Secrets are encrypted: %w", errors.Join(errs...))
}

func (c *Client) encryptionPrefixes(ctx context.Context, e Endpoint, limit int64) (map[string]int, error) {
	client, err := c.connect(ctx, e)
	if err != nil {
		return nil, err
	}
	defer client.close()
	counts, from := map[string]int{}, secretsPrefix
	for {
		page, err := getPage(ctx, client, from, limit)
		if err != nil {
			return nil, err
		}
		for _, kv := range page.Kvs {
			counts[encryptionPrefix(kv.Value)]++
		}
		if !page.More {
			return counts, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00" // the next possible key
	}
}

func getPage(ctx context.Context, client connection, from string, limit int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), pageTimeout)
	defer cancel()
	return client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(secretsPrefix)), clientv3.WithLimit(limit))
}

// encryptionPrefix is "k8s:enc:", and the provider, its version and the key's name with a colon
// after each (k8s.io/apiserver/pkg/storage/value).
func encryptionPrefix(value []byte) string {
	if !bytes.HasPrefix(value, []byte("k8s:enc:")) {
		return Plain
	}
	end := 0
	for range 5 {
		i := bytes.IndexByte(value[end:], ':')
		if i < 0 {
			return "k8s:enc:" // of a provider without keys, or cut off; what follows may be a secret
		}
		end += i + 1
	}
	return string(value[:end])
}
