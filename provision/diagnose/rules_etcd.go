package diagnose

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/spec"
)

const (
	// slowFsync and slowCommit are mean times with which etcd loses its leader again and again. Its
	// authors want 99 of 100 below 10 and 25 ms (etcd.io, "What does the etcd warning ... mean?");
	// machines that share a disk stay above that, and work.
	slowFsync  = 100 * time.Millisecond
	slowCommit = 250 * time.Millisecond
	// littleSpace is the part of the quota from which on the size is told, in percent.
	littleSpace = 80
)

// controlPlanes are the hosts with a member.
func (e *Evidence) controlPlanes() []string {
	var names []string
	for _, h := range e.Hosts {
		if h.Role == spec.ControlPlane {
			names = append(names, h.Name)
		}
	}
	return names
}

// answering is a control plane whose member answers, for commands; the first one if none does.
func (e *Evidence) answering() string {
	names := e.controlPlanes()
	for _, m := range e.Etcd.Members {
		if m.Answers && slices.Contains(names, m.Name) {
			return m.Name
		}
	}
	if len(names) > 0 {
		return names[0]
	}
	return ""
}

func withAlarm(e *Evidence, alarm string) []string {
	var names []string
	for _, m := range e.Etcd.Members {
		if slices.Contains(m.Alarms, alarm) {
			names = append(names, m.Name)
		}
	}
	return names
}

// findNoSpace says how to make room: without the old revisions there is little in most databases
// (etcd.io, "Maintenance").
func findNoSpace(e *Evidence) []Finding {
	full := withAlarm(e, etcd.NoSpace)
	if len(full) == 0 {
		return nil
	}
	var size, quota int64
	for _, m := range e.Etcd.Members {
		size, quota = max(size, m.DBSize), max(quota, m.Quota)
	}
	at := e.answering()
	revision := `$(` + etcdctl("endpoint status --write-out=json") + ` | grep -o '"revision":[0-9]*' | grep -o '[0-9]*' | head -n 1)`
	return []Finding{{
		Object: "etcd", What: "etcd accepts no writes: alarm NOSPACE on " + some(full),
		Evidence: fmt.Sprintf("the database has %s, and its quota is %s", bytesText(size), bytesText(quota)),
		More:     e.ssh(at, etcdctl("endpoint status --cluster --write-out=table")),
		Remedy: Remedy{
			Text: "remove old revisions, free their space, and end the alarm:",
			Commands: []string{
				e.ssh(at, etcdctl("compact "+revision)), e.ssh(at, etcdctl("--command-timeout=60s defrag --cluster")), e.ssh(at, etcdctl("alarm disarm")),
			},
		},
		hosts: e.controlPlanes(), everywhere: true,
	}}
}

func findCorrupt(e *Evidence) []Finding {
	var found []Finding
	for _, name := range withAlarm(e, etcd.Corrupt) {
		found = append(found, Finding{
			Host: name, Object: "etcd", What: "its etcd member is corrupt: its data is not that of the others", Evidence: "alarm CORRUPT",
			More:   e.ssh(e.answering(), etcdctl("endpoint hashkv --cluster --write-out=table")),
			Remedy: Remedy{Text: "take a snapshot of a member that is whole, then replace this one: do not restart the others"},
		})
	}
	return found
}

func findMembership(e *Evidence) []Finding {
	var found []Finding
	if e.Etcd.Error != "" || !e.Etcd.Asked {
		return nil
	}
	clusters := map[string][]string{}
	for _, m := range e.Etcd.Members {
		if m.Cluster != "" {
			clusters[m.Cluster] = append(clusters[m.Cluster], m.Name)
		}
		f := Finding{Object: "etcd", More: e.ssh(e.answering(), etcdctl("member list --write-out=table"))}
		switch {
		case m.Expected && !m.Known:
			f.Host, f.What = m.Name, "its etcd member is unknown to the others"
			f.Evidence = "the list of members does not have it: it was removed, or was started anew"
			f.Remedy = e.apply("see what can be done:")
			f.Remedy.Commands = []string{e.slipway("plan")}
		case m.Known && !m.Expected:
			f.What = fmt.Sprintf("etcd has a member %s that is not in the spec", nameOr(m.Name, "without a name"))
			f.Evidence = "it counts for the majority, also while it is gone; ID " + m.ID
			f.Remedy = Remedy{Text: "if its machine is gone for good, remove it:", Commands: []string{e.ssh(e.answering(), etcdctl("member remove "+m.ID))}}
		case m.Learner:
			f.Host, f.What = m.Name, "its etcd member is still a learner"
			f.Evidence = "it has no vote until it was promoted"
			f.Remedy = e.apply("promote it:")
		default:
			continue
		}
		found = append(found, f)
	}
	if len(clusters) > 1 {
		found = append(found, Finding{
			Object: "etcd", What: "etcd's members belong to different clusters", Evidence: fmt.Sprint(clusters),
			More: e.ssh(e.answering(), etcdctl("member list --write-out=table")), Remedy: Remedy{Text: "find out which has the data, and stop the others"},
			hosts: e.controlPlanes(), everywhere: true,
		})
	}
	return found
}

