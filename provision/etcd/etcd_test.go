package etcd

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/testing/controlplane"
)

func newTestClient(t *testing.T, members []*controlplane.Process) *Client {
	t.Helper()
	var endpoints []Endpoint
	for _, m := range members {
		endpoints = append(endpoints, Endpoint{Address: m.Address})
	}
	id := members[0].Identity
	c, err := New(endpoints, id.CA, id.Cert, secret.Bytes(id.Key))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// status asks until the members are as wanted, for a cluster elects its leader in its own time.
func status(t *testing.T, c *Client, wrong func([]Member) string) []Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		members, err := c.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		last := wrong(members)
		if last == "" {
			return members
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: %+v", last, members)
		}
	}
}

func TestStatus(t *testing.T) {
	processes := controlplane.StartEtcd(t, 3)
	c := newTestClient(t, processes)
	members := status(t, c, func(members []Member) string {
		leaders := 0
		for _, m := range members {
			if !m.Healthy {
				return m.Name + " is not healthy"
			}
			if m.Leader {
				leaders++
			}
		}
		if len(members) != 3 || leaders != 1 {
			return "want 3 members with one leader"
		}
		return ""
	})
	for i, want := range []string{"m0", "m1", "m2"} {
		m := members[i]
		if m.Name != want || m.ID == 0 || m.ClientURLs[0] != processes[i].URL() || len(m.PeerURLs) != 1 ||
			m.Learner || m.DBSize == 0 || m.Quota == 0 || !strings.HasPrefix(m.Version, "3.") || len(m.Alarms) != 0 || m.Err != nil {
			t.Errorf("member %d is %+v", i, m)
		}
	}

	processes[0].Stop()
	members = status(t, c, func(members []Member) string {
		if members[0].Healthy || !members[1].Healthy || !members[2].Healthy {
			return "want two healthy members"
		}
		return ""
	})
	if !errors.Is(members[0].Err, syscall.ECONNREFUSED) {
		t.Errorf("the stopped member's error is %v", members[0].Err)
	}
	if !members[0].Out || members[1].Out || members[2].Out {
		t.Errorf("only the stopped member is out for certain: %+v", members)
	}

	processes[1].Stop()
	begin := time.Now()
	members = status(t, c, func(members []Member) string {
		if members[2].Healthy {
			return "one of three cannot be healthy"
		}
		if !members[2].Out { // until it has noticed, it is only slow
			return "it must say that it sees no leader"
		}
		return ""
	})
	if took := time.Since(begin); took > 2*askTimeout+5*time.Second {
		t.Errorf("without a majority it took %v", took)
	}
	if members[2].Err == nil || members[2].Version == "" || members[2].Answers {
		t.Errorf("the member without a majority is %+v", members[2])
	}

	processes[2].Stop()
	if members, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), processes[1].Address) {
		t.Errorf("with all stopped: %v, %v", members, err)
	}
}

func TestStatusOfMembersNotAsked(t *testing.T) {
	processes := controlplane.StartEtcd(t, 2)
	var dials atomic.Int32
	c := newTestClient(t, processes[:1])
	c.endpoints[0].Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	members := status(t, c, func(members []Member) string {
		if len(members) != 2 || !members[0].Healthy {
			return "want two members, the first healthy"
		}
		return ""
	})
	if members[1].Healthy || members[1].Out || members[1].Err == nil || !strings.Contains(members[1].Err.Error(), "not asked") {
		t.Errorf("the second is %+v", members[1])
	}
	if dials.Load() == 0 {
		t.Error("the endpoint's own way was not taken")
	}
}

// A member with an alarm answers, and is not healthy; the others, which tell of it as well, are.
func TestStatusOfAMemberWithAnAlarm(t *testing.T) {
	c := newTestClient(t, controlplane.StartEtcd(t, 3))
	members := status(t, c, func(members []Member) string {
		if slices.ContainsFunc(members, func(m Member) bool { return !m.Healthy }) {
			return "want healthy members"
		}
		return ""
	})
	client, err := c.connect(t.Context(), c.endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	defer client.close()
	set := func(action etcdserverpb.AlarmRequest_AlarmAction, alarm etcdserverpb.AlarmType) {
		t.Helper()
		request := &etcdserverpb.AlarmRequest{Action: action, MemberID: members[1].ID, Alarm: alarm}
		if _, err := etcdserverpb.NewMaintenanceClient(client.ActiveConnection()).Alarm(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	set(etcdserverpb.AlarmRequest_ACTIVATE, etcdserverpb.AlarmType_NOSPACE)
	set(etcdserverpb.AlarmRequest_ACTIVATE, etcdserverpb.AlarmType_CORRUPT)
	members = status(t, c, func(members []Member) string {
		if len(members[1].Alarms) != 2 {
			return "want two alarms"
		}
		return ""
	})
	var raised *AlarmError
	if m := members[1]; !slices.Equal(m.Alarms, []string{Corrupt, NoSpace}) || m.Healthy || !m.Answers || m.Out || !errors.As(m.Err, &raised) {
		t.Errorf("it is %+v", m)
	}
	for _, i := range []int{0, 2} {
		if m := members[i]; m.Alarms != nil || !m.Healthy || !m.Answers {
			t.Errorf("another is %+v", m)
		}
	}
	if QuorumWithout(members, members[0].Name) == nil {
		t.Error("with one that is corrupt, another is spared")
	}
	set(etcdserverpb.AlarmRequest_DEACTIVATE, etcdserverpb.AlarmType_CORRUPT)
	status(t, c, func(members []Member) string {
		if err := QuorumWithout(members, members[0].Name); err != nil {
			return err.Error()
		}
		return ""
	})
}

func TestStatusNamesTrustFailures(t *testing.T) {
	ours, theirs := controlplane.StartEtcd(t, 1), controlplane.StartEtcd(t, 1)
	c := newTestClient(t, ours)
	c.endpoints[0].Address = theirs[0].Address
	begin := time.Now()
	_, err := c.Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("error %v does not say why", err)
	}
	if took := time.Since(begin); took > askTimeout {
		t.Errorf("took %v", took)
	}
}

func TestNewRefuses(t *testing.T) {
	id := controlplane.Identity{}
	if _, err := New(nil, id.CA, id.Cert, id.Key); err == nil {
		t.Error("no endpoints are accepted")
	}
	if _, err := New([]Endpoint{{Address: "127.0.0.1:1"}}, []byte("ca"), []byte("cert"), secret.Bytes("topsecret")); err == nil {
		t.Error("no certificate is accepted")
	} else if strings.Contains(err.Error(), "topsecret") {
		t.Errorf("the key is in the error: %v", err)
	}
}
