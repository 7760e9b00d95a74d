package live

import (
	"errors"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// A member with an alarm is a difference that a plan names, and no sign that the cluster is down.
func TestMembersWithAlarms(t *testing.T) {
	full := &etcd.AlarmError{Alarms: []string{etcd.NoSpace}}
	found := membersOf([]etcd.Member{
		{Name: "cp-1", Answers: true, Alarms: full.Alarms, Err: full},
		{Name: "cp-2", Err: errors.New("refused"), Out: true},
		{Name: "cp-3", Answers: true, Healthy: true},
		{Name: "cp-4", Healthy: true, Learner: true},
	})
	if m := found["cp-1"]; !m.Answers || m.Healthy || m.Out {
		t.Errorf("a member with an alarm is %+v", m)
	}
	if m := found["cp-2"]; m.Answers || m.Healthy || !m.Out {
		t.Errorf("one that refuses is %+v", m)
	}
	if m := found["cp-4"]; m.Answers || m.Healthy {
		t.Errorf("a learner is %+v", m)
	}
	changes := plan.Diff(stack.State{Members: map[string]stack.Member{"cp-1": {}, "cp-3": {}}}, stack.State{Members: map[string]stack.Member{"cp-1": found["cp-1"], "cp-3": found["cp-3"]}})
	if len(changes) != 1 || changes[0].Kind != plan.MemberChange || changes[0].Host != "cp-1" || !strings.Contains(changes[0].Reason, etcd.NoSpace) {
		t.Errorf("the plan has %+v", changes)
	}
}
