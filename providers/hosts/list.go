package hosts

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/spec"
)

const (
	// listTimeout is how long a program may take to list machines.
	listTimeout = 2 * time.Minute
	// stopTimeout is how long one may take to end once it is told to.
	stopTimeout = 5 * time.Second
	// listSize is how much it may print.
	listSize = 8 << 20
)

// List runs what lists the machines of a pool. dir is the directory of the spec, and path makes a path
// of the spec absolute. Errors begin with the command.
func List(ctx context.Context, from spec.HostsFrom, dir string, path func(string) (string, error)) ([]spec.PoolHost, error) {
	command, parse := from.Command, parseList
	switch {
	case from.TerraformOutput != nil:
		t := from.TerraformOutput
		infra, err := path(t.Directory)
		if err != nil {
			return nil, err
		}
		command = []string{terraform(t.Program), "-chdir=" + infra, "output", "-json", t.Output}
	case from.AnsibleGroup != nil:
		inventory, err := path(from.AnsibleGroup.Inventory)
		if err != nil {
			return nil, err
		}
		command = []string{"ansible-inventory", "-i", inventory, "--list"}
		parse = func(text []byte) ([]spec.PoolHost, error) { return parseInventory(text, from.AnsibleGroup.Group) }
	}
	out, err := run(ctx, dir, command)
	var hosts []spec.PoolHost
	if err == nil {
		hosts, err = parse(out)
	}
	if err != nil {
		return nil, fmt.Errorf("`%s`: %w", strings.Join(command, " "), err)
	}
	return hosts, nil
}

// terraform is the program that reads outputs.
func terraform(program string) string {
	if program != "" {
		return program
	}
	if _, err := exec.LookPath("tofu"); err == nil {
		return "tofu"
	}
	return "terraform"
}

// run returns what a program prints. Its errors have the end of what it said.
func run(ctx context.Context, dir string, command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listTimeout, fmt.Errorf("it has not ended for %s", listTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the spec names the program
	cmd.Dir, cmd.WaitDelay = dir, stopTimeout
	out := &limited{limit: listSize}
	said := &limited{limit: listSize}
	cmd.Stdout, cmd.Stderr = out, said
	err := cmd.Run()
	var start *fs.PathError
	switch {
	case out.over:
		return nil, fmt.Errorf("it prints more than %d MiB", listSize>>20)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("the program %s is not installed", command[0])
	case errors.As(err, &start):
		return nil, fmt.Errorf("it cannot be started: %w", start.Err)
	case err != nil:
		lines := strings.Split(strings.TrimSpace(said.text.String()), "\n")
		last := cmp.Or(strings.Join(lines[max(0, len(lines)-3):], " "), "it says nothing on standard error")
		return nil, fmt.Errorf("%w: %s", err, last)
	}
	return out.text.Bytes(), nil
}

// limited keeps the beginning of what is written to it.
type limited struct {
	text  bytes.Buffer // not embedded: io.Copy would fill it without a limit
	limit int
	over  bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.text.Len()+len(p) > l.limit {
		l.over = true
		return 0, errors.New("too much")
	}
	return l.text.Write(p)
}

// parseList reads a JSON list of addresses, or of hosts as in the spec.
func parseList(text []byte) ([]spec.PoolHost, error) {
	var entries []json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("it does not print a JSON list of addresses or hosts, such as [\"192.0.2.10\"]: %s", mistake(text, err))
	}
	var hosts []spec.PoolHost
	for i, entry := range entries {
		var h spec.PoolHost
		if json.Unmarshal(entry, &h.Address) != nil {
			d := json.NewDecoder(bytes.NewReader(entry))
			d.DisallowUnknownFields()
			if err := d.Decode(&h); err != nil {
				return nil, fmt.Errorf("host %d in the list: %s: a host is an address, or has the fields of `hosts` in the spec", i+1, mistake(entry, err))
			}
		}
		if h.Address == "" {
			return nil, fmt.Errorf("host %d in the list has no address", i+1)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// mistake says what is wrong with JSON, without Go's terms.
func mistake(text []byte, err error) string {
	var kind *json.UnmarshalTypeError
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return "it prints nothing"
	case errors.As(err, &kind):
		return fmt.Sprintf("%s is of the wrong type: %s", cmp.Or(kind.Field, "it"), kind.Value)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// inventory is what ansible-inventory --list prints.
type inventory struct {
	Hosts    []string `json:"hosts"`
	Children []string `json:"children"`
}

// parseInventory returns the hosts of a group and its children. A host is named as in the inventory,
// unless that is an address.
func parseInventory(text []byte, group string) ([]spec.PoolHost, error) {
	var groups map[string]json.RawMessage
	var meta struct {
		HostVars map[string]struct {
			Host    string `json:"ansible_host"`
			User    string `json:"ansible_user"`
			Port    int    `json:"ansible_port"`
			Private string `json:"private_address"`
		} `json:"hostvars"`
	}
	err := json.Unmarshal(text, &groups)
	if err == nil && groups["_meta"] != nil {
		err = json.Unmarshal(groups["_meta"], &meta)
	}
	if err != nil {
		return nil, fmt.Errorf("it does not print an inventory: %s", mistake(text, err))
	}
	if groups[group] == nil || group == "_meta" {
		return nil, fmt.Errorf("the inventory has no group %s", group)
	}
	names, err := members(groups, group)
	if err != nil {
		return nil, err
	}
	var hosts []spec.PoolHost
	for _, name := range names {
		vars := meta.HostVars[name]
		h := spec.PoolHost{
			Address: cmp.Or(vars.Host, name), PrivateAddress: vars.Private, SSH: spec.SSHSettings{User: vars.User, Port: vars.Port},
		}
		if _, err := netip.ParseAddr(name); err != nil {
			h.Name = strings.ToLower(name)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// members returns the hosts of a group and of its children, each once.
func members(groups map[string]json.RawMessage, group string) (names []string, err error) {
	for pending, seen := []string{group}, map[string]bool{}; len(pending) > 0; pending = pending[1:] {
		name := pending[0]
		if seen[name] || groups[name] == nil {
			continue
		}
		seen[name] = true
		var g inventory
		if err := json.Unmarshal(groups[name], &g); err != nil {
			return nil, fmt.Errorf("group %s of the inventory: %s", name, mistake(groups[name], err))
		}
		pending = append(pending, g.Children...)
		for _, host := range g.Hosts {
			if !slices.Contains(names, host) {
				names = append(names, host)
			}
		}
	}
	return names, nil
}
