package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: a node whose rules differ while those of its peers agree.
var (
	KubeProxyStale = Kind{
		ID: "kube-proxy-stale", Severity: Error, Title: "kube-proxy stale",
		Means: "One node's rules for the Service are not what the API asks for, while those of the other nodes are. kube-proxy runs there and calls itself " +
			"well: it has missed a change, or its rules were changed behind its back.",
		Proven:     "The walks of all surveyed nodes are compared: only this node's differ, and its kube-proxy answers.",
		Fix:        "restart kube-proxy on the node: it then reads everything again and writes its rules anew",
		Explains:   ruleDifferences,
		References: []string{"kubernetes/kubernetes#28674", "kubernetes/kubernetes#38372", "kubernetes/kubernetes#51445", "kubernetes/kubernetes#67875", "kubernetes/kubernetes#76338"},
	}
	StaleNodeRules = Kind{
		ID: "stale-node-rules", Severity: Error, Title: "stale node rules",
		Means: "One node's rules for the Service are not what the API asks for, while those of the other nodes are. Whether a kube-proxy runs there could not be " +
			"told.",
		Proven:     "The walks of all surveyed nodes are compared: only this node's differ.",
		Fix:        "see whether kube-proxy on the node runs and syncs (its log, :10256/healthz), and restart it",
		Explains:   ruleDifferences,
		References: []string{"kubernetes/kubernetes#28674"},
	}
)

func staleFamily() Family {
	return Family{Name: "A node unlike its peers", Kinds: []Kind{KubeProxyStale, StaleNodeRules}}
}

// staleKinds are what old rules show by.
var staleKinds = []string{
	"no-translation", "endpoint-missing-in-kernel", "endpoint-not-in-api", "rejected-though-endpoints", "not-rejected",
}

// checkPeers compares the nodes: it runs when everything else has been found. What a cause on the node explains already does
// not count.
func checkPeers(s *scene, l *ledger) {
	differs := func(node string) []*Finding {
		var out []*Finding
		for _, f := range l.findings {
			if slices.Contains(staleKinds, f.ID) && slices.Contains(f.Nodes, node) && !l.explained(f, node) {
				out = append(out, f)
			}
		}
		return out
	}
	var agree, apart []*survey.Node
	for _, n := range s.nodes {
		switch {
		case len(n.Walks) == 0:
		case len(differs(n.Name)) > 0:
			apart = append(apart, n)
		default:
			agree = append(agree, n)
		}
	}
	if len(agree) == 0 {
		return
	}
	for _, n := range apart {
		found := differs(n.Name)
		d := draft{kind: StaleNodeRules, sentence: fmt.Sprintf("%s, while %s", found[0].Sentence, peersAgree(agree))}
		if n.Facts != nil && n.Facts.KubeProxy.Runs() {
			d.kind = KubeProxyStale
			d.evidence = append(proxyWords(n.Facts), missingChains(n.Facts)...)
		}
		for _, f := range found {
			d.evidence = append(d.evidence, f.Evidence...)
		}
		l.add(n.Name, d)
	}
}

// explained reports whether some cause that was found on the node explains a finding.
func (l *ledger) explained(f *Finding, node string) bool {
	return slices.ContainsFunc(l.findings, func(c *Finding) bool {
		return c.ID != f.ID && slices.Contains(c.Explains, f.ID) && (len(c.Nodes) == 0 || slices.Contains(c.Nodes, node)) &&
			(c.About == nil || slices.Contains(c.About, f.Subject))
	})
}

func peersAgree(agree []*survey.Node) string {
	if len(agree) == 1 {
		return "the rules of " + agree[0].Name + " are right"
	}
	return fmt.Sprintf("the rules of the other %d nodes are right", len(agree))
}

// proxyWords is what kube-proxy says about itself, as evidence.
func proxyWords(a *wire.FactsAnswer) []Evidence {
	var out []Evidence
	if a.KubeProxy.Health.Status != 0 {
		out = append(out, value("kube-proxy healthz", a.KubeProxy.Health.Status, "kube-proxy's %s/healthz: %d", a.KubeProxy.Health.Address, a.KubeProxy.Health.Status))
	}
	for _, t := range a.KubeProxy.Sync {
		if t.Queued > 0 && t.Queued <= t.Last {
			out = append(out, said("%s", strings.TrimSpace(t.Family+" rules were last written after the last change, as it says")))
		}
	}
	return out
}

// missingChains are the Service's own chains that no backend has, for nodes in iptables mode.
func missingChains(a *wire.FactsAnswer) []Evidence {
	if a.KubeProxy.Mode != "iptables" {
		return nil
	}
	has := map[string]bool{}
	for _, c := range a.Chains {
		has[c.Name] = has[c.Name] || c.Present
	}
	var out []Evidence
	for _, c := range a.Chains {
		if text := "chain " + c.Name + " is not there"; strings.HasPrefix(c.Name, "KUBE-SVC-") && !has[c.Name] && !slices.ContainsFunc(out, func(e Evidence) bool { return e.Text == text }) {
			out = append(out, said("%s", text))
		}
	}
	return out
}