func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return name
}

// findMembersDown is for members that give no answer at all. One that answers without a leader is
// not down.
func findMembersDown(e *Evidence) []Finding {
	var found []Finding
	if !e.Etcd.Asked {
		return nil
	}
	for _, m := range e.Etcd.Members {
		known := m.Known || e.Etcd.Error != ""
		if !m.Expected || !known || m.Cluster != "" || e.hostNamed(m.Name) == nil {
			continue
		}
		evidence := m.Error
		if evidence == "" {
			evidence = e.Etcd.Error
		}
		found = append(found, Finding{
			Host: m.Name, Object: "etcd", What: "its etcd member does not answer", Evidence: evidence,
			More: e.journal(m.Name, "etcd"), Remedy: e.onNode(m.Name, "systemctl restart etcd"),
		})
	}
	return found
}

func findNoQuorum(e *Evidence) []Finding {
	if !e.Etcd.Asked || slices.ContainsFunc(e.Etcd.Members, func(m Member) bool { return m.Answers }) {
		return nil
	}
	var gone, alive []string
	for _, m := range e.Etcd.Members {
		if m.Cluster == "" {
			gone = append(gone, m.Name)
		} else {
			alive = append(alive, m.Name)
		}
	}
	evidence := fmt.Sprintf("%d of %d members answer", len(alive), len(e.Etcd.Members))
	if len(gone) > 0 {
		evidence += ", not " + some(gone)
	}
	if e.Etcd.Error != "" {
		evidence += ": " + e.Etcd.Error
	}
	return []Finding{{
		Object: "etcd", What: "etcd has no leader: the API cannot read or write", Evidence: shortened(evidence, maxLine),
		More:   e.ssh(e.answering(), etcdctl("endpoint status --cluster --write-out=table")),
		Remedy: Remedy{Text: "bring back members until a majority runs (" + strings.Join(gone, ", ") + ")"},
		hosts:  e.controlPlanes(), everywhere: true,
	}}
}

func findSlowEtcd(e *Evidence) []Finding {
	var found []Finding
	for _, m := range e.Etcd.Members {
		if m.Fsync < slowFsync && m.Commit < slowCommit {
			continue
		}
		found = append(found, Finding{
			Host: m.Name, Object: "etcd", What: "its etcd member has a disk that is too slow",
			Evidence: fmt.Sprintf("an fsync takes %s and a commit %s on average; %s of leader", m.Fsync.Round(time.Millisecond), m.Commit.Round(time.Millisecond),
				count(m.LeaderChanges, "change")),
			More:   e.ssh(m.Name, "journalctl -u etcd -n 200 --no-pager | grep -i slow"),
			Remedy: Remedy{Text: "give /var/lib/etcd a disk of its own, with 10 ms at most for an fsync"},
		})
	}
	return found
}

func findLittleSpace(e *Evidence) []Finding {
	var found []Finding
	for _, m := range e.Etcd.Members {
		if m.Quota == 0 || m.DBSize*100 < m.Quota*littleSpace || slices.Contains(m.Alarms, etcd.NoSpace) {
			continue
		}
		found = append(found, Finding{
			Host: m.Name, Object: "etcd", What: "its etcd database is close to its quota", Evidence: fmt.Sprintf("%s of %s", bytesText(m.DBSize), bytesText(m.Quota)),
			More:   e.ssh(m.Name, etcdctl("endpoint status --cluster --write-out=table")),
			Remedy: e.onNode(e.answering(), etcdctl("--command-timeout=60s defrag --cluster")),
		})
	}
	return found
}
