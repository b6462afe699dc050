package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: which rules of kube-proxy are in the kernel.
var (
	TwoModesAtOnce = Kind{
		ID: "two-modes-at-once", Severity: Warning, Title: "two modes at once",
		Means: "Rules of two of kube-proxy's modes are in force on the node: those of the mode that runs, and those that another one left behind. The old ones " +
			"keep translating and rejecting as of the day they were left.",
		Proven:     "Base chains of the kernel reach the rules of both.",
		Fix:        "reboot the node, or run the old mode's kube-proxy once with --cleanup",
		Explains:   also(ruleDifferences, "undetermined", "stopped-after-translation"),
		References: []string{"kubernetes/kubernetes#102314", "kubernetes/kubernetes#109286", "kubernetes/kubernetes#119265"},
	}
	TwoIPTablesBackends = Kind{
		ID: "two-iptables-backends", Severity: Warning, Title: "two iptables backends",
		Means: "kube-proxy's rules are in both of iptables' backends, legacy and nft, and the kernel asks both. Only one is kept; the other sends traffic to " +
			"pods of long ago.",
		Proven:     "The kernel's built-in chains of both backends jump to KUBE-SERVICES.",
		Fix:        "flush the backend that kube-proxy does not use (iptables-legacy or iptables-nft: -t nat -F and -t filter -F), or reboot the node",
		Explains:   also(ruleDifferences, "undetermined", "stopped-after-translation"),
		References: []string{"kubernetes/kubernetes#109811", "kubernetes/kubernetes#107965", "kubernetes/kubernetes#71305"},
	}
	LeftoverRules = Kind{
		ID: "leftover-rules", Severity: Info, Title: "leftover rules",
		Means:      "Chains that another mode or backend of kube-proxy left are on the node. Nothing reaches them, so they do no harm, but they mislead who reads them.",
		Proven:     "The chains are there, and no base chain jumps to them.",
		Fix:        "nothing has to be done; a reboot, or kube-proxy --cleanup of the old mode, removes them",
		References: []string{"kubernetes/kubernetes#78421"},
	}
	WrongMode = Kind{
		ID: "wrong-mode", Severity: Error, Title: "wrong mode",
		Means:      "kube-proxy on the node says that it runs in one mode, and the rules in force are those of another.",
		Proven:     "Its /proxyMode is compared with the rules that base chains of the kernel reach.",
		Fix:        "restart kube-proxy on the node so that it writes its rules again, and remove the others (reboot, or --cleanup of the old mode)",
		Explains:   also(ruleDifferences, "flushed-rules", "kube-proxy-stale"),
		References: []string{"kubernetes/kubernetes#109286"},
	}
	FlushedRules = Kind{
		ID: "flushed-rules", Severity: Error, Title: "rules flushed",
		Means: "Rules that kube-proxy wrote are gone: another program flushed a table, usually a firewall that was reloaded. kube-proxy notices only if its canary " +
			"chain in the mangle table is gone too; until then nothing is translated.",
		Proven:     "kube-proxy runs on the node, and chains that it always has are missing, empty, or no longer reached from the kernel's base chains.",
		Fix:        "restart kube-proxy on the node; then find out what flushes the table (firewalld reload, iptables-restore at boot)",
		Explains:   also(ruleDifferences, "kube-proxy-stale", "stale-node-rules", "leftover-rules", "stopped-after-translation"),
		References: []string{"rancher/rke2#10469", "k3s-io/k3s#7542", "kubernetes/kubernetes#81517"},
	}
)

func proxyRulesFamily() Family {
	return Family{Name: "kube-proxy's rules", Kinds: []Kind{WrongMode, TwoModesAtOnce, TwoIPTablesBackends, FlushedRules, LeftoverRules}, check: checkProxyRules}
}

func checkProxyRules(s *scene, l *ledger) {
	for _, n := range s.nodes {
		for _, f := range s.families() {
			checkDataplanes(s, l, n, f)
		}
	}
	s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
		if a.KubeProxy.Runs() && !unread(a, "nftables chains") && !unread(a, "legacy iptables chains") {
			for _, f := range s.families() {
				checkFlushed(l, n, a, f)
			}
		}
	})
}

// baseMode is the mode without the backend: iptables, nftables, ipvs.
func baseMode(mode string) string {
	m, _, _ := strings.Cut(mode, " ")
	return m
}

