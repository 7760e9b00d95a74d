// Command testserver is the program in the tests' pods: it answers HTTP with its host's name, and fetches what it is
// asked to, so that a test can see the network from where a pod or a node stands.
//
//	testserver serve ADDRESS
//	testserver fetch [-dns SERVER:PORT] URL...
//	testserver echo
//	testserver api FILE
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// patience is how long one fetch may take.
const patience = 3 * time.Second

// fetched is the outcome for one URL: the body, or the error.
type fetched struct {
	URL   string `json:"url"`
	Body  string `json:"body,omitempty"`
	Error string `json:"error,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testserver:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("fetch", flag.ContinueOnError)
	dns := flags.String("dns", "", "resolve names at this server instead of the system's")
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) == 1 && args[0] == "echo":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case len(args) == 2 && args[0] == "api":
		return useAPI(args[1])
	case len(args) > 1 && args[0] == "fetch":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(fetchAll(context.Background(), client(*dns), flags.Args()))
	}
	return fmt.Errorf("want serve ADDRESS, fetch [-dns SERVER:PORT] URL..., echo, or api FILE; got %q", args)
}

// serve answers / with the host's name, and /fetch?url=...&url=... with what those URLs gave.
func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
	mux.HandleFunc("/fetch", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(fetchAll(r.Context(), client(""), r.URL.Query()["url"]))
	})
	fmt.Println("serving on", address)
	server := http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: patience}
	return server.ListenAndServe()
}

// client makes a new connection for each fetch, and resolves at dns where that is set.
func client(dns string) *http.Client {
	dialer := &net.Dialer{}
	if dns != "" {
		dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, dns)
		}}
	}
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
}

// fetchAll fetches all at once; the results are in the order of urls.
func fetchAll(ctx context.Context, c *http.Client, urls []string) []fetched {
	results := make([]fetched, len(urls))
	var group sync.WaitGroup
	for i, url := range urls {
		group.Go(func() { results[i] = fetch(ctx, c, url) })
	}
	group.Wait()
	return results
}

func fetch(ctx context.Context, c *http.Client, url string) fetched {
	result := fetched{URL: url}
	body, err := get(ctx, c, url)
	if err != nil {
		result.Error = err.Error()
	}
	result.Body = body
	return result
}

func get(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return string(body), err
}
