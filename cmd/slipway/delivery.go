package main

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpproxy"

	"slipway.dev/slipway/provision/delivery"
)

// newDeliveryCmd is for hosts, which apply copies programs to. It is hidden, since people do not need
// it.
func newDeliveryCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:    "delivery",
		Short:  "Give programs to other machines, and unpack them",
		Hidden: true,
		Args:   cobra.NoArgs,
	}
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Serve files of the working directory to other machines of a run, as stdin says",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return delivery.Serve(cmd.Context(), ".", a.stdin, a.stdout)
		},
	}
	var mode string
	unpack := &cobra.Command{
		Use:   "unpack FILE TARGET",
		Short: "Unpack a file that is named after its digests",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			bits, err := strconv.ParseUint(mode, 8, 9)
			if err != nil {
				return fmt.Errorf("--mode %s: %w", mode, err)
			}
			return delivery.Unpack(cmd.Context(), args[0], args[1], fs.FileMode(bits))
		},
	}
	unpack.Flags().StringVar(&mode, "mode", "0755", "permission bits of the target")
	var size int64
	fetch := &cobra.Command{
		Use:   "fetch URL",
		Short: "Fetch the rest of a file of the working directory from a mirror",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return delivery.Fetch(cmd.Context(), args[0], size, proxies(environmentFile), a.stdout)
		},
	}
	fetch.Flags().Int64Var(&size, "size", 0, "bytes of the whole file")
	cmd.AddCommand(serve, unpack, fetch)
	return cmd
}

// environmentFile has the variables of sessions (pam_env(8)), which sudo and non-interactive shells do not
// set.
const environmentFile = "/etc/environment"

// proxies returns which proxy a request goes through: as the environment says (http_proxy,
// https_proxy, no_proxy), and a file for what the environment does not say.
func proxies(file string) func(*http.Request) (*url.URL, error) {
	config := httpproxy.FromEnvironment()
	settings := map[string]*string{"HTTP_PROXY": &config.HTTPProxy, "HTTPS_PROXY": &config.HTTPSProxy, "NO_PROXY": &config.NoProxy}
	text, _ := os.ReadFile(file) //nolint:gosec // most machines have none
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		into := settings[strings.ToUpper(strings.TrimSpace(name))]
		if into != nil && *into == "" {
			*into = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	choose := config.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }
}
