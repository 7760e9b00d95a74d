package observe

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// hostInventory reads one host.
type hostInventory struct {
	host  host.Host
	node  certs.Node
	known known
	paths []string // of the table's files
	// items by path, and the reverse.
	items, pathOf map[string]string
	// wanted are the contents of files that the state has, by path.
	wanted map[string][]certs.Use
	// clients means that connections of clients are checked, which needs root on the host.
	clients bool
}

func newHostInventory(h host.Host, n certs.Node, files []certs.File, known known) *hostInventory {
	l := &hostInventory{host: h, node: n, known: known, items: map[string]string{}, pathOf: map[string]string{}, wanted: map[string][]certs.Use{}}
	for _, f := range files {
		if f.Secret {
			continue
		}
		l.paths = append(l.paths, f.Path)
		if content := f.Content.Reveal(); len(content) > 0 {
			l.wanted[f.Path] = certs.Read(certs.Use{}, content)
		}
	}
	for _, q := range known.pki.Requests {
		if q.Node != "" && q.Node != n.Name {
			continue
		}
		for _, ext := range []string{".crt", ".pub"} {
			if slices.Contains(l.paths, q.Path+ext) {
				l.items[q.Path+ext], l.pathOf[q.Name] = q.Name, q.Path+ext
			}
		}
	}
	return l
}

// look reads the files and queries the servers, in parallel, and compares.
func (l *hostInventory) look(ctx context.Context) []certs.Use {
	var files, kubeconfigs []certs.Use
	var err error
	endpoints := stack.Endpoints()
	served := make([]certs.Use, len(endpoints))
	var wait sync.WaitGroup
	wait.Go(func() { files, kubeconfigs, err = l.read(ctx) })
	for i, row := range endpoints {
		if row.On(l.node) && row.Shows() {
			wait.Go(func() { served[i] = l.served(ctx, row) })
		}
	}
	wait.Wait()
	served = slices.DeleteFunc(served, func(u certs.Use) bool { return u.Place == "" })
	for i := range served {
		u := &served[i]
		at := l.pathOf[u.Name]
		if first := slices.IndexFunc(files, func(f certs.Use) bool { return f.Location == at }); first >= 0 {
			u.AgainstDisk(files[first])
		}
		u.AgainstState(l.wanted[at])
	}
	if err != nil {
		files = []certs.Use{{Host: l.node.Name, Place: certs.UnreadHost, Error: err.Error()}}
	}
	return slices.Concat(served, files, kubeconfigs)
}

// served reads one server's certificate.
func (l *hostInventory) served(ctx context.Context, row stack.Endpoint) certs.Use {
	address := row.Address(l.node)
	u := certs.Use{Host: l.node.Name, Place: certs.Served, Location: address, Name: l.items[row.Cert]}
	if row.Cert == "" {
		u.Place, u.Location = certs.InMemory, address+" as "+row.ServerName
	}
	dialer, ok := l.host.(host.Dialer)
	if !ok {
		u.Error = "the host's network cannot be reached"
		return u
	}
	cert, err := live.PeerCertificate(ctx, dialer, address, row.ServerName)
	if err != nil {
		u.Error = err.Error()
		return u
	}
	return u.Of(cert)
}

// certificatesScript prints the certificates and public keys in $PATHS, one path per line, in the
// kubeconfigs of the host, and in the files that those refer to. Private keys never leave the host:
// their blocks are dropped, and of kubeconfigs only the fields that hold certificates are printed.
const certificatesScript = `
pem() {
  sed -n -e '/^-----BEGIN .*PRIVATE KEY-----/,/^-----END /d' \
    -e '/^-----BEGIN CERTIFICATE-----/,/^-----END /p' -e '/^-----BEGIN PUBLIC KEY-----/,/^-----END /p' -- "$1"
}
fields() { grep -oE '(client-certificate|certificate-authority)(-data)?"?: *"?[^",{} ]+' -- "$1" | tr -d '" '; }
confs() { for f in /etc/kubernetes/*.conf /etc/kubernetes/*.kubeconfig; do [ -f "$f" ] && echo "$f"; done; }
referred=$(confs | while read -r f; do fields "$f" | sed -n -E 's|^[a-z-]+:(/.*)|\1|p'; done)
printf '%s\n' "$PATHS" "$referred" | sort -u | while read -r f; do
  [ -n "$f" ] || continue
  echo "[file] $f"
  if [ -r "$f" ]; then pem "$f"; elif [ -e "$f" ]; then echo '! it may not be read'; else echo '! there is no such file'; fi
done
confs | while read -r f; do
  echo "[kubeconfig] $f"
  if [ -r "$f" ]; then fields "$f"; else echo '! it may not be read'; fi
done
`

