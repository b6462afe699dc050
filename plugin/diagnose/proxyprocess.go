package diagnose

import (
	"cmp"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: whether kube-proxy runs, and whether it writes its rules.
var (
	KubeProxyDown = Kind{
		ID: "kube-proxy-down", Severity: Error, Title: "kube-proxy down",
		Means: "No kube-proxy runs on the node, and it has rules of one, or other nodes run one. What rules there are stand as they were left: no change " +
			"of the Service or its pods reaches the node any more.",
		Proven:     "No process of that name is on the node, and nothing listens on its health and metrics ports.",
		Fix:        "see why it ended: kubectl -n kube-system logs and describe of the kube-proxy pod on the node, or the log of what embeds it",
		Explains:   also(ruleDifferences, "stale-node-rules", "kube-proxy-stale"),
		References: []string{"kubernetes/kops#17915"},
	}
	KubeProxyNotSyncing = Kind{
		ID: "kube-proxy-not-syncing", Severity: Error, Title: "kube-proxy stuck",
		Means: "kube-proxy runs on the node and does not write its rules: it hangs, or changes have waited for longer than it takes to write them. New " +
			"Services and pods never appear there.",
		Proven:     "Its health endpoint does not answer or says so itself, or its metrics show a change that came after the last successful write and is more than a minute old.",
		Fix:        "read its log, and restart it on the node; a node short of CPU, or another program that holds the xtables lock, are usual reasons",
		Explains:   also(ruleDifferences, "stale-node-rules", "kube-proxy-stale"),
		References: []string{"kubernetes/kubernetes#38372", "kubernetes/kubernetes#48107"},
	}
	RestoreFailures = Kind{
		ID: "restore-failures", Severity: Error, Title: "rules refused",
		Means: "kube-proxy on the node tries to write its rules and the kernel, or the tool that it calls, refuses them. It tries again and again; new Services " +
			"and pods never appear.",
		Proven:     "Its metrics count failed writes, and a change is waiting that came after the last successful one.",
		Fix:        "its log has the tool's message: a kernel module that is missing, rules of another program inside its tables, or versions of iptables that do not agree",
		Explains:   also(ruleDifferences, "kube-proxy-not-syncing", "stale-node-rules", "kube-proxy-stale"),
		References: []string{"kubernetes/kubernetes#80407", "kubernetes/kubernetes#121726", "projectcalico/calico#10538"},
	}
)

func proxyProcessFamily() Family {
	return Family{Name: "kube-proxy itself", Kinds: []Kind{KubeProxyDown, RestoreFailures, KubeProxyNotSyncing}, check: checkProxyProcess}
}

// patience is how old a change may be that kube-proxy has not written, in seconds: twice its syncPeriod, as in its own
// health check. After a failed write a few seconds are enough.
const (
	patience      = 60.0
	failurePeriod = 5.0
)

func checkProxyProcess(s *scene, l *ledger) {
	anywhere := slices.ContainsFunc(s.nodes, func(n *survey.Node) bool { return n.Facts != nil && n.Facts.KubeProxy.Runs() })
	s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
		if unread(a, "kube-proxy's endpoints") {
			return
		}
		switch k := a.KubeProxy; {
		case k.Runs():
			checkSync(s, l, n, k)
		case anywhere || len(n.Describe.Dataplanes) > 0:
			d := draft{kind: KubeProxyDown, evidence: []Evidence{
				value("kube-proxy processes", 0, "no process kube-proxy in the node's network namespace"), said("nothing listens on port 10256 (health) or 10249 (metrics)"),
			}}
			d.sentence = "no kube-proxy runs on the node, and its rules are not what the API asks for"
			if s.works(n) {
				d.severity = Warning
				d.sentence = "no kube-proxy runs on the node: its rules are right as yet, and the next change will not reach it"
			}
			l.add(n.Name, d)
		}
	})
}

func checkSync(s *scene, l *ledger, n *survey.Node, k wire.KubeProxy) {
	severity := Error
	if s.works(n) {
		severity = Warning
	}
	add := func(kind Kind, sentence string, evidence ...Evidence) {
		l.add(n.Name, draft{kind: kind, severity: severity, sentence: sentence, evidence: append(evidence, saidAll(k.Processes)...)})
	}
	for _, e := range []struct {
		name string
		at   wire.Endpoint
	}{{"health", k.Health}, {"metrics", k.Metrics}} {
		if e.at.Listening && e.at.Error != "" {
			add(KubeProxyNotSyncing, "kube-proxy on the node hangs: it listens and does not answer", value("kube-proxy "+e.name, e.at.Error, "its %s endpoint: %s", e.name, e.at.Error))
			return
		}
	}
	for _, t := range k.Sync {
		if t.Queued <= t.Last {
			continue
		}
		waits := said("%s: the last change came %.0f s ago, the last successful write was %.0f s before that", cmp.Or(t.Family, "metrics"), t.QueuedAge, t.Queued-t.Last)
		if t.Last == 0 {
			waits = said("%s: the last change came %.0f s ago, and no write has succeeded", cmp.Or(t.Family, "metrics"), t.QueuedAge)
		}
		switch {
		case k.Failures > 0 && t.QueuedAge > failurePeriod:
			add(RestoreFailures, "kube-proxy on the node cannot write its rules", value("kube-proxy failed writes", k.Failures, "its metrics count %d failed writes", k.Failures), waits)
			return
		case t.QueuedAge > patience:
			add(KubeProxyNotSyncing, "kube-proxy on the node has not written its rules since the last change", waits)
			return
		}
	}
	if k.Health.Status == 503 && !slices.ContainsFunc(k.Sync, func(t wire.Sync) bool { return t.Queued <= t.Last }) {
		add(KubeProxyNotSyncing, "kube-proxy on the node calls itself unhealthy", value("kube-proxy healthz", 503, "%s/healthz: 503", k.Health.Address))
	}
}
