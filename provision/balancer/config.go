package balancer

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
)

// Config is the balancer's configuration file, in JSON.
type Config struct {
	// Listen are the addresses that clients connect to, as host:port. At least one.
	Listen []string `json:"listen"`
	// Backends are the API servers, as host:port. At least one. The host must be in the server's
	// certificate.
	Backends []string `json:"backends"`
	// CAFile has the certificates, in PEM, that the API servers' serving certificates are verified
	// with.
	CAFile string `json:"caFile"`
}

func (c Config) validate() error {
	var errs []error
	if c.CAFile == "" {
		errs = append(errs, errors.New("caFile is missing"))
	}
	check := func(field string, addresses []string, anyPort bool) {
		if len(addresses) == 0 {
			errs = append(errs, fmt.Errorf("%s is empty", field))
		}
		for i, address := range addresses {
			host, port, err := net.SplitHostPort(address)
			number, portErr := strconv.ParseUint(port, 10, 16)
			switch {
			case err != nil || portErr != nil || host == "" || number == 0 && !anyPort:
				errs = append(errs, fmt.Errorf("%s[%d]: %q is not host:port", field, i, address))
			case slices.Contains(addresses[:i], address):
				errs = append(errs, fmt.Errorf("%s[%d]: %q is there twice", field, i, address))
			}
		}
	}
	check("listen", c.Listen, true)
	check("backends", c.Backends, false)
	return errors.Join(errs...)
}

// settings is a valid configuration with the files it names read.
type settings struct {
	Config
	roots *x509.CertPool
	raw   []byte // the bytes all of this came from: equal bytes, equal settings
	// text and ca are the two files.
	text, ca []byte
}

// Status returns the status text for systemd that identifies the active configuration and its CA
// file, so that their writer can check whether they were loaded (systemctl show -p StatusText). It
// has no characters that are special in a shell.
func Status(config, ca []byte) string {
	sum := sha256.Sum256(slices.Concat(config, []byte{0}, ca))
	return "configuration " + hex.EncodeToString(sum[:])
}

// load reads the configuration and the CA file. Reading both each time, rather than looking at
// times and inodes, works the same for files replaced by rename, files rewritten in place and files
// mounted one by one.
func load(path string) (settings, error) {
	text, err := os.ReadFile(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return settings{}, err
	}
	s := settings{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s.Config); err != nil {
		return settings{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := s.validate(); err != nil {
		return settings{}, fmt.Errorf("%s: %w", path, err)
	}
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		return settings{}, err
	}
	s.roots = x509.NewCertPool()
	if !s.roots.AppendCertsFromPEM(ca) {
		return settings{}, fmt.Errorf("%s: no certificate in PEM", s.CAFile)
	}
	s.text, s.ca, s.raw = text, ca, slices.Concat(text, []byte{0}, ca)
	return s, nil
}
