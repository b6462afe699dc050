package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: connection tracking, without which nothing is translated.
var (
	ConntrackFull = Kind{
		ID: "conntrack-full", Severity: Error, Title: "conntrack full",
		Means: "The node's table of connections is full. Packets that would open one more are dropped until entries expire: connections of all kinds fail at random, " +
			"to Services and from the node itself.",
		Proven:     "The table holds as many entries as it may.",
		Fix:        "raise net.netfilter.nf_conntrack_max (kube-proxy's conntrack.maxPerCore and min), and look for who opens so many: conntrack -L",
		Explains:   []string{"conntrack-nearly-full", "kube-proxy-not-syncing", "walk-failed"},
		References: []string{"kubernetes/kubernetes#71261", "kubernetes/kubernetes#18604", "kubernetes/kubernetes#97377"},
	}
	ConntrackNearlyFull = Kind{
		ID: "conntrack-nearly-full", Severity: Warning, Title: "conntrack nearly full",
		Means:      "The node's table of connections is at nine tenths of its size. When it is full, packets that would open one more are dropped.",
		Proven:     "The number of entries is compared with the most that there may be.",
		Fix:        "raise net.netfilter.nf_conntrack_max (kube-proxy's conntrack.maxPerCore and min), and look for who opens so many: conntrack -L",
		References: []string{"kubernetes/kubernetes#71261"},
	}
	ConntrackInsertFailed = Kind{
		ID: "conntrack-insert-failed", Severity: Info, Title: "conntrack races",
		Means: "Packets were dropped because two of them raced for the same entry, or no free source port was found. Two DNS queries from one socket (A and AAAA) are " +
			"the usual case: the client waits 5 s and asks again.",
		Proven:     "The counter insert_failed of connection tracking, as in conntrack -S, since the node started.",
		Fix:        "for DNS: a cache on each node (NodeLocal DNSCache), or single-request-reopen in the pods' resolv.conf",
		References: []string{"kubernetes/kubernetes#56903", "weaveworks/weave#3287"},
	}
	InvalidDrop = Kind{
		ID: "invalid-drop", Severity: Info, Title: "invalid packets dropped",
		Means: "kube-proxy's rule in FORWARD drops packets that connection tracking calls invalid, such as those outside the TCP window or of connections it does not " +
			"know. Few are normal; many mean connections that hang or are reset halfway, mostly because answers take another way.",
		Proven:     "The parameter net.netfilter.nf_conntrack_tcp_be_liberal is 0, and the counter of the rule in KUBE-FORWARD is not.",
		Fix:        "set kube-proxy's conntrack.tcpBeLiberal, or sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1, and restart kube-proxy; find out whether answers pass the node",
		References: []string{"kubernetes/kubernetes#74839", "kubernetes/kubernetes#117924", "kubernetes/kubernetes#94861"},
	}
	NotrackOnPath = Kind{
		ID: "notrack-on-path", Severity: Error, Title: "NOTRACK on the path",
		Means: "A rule takes the Service's packets out of connection tracking before they are translated, and what is not tracked is not translated. A DNS cache on the " +
			"node does so for the address that it serves itself; where that cache is gone, nobody answers.",
		Proven:     "The walk passes a rule with NOTRACK and is not translated.",
		Fix:        "if NodeLocal DNSCache was removed, remove its rules in the raw table too; else take the Service's address out of the rule",
		Explains:   []string{"no-translation", "flow-untranslated", "not-rejected"},
		References: []string{"kubernetes/kubernetes#98758", "projectcalico/calico#3795", "rancher/rke#2093"},
	}
)

func conntrackFamily() Family {
	return Family{Name: "Connection tracking", Kinds: []Kind{ConntrackFull, ConntrackNearlyFull, ConntrackInsertFailed, InvalidDrop, NotrackOnPath},
		check: func(s *scene, l *ledger) {
			for _, n := range s.nodes {
				checkFill(n, l)
			}
			s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
				checkInsert(n, a, l)
				checkInvalid(n, a, l)
			})
			s.wrongEnds(func(e branchEnd) { checkNotrack(e, l) })
		}}
}