// clientsScript prints what the connections of units present whose client certificates were
// renewed.
func clientsScript() string {
	return "(\nKEPT=" + stack.ConnectionsDir + "\n" + templates.ConnectionsScript() + ")\n"
}

// section is certificatesScript's output for one file.
type section struct{ kind, path, text string }

// parseSections parses the output of certificatesScript and clientsScript. Output without its end
// marker is incomplete, and an error.
func parseSections(report string) ([]section, error) {
	var all []section
	for line := range strings.Lines(report) {
		switch kind, at, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); {
		case kind == "[end]":
			return all, nil
		case kind == "[file]" || kind == "[kubeconfig]" || kind == "[client]":
			all = append(all, section{kind: kind, path: at})
		case len(all) > 0:
			all[len(all)-1].text += line
		}
	}
	return nil, errors.New("the host's report of certificates is incomplete")
}

// read reads the host's files, in one session.
func (l *hostInventory) read(ctx context.Context) (files, kubeconfigs []certs.Use, err error) {
	script := "# read certificates\nPATHS=" + host.Quote(strings.Join(l.paths, "\n")) + certificatesScript
	if l.clients {
		script += clientsScript()
	}
	script += "echo '[end]'\n"
	result, err := l.host.Run(ctx, host.Cmd{Script: script})
	if err != nil {
		return nil, nil, err
	}
	sections, err := parseSections(string(result.Stdout))
	if err != nil {
		return nil, nil, err
	}
	for _, s := range sections {
		problem, failed := strings.CutPrefix(s.text, "! ")
		switch {
		case failed:
			u := certs.Use{Host: l.node.Name, Place: certs.InFile, Location: s.path, Name: l.items[s.path], Error: strings.TrimSpace(problem)}
			files = append(files, u)
		case s.kind == "[file]":
			files = append(files, l.file(s)...)
		case s.kind == "[client]":
			presented(files, s.path)
		default:
			kubeconfigs = append(kubeconfigs, l.kubeconfig(s)...)
		}
	}
	return files, kubeconfigs, nil
}

// presented records a line of clientsScript: unit, port, and what its connections present.
func presented(files []certs.Use, line string) {
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[2] != "new" && fields[2] != "old" {
		return // unknown
	}
	for _, row := range stack.Clients() {
		if row.Unit != fields[0] || fmt.Sprintf("%04X", row.Port) != fields[1] {
			continue
		}
		if at := slices.IndexFunc(files, func(f certs.Use) bool { return f.Location == row.Cert }); at >= 0 {
			files[at].AgainstConnections(row.Unit, fields[2] == "new")
		}
	}
}

func (l *hostInventory) file(s section) []certs.Use {
	at := certs.Use{Host: l.node.Name, Place: certs.InFile, Location: s.path, Name: l.items[s.path]}
	return l.compared(at, certs.Read(at, []byte(s.text)), l.wanted[s.path])
}

// kubeconfig reads embedded certificates. Files that it refers to are among the files.
func (l *hostInventory) kubeconfig(s section) []certs.Use {
	var uses []certs.Use
	for line := range strings.Lines(s.text) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if !strings.HasSuffix(field, "-data") {
			continue
		}
		at := certs.Use{Host: l.node.Name, Place: certs.InKubeconfig, Location: s.path + ", " + field}
		text, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			at.Error = "it is not base64"
			uses = append(uses, at)
			continue
		}
		uses = append(uses, l.embedded(at, s.path, field, text)...)
	}
	return uses
}

// embedded compares slipway's own kubeconfigs with the state. Others are not slipway's.
func (l *hostInventory) embedded(at certs.Use, file, field string, text []byte) []certs.Use {
	var wanted []certs.Use
	for _, row := range stack.Embedded() {
		switch {
		case file != path.Join(stack.KubernetesDir, row.Name):
		case field == "certificate-authority-data":
			at.Name, wanted = certs.KubernetesCA, l.wanted[certs.RootCAFile]
		default:
			at.Name = row.Item(l.node.Name)
			if item, ok := l.known.pki.Material[at.Name]; ok {
				wanted = certs.Read(certs.Use{}, item.Cert)
			}
		}
	}
	return l.compared(at, certs.Read(at, text), wanted)
}

func (l *hostInventory) compared(at certs.Use, uses, wanted []certs.Use) []certs.Use {
	for i := range uses {
		uses[i].AgainstState(wanted)
	}
	return l.known.named(append(uses, certs.Lacking(at, uses, wanted)...))
}
