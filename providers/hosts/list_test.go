package hosts

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
)

// programs puts scripts into PATH, and returns their directory.
func programs(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return dir
}

func TestList(t *testing.T) {
	const inventory = `{"_meta": {"hostvars": {"Web-1": {"ansible_host": "192.0.2.1", "ansible_user": "ops", "ansible_port": 2222, "private_address": "10.0.0.1"}}},
	"workers": {"hosts": ["Web-1"], "children": ["more", "workers"]}, "more": {"hosts": ["192.0.2.2", "Web-1"]}}`
	dir := programs(t, map[string]string{
		"terraform":         `[ "$1 $2 $3 $4" = "-chdir=/spec/infra output -json workers" ] && echo '["192.0.2.1", {"address": "b", "name": "b", "privateAddress": "10.0.0.2"}]'`,
		"ansible-inventory": `[ "$*" = "-i /spec/inv --list" ] && cat <<'END'` + "\n" + inventory + "\nEND\n",
		"list":              `printf '["%s"]' "$(basename "$PWD")-$1"`,
		"words":             "echo no list",
		"unknown":           `echo '[{"address": "a", "user": "x"}]'`,
		"nothing":           `echo '[{"name": "a"}]'`,
		"fails":             "echo one >&2; echo two >&2; exit 3",
		"loud":              "yes",
		"silent":            "true",
		"gone":              "exit 4",
		"object":            "echo {}",
		"number":            "echo [1]",
		"port":              `echo '[{"address": "a", "ssh": {"port": "22"}}]'`,
	})
	path := func(p string) (string, error) { return filepath.Join("/spec", p), nil }
	for name, tt := range map[string]struct {
		from spec.HostsFrom
		want []spec.PoolHost
		err  string
	}{
		"terraform": {
			from: spec.HostsFrom{TerraformOutput: &spec.TerraformOutput{Directory: "infra", Output: "workers"}},
			want: []spec.PoolHost{{Address: "192.0.2.1"}, {Address: "b", Name: "b", PrivateAddress: "10.0.0.2"}},
		},
		"another program": {from: spec.HostsFrom{TerraformOutput: &spec.TerraformOutput{Program: "tofu-x"}}, err: "the program tofu-x is not installed"},
		"ansible": {
			from: spec.HostsFrom{AnsibleGroup: &spec.AnsibleGroup{Inventory: "inv", Group: "workers"}},
			want: []spec.PoolHost{
				{Address: "192.0.2.1", Name: "web-1", PrivateAddress: "10.0.0.1", SSH: spec.SSHSettings{User: "ops", Port: 2222}}, {Address: "192.0.2.2"},
			},
		},
		"no such group":       {from: spec.HostsFrom{AnsibleGroup: &spec.AnsibleGroup{Inventory: "inv", Group: "w"}}, err: "no group w"},
		"a command":           {from: spec.HostsFrom{Command: []string{"list", "x y"}}, want: []spec.PoolHost{{Address: filepath.Base(dir) + "-x y"}}},
		"no JSON":             {from: spec.HostsFrom{Command: []string{"words"}}, err: "`words`: it does not print a JSON list"},
		"nothing at all":      {from: spec.HostsFrom{Command: []string{"silent"}}, err: `such as ["192.0.2.10"]: it prints nothing`},
		"an object":           {from: spec.HostsFrom{Command: []string{"object"}}, err: `such as ["192.0.2.10"]: it is of the wrong type: object`},
		"a number":            {from: spec.HostsFrom{Command: []string{"number"}}, err: "host 1 in the list: it is of the wrong type: number: a host is an address"},
		"a port in quotes":    {from: spec.HostsFrom{Command: []string{"port"}}, err: "host 1 in the list: ssh.port is of the wrong type: string"},
		"an unknown field":    {from: spec.HostsFrom{Command: []string{"unknown"}}, err: `host 1 in the list: unknown field "user"`},
		"without an address":  {from: spec.HostsFrom{Command: []string{"nothing"}}, err: "host 1 in the list has no address"},
		"a failure":           {from: spec.HostsFrom{Command: []string{"fails"}}, err: "`fails`: exit status 3: one two"},
		"a silent failure":    {from: spec.HostsFrom{Command: []string{"gone"}}, err: "`gone`: exit status 4: it says nothing on standard error"},
		"no such file":        {from: spec.HostsFrom{Command: []string{"./nowhere"}}, err: "`./nowhere`: it cannot be started: no such file or directory"},
		"a program that runs": {from: spec.HostsFrom{Command: []string{"loud"}}, err: "prints more than 8 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := List(t.Context(), tt.from, dir, path)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted)
	if _, err := List(ctx, spec.HostsFrom{Command: []string{"list"}}, dir, path); !errors.Is(err, interrupted) {
		t.Errorf("interrupted: %v", err)
	}
}
