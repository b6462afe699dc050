package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: settings of kube-proxy that do not fit its node or the cluster.
var (
	HostNameMismatch = Kind{
		ID: "host-name-mismatch", Severity: Error, Title: "wrong node name",
		Means: "kube-proxy on the node goes by another name than the Node object. It takes no endpoint for its own, so that the traffic policy Local finds none " +
			"there: clients are dropped on the very node that runs the pod.",
		Proven:     "The API has a usable endpoint on the node, a policy Local should send to it, and the walk is dropped for want of a local endpoint.",
		Fix:        "set kube-proxy's hostnameOverride to the Node's name, or start it with --hostname-override=$(NODE_NAME)",
		Explains:   []string{"dropped-though-endpoints", "rejected-though-endpoints", "endpoint-missing-in-kernel", "no-translation", "kube-proxy-stale", "stale-node-rules"},
		References: []string{"weaveworks/weave#3568"},
	}
	WrongClusterCIDR = Kind{
		ID: "wrong-cluster-cidr", Severity: Warning, Title: "wrong cluster CIDR",
		Means: "kube-proxy's clusterCIDR is not the range of the pods' addresses. Too wide, clients from outside that use a ClusterIP are not masqueraded and get " +
			"answers past the node; too narrow, every pod loses its address on the way to a Service.",
		Proven:     "The clusterCIDR that kube-proxy itself tells (/configz) is compared with the pod ranges and addresses of the Nodes.",
		Fix:        "set clusterCIDR in kube-proxy's configuration to the range that all the nodes' pod ranges are taken from, and restart it",
		Explains:   []string{"not-masqueraded", "source-lost"},
		References: []string{"kubernetes/kubernetes#36835", "kubernetes/kubernetes#124587", "kubernetes/kops#4674"},
	}
)

func proxyConfigFamily() Family {
	return Family{Name: "kube-proxy's settings", Kinds: []Kind{HostNameMismatch, WrongClusterCIDR}, check: func(s *scene, l *ledger) {
		checkHostName(s, l)
		s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
			if c := a.KubeProxy.Config; c != nil {
				for _, f := range s.families() {
					checkClusterCIDR(s.model, l, n, c, f)
				}
			}
		})
	}}
}

// checkHostName looks for walks that a policy Local sends to endpoints of this node, and that are dropped by kube-proxy.
func checkHostName(s *scene, l *ledger) {
	s.wrongEnds(func(e branchEnd) {
		local := e.walk.Path.Kind == intent.ClusterIP && s.model.InternalLocal || e.walk.Path.Kind != intent.ClusterIP && s.model.ExternalLocal
		if !local || e.out.Verdict != trace.Dropped || e.out.Destination != e.walk.Destination || ownerOf(e.last) != kubeProxyName {
			return
		}
		config := (*wire.KubeProxyConfig)(nil)
		if e.node.Facts != nil {
			config = e.node.Facts.KubeProxy.Config
		}
		if config != nil && config.HostnameOverride == e.node.Name {
			return // its name is right: the rules are old, or wrong
		}
		d := draft{kind: HostNameMismatch, sentence: "kube-proxy on the node finds no local endpoint, and the API has one there: it goes by another node name"}
		for _, x := range e.walk.Expect.Shares {
			if x.Endpoint.Node == e.node.Name {
				d.evidence = append(d.evidence, s.endpointField(x.Endpoint, "nodeName", e.node.Name, "endpoint %s has nodeName %s in EndpointSlice %s", endpointName(x.Endpoint), e.node.Name, x.Endpoint.Slice))
			}
		}
		if len(d.evidence) == 0 {
			return
		}
		if config != nil && config.HostnameOverride != "" {
			d.evidence = append(d.evidence, value("kube-proxy hostnameOverride", config.HostnameOverride, "kube-proxy's hostnameOverride is %s", config.HostnameOverride))
		}
		d.evidence = append(d.evidence, endOf(e.walk.Trace, e.out)...)
		l.addSeen(e.node.Name, e.client.Name, d, e.place)
	})
}

func checkClusterCIDR(m *intent.Model, l *ledger, n *survey.Node, c *wire.KubeProxyConfig, f intent.Family) {
	if c.DetectLocalMode != "" && c.DetectLocalMode != "ClusterCIDR" || c.MasqueradeAll {
		return
	}
	i := slices.IndexFunc(c.ClusterCIDR, func(p netip.Prefix) bool { return intent.FamilyOf(p.Addr()) == f })
	if i < 0 {
		return // without a range nothing is masqueraded for it, which some installers choose
	}
	r := c.ClusterCIDR[i]
	d := draft{kind: WrongClusterCIDR, subject: string(f), evidence: []Evidence{value("kube-proxy clusterCIDR", r, "kube-proxy's clusterCIDR is %s", r)}}
	for _, node := range m.Nodes {
		for _, a := range node.Internal {
			if intent.FamilyOf(a) == f && r.Contains(a) {
				d.evidence = append(d.evidence, field("Node", "", node.Name, "status.addresses", a.String(), "node %s has the address %s", node.Name, a))
				d.sentence = fmt.Sprintf("kube-proxy takes hosts for pods: its clusterCIDR %s holds addresses of nodes, so that clients outside the cluster keep their address", r)
			}
		}
		for _, p := range node.PodRanges {
			if intent.FamilyOf(p.Addr()) == f && !(r.Contains(p.Addr()) && p.Bits() >= r.Bits()) {
				d.evidence = append(d.evidence, field("Node", "", node.Name, "spec.podCIDRs", p.String(), "node %s gives its pods addresses of %s", node.Name, p))
				d.sentence = fmt.Sprintf("kube-proxy takes pods for strangers: its clusterCIDR %s does not hold the range %s of %s", r, p, node.Name)
			}
		}
	}
	if d.sentence != "" {
		l.add(n.Name, d)
	}
}