func checkFill(n *survey.Node, l *ledger) {
	count, most := n.Describe.ConntrackCount, n.Describe.ConntrackMax
	d := draft{evidence: []Evidence{value("nf_conntrack_count", count, "nf_conntrack_count is %d, nf_conntrack_max %d", count, most)}}
	drops := n.Facts != nil && n.Facts.Conntrack.Drop+n.Facts.Conntrack.EarlyDrop > 0
	if drops {
		d.evidence = append(d.evidence, value("conntrack drop", n.Facts.Conntrack.Drop, "conntrack -S: drop %d, early_drop %d", n.Facts.Conntrack.Drop, n.Facts.Conntrack.EarlyDrop))
	}
	switch {
	case most <= 0 || count*10 < most*9:
		return
	case count >= most, drops && count*100 >= most*99: // entries expire while they are counted
		d.kind, d.sentence = ConntrackFull, fmt.Sprintf("the node's table of connections is full (%d of %d): new connections are dropped at random", count, most)
	default:
		d.kind, d.sentence = ConntrackNearlyFull, fmt.Sprintf("the node's table of connections is nearly full: %d of %d", count, most)
	}
	l.add(n.Name, d)
}

// manyFailures is from where on lost races are worth knowing, and manyInvalid dropped packets. A node that has run for weeks
// shows some without anybody noticing.
const (
	manyFailures = 100
	manyInvalid  = 100
)

func checkInsert(n *survey.Node, a *wire.FactsAnswer, l *ledger) {
	failed := a.Conntrack.InsertFailed
	if failed < manyFailures {
		return
	}
	d := draft{kind: ConntrackInsertFailed, evidence: []Evidence{value("conntrack insert_failed", failed, "conntrack -S: insert_failed %d", failed)},
		sentence: fmt.Sprintf("%d packets were dropped on the node since it started because their connection tracking entry could not be inserted", failed)}
	l.add(n.Name, d)
}

func checkInvalid(n *survey.Node, a *wire.FactsAnswer, l *ledger) {
	const name = "net/netfilter/nf_conntrack_tcp_be_liberal"
	if v, ok := a.Sysctl(name); !ok || v != "0" {
		return
	}
	for _, c := range a.Chains {
		if c.Name != "KUBE-FORWARD" {
			continue
		}
		for _, r := range c.Rules {
			if r.Packets < manyInvalid || !strings.Contains(r.Text, "INVALID") || !strings.HasSuffix(r.Text, "DROP") {
				continue
			}
			d := draft{kind: InvalidDrop, subject: c.Family, evidence: []Evidence{chainRule(c, r), sysctlOf(a, name)},
				sentence: fmt.Sprintf("kube-proxy's rule against invalid packets has dropped %d on the node", r.Packets)}
			l.add(n.Name, d)
		}
	}
}

// chainRule is a rule that no packet was walked through.
func chainRule(c wire.Chain, r wire.ChainRule) Evidence {
	e := said("%s (handle %d, %d packets so far)", r.Text, r.Handle, r.Packets)
	e.Rule = &RuleEvidence{Table: c.Table, Chain: c.Name, Rule: &trace.Rule{Handle: r.Handle, Text: r.Text, Packets: &r.Packets}}
	return e
}

func checkNotrack(e branchEnd, l *ledger) {
	if e.out.Destination != e.walk.Destination || !slices.Contains([]trace.Verdict{trace.Forwarded, trace.Local, trace.Dropped, trace.Rejected}, e.out.Verdict) {
		return
	}
	e.passed(func(h *trace.Hop) {
		if h.Rule == nil || !strings.Contains(strings.ToLower(h.Action+" "+h.Rule.Text), "notrack") {
			return
		}
		l.addSeen(cmp.Or(h.Node, e.node.Name), e.client.Name, draft{kind: NotrackOnPath, evidence: []Evidence{counted(h)},
			sentence: fmt.Sprintf("a rule in table %s keeps the Service's packets out of connection tracking, so that they are not translated", h.Table)}, e.place)
	})
}
