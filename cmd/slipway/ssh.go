package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
)

func newSSHCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ssh NODE [-- COMMAND...]",
		Short: "Open a shell on a node, or run a command there",
		Long: `Open a shell on a node as root, or run a command there; the command's exit code is slipway's. Machines that slipway made
are entered with the cluster's own key; those of the hosts provider as the spec and your ssh_config say (docs/hosts.md), with
sudo for a user other than root. Every host key is verified.

As with ssh, the words of the command are joined by spaces, and the node's shell reads the result: quote what it must not
split or expand. Control planes have the administrator's kubeconfig in /etc/kubernetes/admin.conf.`,
		Example: `  slipway ssh demo-cp-1
  slipway ssh demo-cp-1 -- journalctl -u kubelet -n 50
  slipway ssh demo-cp-1 -- kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes
  slipway ssh demo-cp-1 -- 'df -h | grep /var'   # one word: the node's shell has the pipe`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			c, err := spec.Load(a.file)
			if err != nil || len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return (&cluster{spec: c}).names(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.ssh(cmd.Context(), args[0], args[1:]) },
	}
	a.addConnectTimeout(cmd, 10*time.Second)
	return cmd
}

func (a *app) ssh(ctx context.Context, node string, command []string) error {
	c, infra, err := a.find(ctx)
	if err != nil {
		return err
	}
	named := func(m spec.Machine) bool { return m.Name == node }
	if !slices.ContainsFunc(infra.Machines, named) {
		if infra, err = c.resolved(ctx, infra); err != nil {
			return err
		}
	}
	i := slices.IndexFunc(infra.Machines, named)
	if i < 0 {
		return noMachineError(c, infra, node, a.fileArg())
	}
	in := a.wayIn(a.connectTimeout)
	defer func() { _ = in.Close() }()
	h, err := in.Dial(ctx, infra.Machines[i])
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	if len(command) == 0 {
		return a.shell(ctx, h)
	}
	_, err = h.Run(ctx, host.Cmd{Script: strings.Join(command, " "), Stdin: a.stdin, Stdout: unescaped(a.stdout), Stderr: unescaped(a.stderr)})
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.Signal == "" {
		return &exitError{code: exit.Code}
	}
	return err
}

// noMachineError says that a cluster has no such machine, and which it has.
func noMachineError(c *cluster, infra *spec.Infrastructure, name, fileArg string) error {
	have := machineNames(infra)
	if len(have) == 0 {
		return fmt.Errorf("there is no machine %q; cluster %s has none yet: run `slipway apply%s` first", name, c.spec.Metadata.Name, fileArg)
	}
	return fmt.Errorf("there is no machine %q; cluster %s has %s", name, c.spec.Metadata.Name, strings.Join(have, ", "))
}

// shell is an interactive session: it puts the terminal into raw mode, and restores it however it
// ends.
func (a *app) shell(ctx context.Context, h *host.SSH) error {
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return errors.New("a shell needs a terminal; give a command after --")
	}
	width, height, err := term.GetSize(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("size of the terminal: %w", err)
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("prepare the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(in.Fd()), before) }()
	resized, stop := watchSize(in)
	defer stop()
	terminal := host.Terminal{Type: os.Getenv("TERM"), Width: width, Height: height, Resized: resized}
	err = h.Shell(ctx, terminal, in, unescaped(a.stdout))
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.Signal == "" {
		return &exitError{code: exit.Code}
	}
	return err
}

// watchSize calls back with width and height each time the terminal changes them, until stop.
func watchSize(terminal *os.File) (<-chan [2]int, func()) {
	changed, sizes := make(chan os.Signal, 1), make(chan [2]int, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			if width, height, err := term.GetSize(int(terminal.Fd())); err == nil {
				select {
				case sizes <- [2]int{width, height}:
				case <-done:
					return
				}
			}
		}
	}()
	return sizes, func() { signal.Stop(changed); close(done) }
}

func machineNames(infra *spec.Infrastructure) []string {
	var names []string
	for _, m := range infra.Machines {
		names = append(names, m.Name)
	}
	return names
}
