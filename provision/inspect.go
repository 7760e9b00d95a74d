package provision

import (
	"context"
	"maps"
	"slices"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/preflight"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// inspect looks, once in a run, whether new machines can become nodes, and returns what keeps them from
// it, by host. A machine is new if slipway has written nothing to it. Warnings are notes. If there is no
// new machine, no host is asked.
func (s *Session) inspect(ctx context.Context, observed stack.State) (map[string][]string, error) {
	if s.Inspect == nil || s.inspected {
		return s.refused, nil
	}
	s.inspected = true
	fresh := []string{}
	for _, name := range slices.Sorted(maps.Keys(observed.Hosts)) {
		if h := observed.Hosts[name]; len(h.Owned) == 0 && !h.Facts.Initialized && s.wanted(name) {
			fresh = append(fresh, name)
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	s.UI.Phase("preflight")
	hosts := map[string]host.Host{}
	for name := range observed.Hosts {
		hosts[name] = s.hosts[name]
	}
	report, err := s.Inspect(ctx, s.PreflightInput(s.infra, fresh), hosts)
	if err != nil {
		return nil, err
	}
	for _, f := range report.Findings {
		if f.Severity == preflight.Warning {
			s.warnings = append(s.warnings, f.String())
			s.UI.Note(f.String())
		}
	}
	s.refused = preflight.Refused(report.Findings)
	for name, why := range report.Unread {
		if slices.Contains(fresh, name) {
			s.refused[name] = append(s.refused[name], "it could not be inspected: "+host.Reason(name, why))
		}
	}
	return s.refused, nil
}

// PreflightInput is what a preflight of hosts is about; no host is all of them.
func (s *Session) PreflightInput(infra *spec.Infrastructure, judged []string) preflight.Input {
	return preflight.Input{
		Cluster: s.Cluster, Machines: infra.Machines, Endpoint: stack.ExternalEndpoint(s.Cluster, infra), ExtraSANs: infra.ExtraSANs,
		Ignore: s.Ignore, Judged: judged,
	}
}
