package diagnose

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/owner"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// The kinds of this family: rules of somebody else than kube-proxy that stop the packet.
var (
	ForwardPolicyDrop = Kind{
		ID: "forward-policy-drop", Severity: Error, Title: "FORWARD policy",
		Means: "The policy of a FORWARD chain on the node is to drop, and nothing before it accepts traffic between pods. Docker sets this policy when it starts. " +
			"Pods on the node reach no pod of another node, and a node port works only on nodes that run an endpoint.",
		Proven:     "The walk passes all rules of the chain, and the chain's policy drops it.",
		Fix:        "accept the pods' range in FORWARD (iptables -A FORWARD -s POD-RANGE -j ACCEPT, and -d), or set the policy to ACCEPT; then tell the program that sets it",
		Explains:   foreignDifferences,
		References: []string{"kubernetes/kubernetes#39823", "kubernetes/kubernetes#59656", "kubernetes/kubernetes#108718", "rancher/rke#485"},
	}
	ForeignDrop = Kind{
		ID: "foreign-drop", Severity: Error, Title: "foreign drop",
		Means: "A rule that is not kube-proxy's drops connections to the Service on the node: a host firewall, or an operator's own rule. Clients wait until they " +
			"give up. That another table accepts the packet does not help: an accept is final only in its own base chain.",
		Proven:     "The walk ends at the rule, which is named with its handle and its owner, as far as names tell.",
		Fix:        "let the firewall accept traffic from and to the pods' range, or put the pods' interfaces into its trusted zone",
		Explains:   foreignDifferences,
		References: []string{"flannel-io/flannel#2055", "firewalld/firewalld#527", "projectcalico/calico#4927"},
	}
	ForeignReject = Kind{
		ID: "foreign-reject", Severity: Error, Title: "foreign reject",
		Means:      "A rule that is not kube-proxy's rejects connections to the Service on the node: a host firewall, or an operator's own rule. Clients are refused at once.",
		Proven:     "The walk ends at the rule, which is named with its handle and its owner, as far as names tell.",
		Fix:        "let the firewall accept traffic from and to the pods' range, or put the pods' interfaces into its trusted zone",
		Explains:   foreignDifferences,
		References: []string{"firewalld/firewalld#527", "k0sproject/k0s#2117", "rancher/rancher#28840"},
	}
	NetworkPolicyDrop = Kind{
		ID: "network-policy-drop", Severity: Warning, Title: "network policy",
		Means: "A rule that carries out a NetworkPolicy stops the client. If the policy means to, all is well; often it does not know the address that the packet " +
			"has after a masquerade.",
		Proven:     "The walk ends at a rule in a chain of the program that carries out policies.",
		Fix:        "see kubectl get networkpolicies in the endpoints' namespace, and whether one of them lets the client in; externalTrafficPolicy Local keeps outside clients' addresses",
		Explains:   foreignDifferences,
		References: []string{"projectcalico/calico#2088", "projectcalico/calico#2660", "k0sproject/k0s#2849"},
	}
)

func firewallFamily() Family {
	return Family{Name: "Firewalls", Kinds: []Kind{ForwardPolicyDrop, ForeignDrop, ForeignReject, NetworkPolicyDrop}, check: func(s *scene, l *ledger) {
		name := func(e branchEnd) {
			if d, ok := foreignEnd(e); ok {
				l.addSeen(e.node.Name, e.client.Name, d, e.place)
			}
		}
		s.wrongEnds(name)
		s.lostReplies(name)
	}}
}

const kubeProxyName = owner.KubeProxy

// ownerOf guesses whose rule or chain a hop is.
func ownerOf(h *trace.Hop) string {
	if h == nil {
		return ""
	}
	return owner.Of(h.Table, h.Chain)
}

// stopper is the hop that ended a branch: its last one, or the rule before a mere remark.
func (e branchEnd) stopper() *trace.Hop {
	for i := len(e.out.Path) - 1; i >= 0; i-- {
		h := hopAt(e.trace, e.out.Path[i])
		if h == nil || h.Table != "" || h.Hook == "route" {
			return h
		}
	}
	return nil
}

// foreignEnd names the rule or policy of somebody else that ends a branch.
func foreignEnd(e branchEnd) (draft, bool) {
	h := e.stopper()
	if !e.ended() || h == nil || h.Table == "" {
		return draft{}, false
	}
	by := ownerOf(h)
	if by == kubeProxyName {
		return draft{}, false
	}
	policy := h.Rule == nil && strings.HasPrefix(h.Action, "policy")
	d := draft{subject: h.Table + " " + h.Chain, evidence: append([]Evidence{counted(h)}, saidAll(e.out.Conditions)...)}
	whose := "a rule in"
	if by != "" {
		whose = "a rule of " + by + " in"
	}
	switch {
	case policy && h.Hook == "forward":
		d.kind = ForwardPolicyDrop
		d.sentence = fmt.Sprintf("the policy of chain %s in table %s drops what no rule accepts, and no rule accepts traffic of the Service", h.Chain, h.Table)
	case owner.CarriesOutPolicies(by):
		d.kind = NetworkPolicyDrop
		d.sentence = fmt.Sprintf("%s, which carries out network policies, stops the client in chain %s of table %s", by, h.Chain, h.Table)
	case e.out.Verdict == trace.Rejected:
		d.kind = ForeignReject
		d.sentence = fmt.Sprintf("%s chain %s of table %s rejects connections to the Service", whose, h.Chain, h.Table)
	case policy:
		d.kind = ForeignDrop
		d.sentence = fmt.Sprintf("the policy of chain %s in table %s drops connections to the Service", h.Chain, h.Table)
	default:
		d.kind = ForeignDrop
		d.sentence = fmt.Sprintf("%s chain %s of table %s drops connections to the Service", whose, h.Chain, h.Table)
	}
	if len(e.out.Conditions) > 0 {
		d.severity = Warning
	}
	if policy && e.node.Facts != nil {
		for _, o := range e.node.Facts.Owners {
			d.evidence = append(d.evidence, value("rules of "+o.Name, o.Shown, "%s has rules on the node (%s)", o.Name, o.Shown))
		}
	}
	return d, true
}
