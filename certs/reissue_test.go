package certs

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReissue changes one thing and expects exactly the items it concerns, with the reason.
func TestReissue(t *testing.T) {
	base := base(t)
	apiServers := []string{"apiserver@demo-cp-1", "apiserver@demo-cp-2", "apiserver@demo-cp-3"}
	var all []string
	for _, q := range base.Requests {
		if q.Kind == Leaf {
			all = append(all, q.Name)
		}
	}
	ofNode := func(node string) (names []string) {
		for _, name := range all {
			if strings.HasSuffix(name, "@"+node) {
				names = append(names, name)
			}
		}
		return names
	}
	tests := map[string]struct {
		in     func(*Inputs)
		have   func(Material)
		policy func(*Policy)
		now    time.Time
		want   []string
		detail string // of the first
	}{
		"an endpoint name more": {
			in:   func(in *Inputs) { in.EndpointSANs = append(in.EndpointSANs, "new.example.com") },
			want: apiServers, detail: "SANs changed: +new.example.com",
		},
		"endpoint names in another order and case": {
			in: func(in *Inputs) { in.EndpointSANs = []string{"192.0.2.10", "API.example.com"} },
		},
		"a worker's address": {
			in:   func(in *Inputs) { in.Nodes[3].Address = netip.MustParseAddr("10.89.0.99") },
			want: []string{"kubelet@demo-worker-1"}, detail: "SANs changed: +10.89.0.99 -10.89.0.21",
		},
		"a node less": {
			in: func(in *Inputs) { in.Nodes = in.Nodes[:3] },
		},
		"a missing leaf": {
			have: func(m Material) { delete(m, "etcd/peer@demo-cp-2") },
			want: []string{"etcd/peer@demo-cp-2"}, detail: "missing",
		},
		"a leaf of another CA": {
			have: func(m Material) { m["scheduler@demo-cp-1"] = m["etcd/healthcheck-client@demo-cp-1"] },
			want: []string{"scheduler@demo-cp-1"}, detail: "signed by another CA",
		},
		"a leaf with another name": {
			have: func(m Material) { m["scheduler@demo-cp-1"] = m["kube-proxy@demo-cp-1"] },
			want: []string{"scheduler@demo-cp-1"}, detail: `subject changed: CN is "system:kube-proxy", wanted "system:kube-scheduler"`,
		},
		"a leaf with another organization": {
			have: func(m Material) {
				m["super-admin"] = reissued(t, base, "super-admin", func(q *Request) { q.Organizations = nil })
			},
			want: []string{"super-admin"}, detail: `subject changed: O is [], wanted ["system:masters"]`,
		},
		"a leaf with more usages": {
			have: func(m Material) {
				m["kubelet@demo-cp-1"] = reissued(t, base, "kubelet@demo-cp-1", func(q *Request) { q.Usages |= ClientAuth })
			},
			want: []string{"kubelet@demo-cp-1"}, detail: `usages changed: is for "client+server", wanted "server"`,
		},
		"another key algorithm": {
			policy: func(p *Policy) { p.KeyAlgorithm = ECDSAP384 },
			want:   all, detail: "key algorithm changed: is ECDSA-P256, wanted ECDSA-P384",
		},
		"a shorter validity": {
			policy: func(p *Policy) { p.LeafValidity = 365 * day },
			want:   all, detail: "validity changed: ends 2036-02-27, wanted 2027-03-01",
		},
		"a shorter validity of administrators": {
			policy: func(p *Policy) { p.AdminValidity = 365 * day },
			want:   []string{"admin", "super-admin"}, detail: "validity changed: ends 2036-02-27, wanted 2027-03-01",
		},
		"a longer validity, cut by the CA": {
			policy: func(p *Policy) { p.LeafValidity = 100 * 365 * day },
			want:   all, detail: "validity changed: ends 2036-02-27, wanted 2056-02-22",
		},
		"a CA validity, which counts for new ones only": {
			policy: func(p *Policy) { p.CAValidity = 99 * 365 * day },
		},
		"just before the renewal window": {now: day0.Add(9*365*day - time.Hour)},
		"in the renewal window":          {now: day0.Add(9*365*day + 10*day), want: all, detail: "expires in 354 days"},
		"after the end":                  {now: day0.Add(11 * 365 * day), want: all, detail: "expired on 2036-02-27"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in, p, now, have := demo(), policy, test.now, Material{}
			for k, v := range base.Material {
				have[k] = v
			}
			if test.in != nil {
				test.in(&in)
			}
			if test.have != nil {
				test.have(have)
			}
			if test.policy != nil {
				test.policy(&p)
			}
			if now.IsZero() {
				now = day0.Add(time.Hour)
			}
			pki, changes := ensure(t, have, in, p, now)
			var got []string
			for _, c := range changes {
				got = append(got, c.Name)
				if bytes.Equal(pki.Material[c.Name].Key, have[c.Name].Key) {
					t.Errorf("%s was given out as reissued and is the same", c.Name)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("reissued %v\nwanted %v", got, test.want)
			}
			if len(changes) > 0 && changes[0].Detail != test.detail {
				t.Errorf("because %q, wanted %q", changes[0].Detail, test.detail)
			}
			if _, again := ensure(t, pki.Material, in, p, now); len(again) != 0 {
				t.Errorf("does not converge: %v", again)
			}
			if name == "a node less" && !slices.Equal(pki.Obsolete, slices.Sorted(slices.Values(ofNode("demo-worker-1")))) {
				t.Errorf("obsolete: %v", pki.Obsolete)
			}
		})
	}
}

// reissued makes an item as an altered request would have it.
func reissued(t *testing.T, pki *PKI, name string, alter func(*Request)) Item {
	t.Helper()
	i := slices.IndexFunc(pki.Requests, func(q Request) bool { return q.Name == name })
	q := pki.Requests[i]
	alter(&q)
	by, err := loadAuthority(pki.Material[q.CA], false)
	if err != nil {
		t.Fatal(err)
	}
	item, err := issue(q, policy, by, day0)
	if err != nil {
		t.Fatal(err)
	}
	return item
}
