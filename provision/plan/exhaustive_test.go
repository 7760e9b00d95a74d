package plan

import (
	"fmt"
	"slices"
	"testing"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// sight is what is found of one control plane. Its host was observed, cut off, or is gone with its machine; of the rest only
// an observed one has anything.
type sight struct {
	host, member            byte
	sealed, others, changes bool
}

// The members that there can be on a host. healthy and corrupt answer linearizable reads; slow did not answer in time;
// starting has a unit that is only starting; leaderless has said for seconds that it sees no leader; down does not run; lost
// does not, and its disk is another one, without data; stale data is of before the cluster began again.
const (
	observed, cut, gone                                   = 'o', 'c', 'g'
	well, slow, down, starting, leaderless, lost, corrupt = 'h', 's', 'd', 'a', 'l', '0', 'x'
	stale                                                 = 'b'
)

// sightings are all that can be found of one control plane. What is another cluster's would always be changed.
func sightings(sealed []bool) []sight {
	all := []sight{{host: cut}, {host: gone}, {observed, stale, false, false, true}}
	for _, member := range []byte{well, slow, down, starting, leaderless, lost, corrupt} {
		of := sealed
		if member == lost {
			of = []bool{false} // the record went with the disk
		}
		for _, s := range of {
			for _, changes := range []bool{true, false} {
				all = append(all, sight{observed, member, s, false, changes})
			}
			all = append(all, sight{observed, member, s, true, true})
		}
	}
	return all
}

// state is the observation that shows sights, with the names of machines that do not exist.
func stateOf(ms []spec.Machine, sights []sight, uid string) (s stack.State, missing []string) {
	s = stack.State{Hosts: map[string]stack.HostState{}, Members: map[string]stack.Member{}}
	for i, m := range ms {
		w := sights[i]
		switch w.host {
		case gone:
			missing = append(missing, m.Name)
			continue
		case cut:
			continue
		}
		h := stack.HostState{Facts: stack.Facts{
			Systemd: true, Arch: "amd64", CgroupV2: true, Initialized: w.sealed, EtcdData: w.member != lost, ClusterUID: uid,
		}, Units: map[string]stack.Unit{}}
		if w.others {
			h.Facts.ClusterUID = "others"
		}
		if w.member == stale {
			h.Facts.Generation = "of before"
		}
		unit, member := stack.Unit{Active: true, State: "active/running"}, stack.Member{}
		switch w.member {
		case well:
			member.Answers, member.Healthy = true, true
		case corrupt:
			member.Answers = true
		case down, stale:
			unit, member.Out = stack.Unit{State: "failed/failed"}, true
		case starting:
			unit, member.Out = stack.Unit{State: "activating/start"}, true
		case leaderless:
			member.Out = true
		case lost:
			unit, member.Out = stack.Unit{}, true
		}
		if w.member != lost {
			h.Units["etcd.service"] = unit
		}
		s.Hosts[m.Name], s.Members[m.Name] = h, member
	}
	return s, missing
}

// truth judges, by itself, what may be so behind what was found. lives: a majority of etcd may work now. returns: one may come
// to work by itself. It takes nothing from Alive.
func truth(sights []sight, api bool) (lives, returns bool) {
	working, maybe, later := 0, 0, 0
	for _, w := range sights {
		switch {
		case w.host == cut || w.host == observed && w.member == slow:
			maybe++
		case w.host == gone || w.member == down || w.member == lost || w.member == stale:
		case w.member == starting || w.member == leaderless:
			later++
		default:
			working++
		}
	}
	quorum := len(sights)/2 + 1
	returns = working+maybe+later >= quorum
	return working > 0 || working+maybe >= quorum || api && returns, returns
}

// multisets gives every choice of n of a list, of which the order does not matter: hosts are alike.
func multisets(of []sight, n int, each func([]sight)) {
	chosen := make([]sight, 0, n)
	var choose func(from int)
	choose = func(from int) {
		if len(chosen) == n {
			each(chosen)
			return
		}
		for i := from; i < len(of); i++ {
			chosen = append(chosen, of[i])
			choose(i)
			chosen = chosen[:len(chosen)-1]
		}
	}
	choose(0)
}

// Whatever is found of one, three or five control planes: no two of a cluster that may live are changed side by side, and none
// without etcd having proven that it can spare it; all of one that is down only after that was proven again; nothing is begun
// without data where there was some; and no step is of what another cluster owns or what was not seen.
func TestEveryObservationIsSafe(t *testing.T) {
	cluster := fixture.Input(t).Cluster
	both := []bool{true, false}
	for _, size := range []struct {
		controlPlanes int
		sealed        []bool // nil: all are, or none is
		only          bool
	}{{1, both, true}, {3, both, true}, {5, nil, false}} {
		t.Run(fmt.Sprint(size.controlPlanes), func(t *testing.T) {
			if size.controlPlanes > 1 {
				fixture.Alone(t)
			}
			t.Parallel()
			x := exhaustion{t: t, machines: fixture.Machines(size.controlPlanes, 0), only: size.only}
			x.in = stack.Input{Cluster: cluster, Machines: x.machines, PKI: &certs.PKI{}, EncryptionKeys: []stack.EncryptionKey{{Name: "k"}}, UID: "ours"}
			sets := [][]sight{sightings(size.sealed)}
			if size.sealed == nil {
				sets = [][]sight{sightings(both[:1]), sightings(both[1:])}
			}
			for _, sights := range sets {
				multisets(sights, size.controlPlanes, func(chosen []sight) {
					x.observation(chosen, false)
					if !slices.ContainsFunc(chosen, func(w sight) bool { return w.sealed }) { // else it is known anyway
						x.observation(chosen, true)
					}
				})
			}
			t.Logf("%d schedules of %d observations: %d rolling, %d of a cluster that is down, %d first starts; %d refused",
				x.schedules, x.observations, x.rolling, x.downs, x.firsts, x.refused)
			if x.rolling == 0 || x.downs == 0 || x.firsts == 0 || x.refused == 0 {
				t.Error("something never happened: the test shows nothing")
			}
		})
	}
}

type exhaustion struct {
	t        *testing.T
	in       stack.Input
	machines []spec.Machine
	only     bool

	observations, schedules, rolling, downs, firsts, refused int
}

// observation decides as Runner.Situation does; known says that the state knows that the cluster has been up.
func (x *exhaustion) observation(sights []sight, known bool) {
	seen, missing := stateOf(x.machines, sights, x.in.UID)
	in := x.in
	in.BeenUp, in.Gone = known, missing
	refusals := Refuse(in, Before{}, seen)
	for _, api := range []bool{true, false} {
		x.observations++
		if len(refusals.Cluster) > 0 {
			x.refused++
			continue
		}
		x.decide(sights, in, seen, refusals, api)
	}
}

func (x *exhaustion) decide(sights []sight, in stack.Input, seen stack.State, refusals Refusals, api bool) {
	s := Situation{
		Machines: in.Machines, Initialized: BeenUp(in, seen), Unobserved: Unobserved(in.Machines, seen),
		Alive: Alive(in.Machines, seen, Signs{API: api, Gone: in.Gone, BeenUp: in.BeenUp}),
	}
	if !api {
		s.APIError = "it did not answer"
	}
	for i, m := range in.Machines {
		if sights[i].host == observed && sights[i].changes {
			s.Changes = append(s.Changes, Change{Host: m.Name, Kind: UnitChange, Name: "etcd.service", Action: Restart})
		}
		if sights[i].host == observed && !sights[i].sealed {
			s.Changes = append(s.Changes, Change{Host: m.Name, Kind: FileChange, Name: stack.InitializedFile, Action: Create})
		}
	}
	held := map[string][]string{}
	for _, name := range s.Unobserved {
		held[name] = []string{"it was not seen"}
	}
	s.Hold(held)
	s.Hold(refusals.Hosts)
	x.schedule(sights, s, api)
	for mask := 1; x.only && mask < 1<<len(in.Machines)-1; mask++ {
		var names []string
		for i, m := range in.Machines {
			if mask>>i&1 == 1 {
				names = append(names, m.Name)
			}
		}
		some, _, err := s.Only(names)
		if err != nil {
			x.t.Fatal(err)
		}
		x.schedule(sights, some, api)
	}
}

func (x *exhaustion) schedule(sights []sight, s Situation, api bool) {
	if s.Enough() != nil {
		x.refused++
		return
	}
	x.schedules++
	lives, returns := truth(sights, api)
	steps := Schedule(s)
	wrong := func(step Step, what string) {
		x.t.Fatalf("%+v, the API answers %t, been up %t: %q %s:\n%s", sights, api, s.Initialized, step.Name, what, listed(steps))
	}
	var touched []Step
	for _, step := range steps {
		i := slices.IndexFunc(s.Machines, func(m spec.Machine) bool { return m.Name == step.Host })
		if i < 0 {
			continue
		}
		w := sights[i]
		if w.host != observed || w.others {
			wrong(step, "is of a host that is not ours to touch")
		}
		if step.Verb != Install && step.Verb != Apply {
			continue
		}
		if w.member == lost && s.Initialized {
			wrong(step, "begins anew without data")
		}
		if w.member == stale {
			wrong(step, "is of data that is of another beginning")
		}
		touched = append(touched, step)
	}
	if len(touched) == 0 {
		return
	}
	before := closure(steps)
	switch {
	case !s.Initialized:
		x.firsts++
		return
	case s.Alive:
		x.rolling++
	default:
		x.downs++
	}
	for i, step := range touched {
		for _, earlier := range touched[:i] {
			if lives && !before[step.Name][newStep(AwaitEtcd, earlier.Host, nil, nil).Name] {
				wrong(step, "does not wait for "+earlier.Name)
			}
		}
		spared := before[step.Name][newStep(CheckQuorum, step.Host, nil, nil).Name]
		proven := before[step.Name][newStep(ProveDown, "", nil, nil).Name]
		if lives && !spared || returns && !spared && !proven || !spared && !proven {
			wrong(step, "is not proven to be harmless")
		}
	}
}
