package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// accountDir is where a pod finds the cluster's CA and its own token.
	accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"
	// apiInterval is how often the API is asked.
	apiInterval  = 100 * time.Millisecond
	readyAddress = ":8080"
)

// useAPI asks the API for the pod's own identity, again and again until it is told to end, with a connection that lasts
// and with a new one each time. It reads the CA and the token once, as the worst of clients do. Each failure is a line in
// file, which outlives the pod.
func useAPI(file string) error {
	ca, err := os.ReadFile(filepath.Join(accountDir, "ca.crt"))
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(accountDir, "token"))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // G304: the test names it
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	url := "https://" + net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")) + "/api"
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { _ = http.ListenAndServe(readyAddress, http.NotFoundHandler()) }() //nolint:gosec // G114: it says that the pod runs
	var group sync.WaitGroup
	for _, lasting := range []bool{true, false} {
		client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, DisableKeepAlives: !lasting,
		}}
		group.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				if err := ask(client, url, string(token)); err != nil {
					_, _ = fmt.Fprintf(log, "%s %s lasting=%t: %s\n", os.Getenv("HOSTNAME"),
						began.UTC().Format(time.TimeOnly), lasting, strings.ReplaceAll(err.Error(), "\n", " "))
				}
				select {
				case <-ctx.Done():
				case <-time.After(apiInterval):
				}
			}
		})
	}
	group.Wait()
	return log.Close()
}

// ask asks until there is an answer that is not "ask again later" (Retry-After), as client-go does: an API server that
// stops says so on connections that last. Nothing else is tried again.
func ask(client *http.Client, url, token string) error {
	for try := 1; ; try++ {
		later, err := askOnce(client, url, token)
		if err == nil || later == 0 || try == tries {
			return err
		}
		time.Sleep(later)
	}
}

// tries is how often client-go does (rest.Request, maxRetries).
const tries = 10

// askOnce asks once. A request that has begun is to end, also when the pod is told to.
func askOnce(client *http.Client, url, token string) (later time.Duration, err error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("%s: %s", response.Status, body))
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	return time.Duration(seconds) * time.Second, errors.Join(err, response.Body.Close())
}