func checkDataplanes(s *scene, l *ledger, n *survey.Node, f intent.Family) {
	var active, idle []wire.Dataplane
	for _, d := range n.Describe.Dataplanes {
		switch {
		case d.Name != "kube-proxy" || d.Family != string(f):
		case d.Active:
			active = append(active, d)
		default:
			idle = append(idle, d)
		}
	}
	mode := ""
	if n.Facts != nil {
		mode = n.Facts.KubeProxy.Mode
	}
	evidence := func(ds []wire.Dataplane) []Evidence {
		var out []Evidence
		for _, d := range ds {
			out = append(out, value("rules of mode "+d.Mode, d.Evidence, "%s: %s", d.Mode, d.Evidence))
		}
		if mode != "" {
			out = append(out, value("kube-proxy mode", mode, "kube-proxy says that its mode is %s", mode))
		}
		return out
	}
	modes := map[string]bool{}
	for _, d := range active {
		modes[baseMode(d.Mode)] = true
	}
	switch {
	case len(active) > 0 && mode != "" && !modes[mode]:
		l.add(n.Name, draft{kind: WrongMode, subject: string(f), evidence: evidence(active),
			sentence: fmt.Sprintf("kube-proxy runs in %s mode, and the rules in force for %s are those of %s", mode, f, active[0].Mode)})
	case len(modes) > 1:
		l.add(n.Name, draft{kind: TwoModesAtOnce, subject: string(f), evidence: evidence(active),
			sentence: fmt.Sprintf("rules of kube-proxy's modes %s and %s are in force for %s at once", active[0].Mode, active[len(active)-1].Mode, f)})
	case len(active) > 1:
		l.add(n.Name, draft{kind: TwoIPTablesBackends, subject: string(f), evidence: evidence(active),
			sentence: fmt.Sprintf("kube-proxy's rules for %s are in force in two backends of iptables at once", f)})
	}
	if len(idle) > 0 && len(active) > 0 {
		l.add(n.Name, draft{kind: LeftoverRules, subject: string(f), evidence: evidence(idle),
			sentence: fmt.Sprintf("chains of kube-proxy in %s are on the node that nothing reaches", idle[0].Mode)})
	}
}

// checkFlushed looks for chains of the mode that runs which must be there whatever the Services. A chain counts as whole
// when one of iptables' backends has it whole.
func checkFlushed(l *ledger, n *survey.Node, a *wire.FactsAnswer, f intent.Family) {
	mode := a.KubeProxy.Mode
	if mode == "" {
		mode = string(survey.ModeOf(n.Describe, f))
	}
	whole, faults := map[string]bool{}, map[string][]string{}
	var order []string
	for _, c := range a.Chains {
		native := c.Backend == "nftables"
		if c.Family != string(f) || native != (mode == string(intent.NFTables)) || !c.Expected {
			continue
		}
		key := c.Table + " " + c.Name
		if !slices.Contains(order, key) {
			order = append(order, key)
		}
		if fault := faultOf(c); fault != "" {
			faults[key] = append(faults[key], fault)
		} else {
			whole[key] = true
		}
	}
	if mode != string(intent.NFTables) && mode != string(intent.IPTables) {
		return
	}
	var evidence []Evidence
	for _, key := range order {
		if !whole[key] {
			evidence = append(evidence, value(key, "broken", "%s", likeliest(faults[key])))
		}
	}
	if len(evidence) == 0 {
		return
	}
	for _, c := range a.Chains {
		if mode == string(intent.IPTables) && c.Name == "KUBE-PROXY-CANARY" && c.Table == "mangle" && c.Family == string(f) && c.Present {
			evidence = append(evidence, said("the canary chain in table mangle is still there: kube-proxy does not notice"))
			break
		}
	}
	l.add(n.Name, draft{kind: FlushedRules, subject: string(f), evidence: evidence,
		sentence: fmt.Sprintf("kube-proxy runs on the node in %s mode, and rules that it has written for %s are gone", mode, f)})
}

// faultOf says what is wrong with a chain, and "" when nothing is.
func faultOf(c wire.Chain) string {
	where := fmt.Sprintf("chain %s in table %s (%s, %s)", c.Name, c.Table, c.Family, c.Backend)
	switch {
	case !c.Present:
		return where + " is missing"
	case len(c.NotFrom) > 0:
		return fmt.Sprintf("%s is not reached from %s", where, strings.Join(c.NotFrom, ", "))
	}
	return ""
}

// likeliest picks among the faults of one chain in two backends: where it is there at all, kube-proxy wrote it.
func likeliest(faults []string) string {
	i := slices.IndexFunc(faults, func(f string) bool { return !strings.HasSuffix(f, "is missing") })
	return faults[max(i, 0)]
}
