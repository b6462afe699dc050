package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	ConfigUnapplied = Kind{
		ID: "kube-proxy-config-unapplied", Severity: Warning, Title: "configuration not applied",
		Means: "kube-proxy on the node runs with other settings than the ConfigMap kube-system/kube-proxy has: it reads them when it starts, and was not restarted " +
			"since they were changed, or is not started from them at all. Nodes then behave differently.",
		Proven: "The ConfigMap's mode and clusterCIDR are compared with what kube-proxy on the node says itself (/proxyMode, /configz).",
		Fix:    "restart kube-proxy: kubectl -n kube-system rollout restart daemonset kube-proxy",
	}
	NodePortAddressesExclude = Kind{
		ID: "node-port-addresses-exclude", Severity: Warning, Title: "no node port at this address",
		Means: "kube-proxy on the node is set to serve node ports at some of the node's addresses only, and the node's own address in the API is not among them. " +
			"Clients that connect to the node port there are refused or wait.",
		Proven:     "The nodePortAddresses that kube-proxy itself tells (/configz) do not hold the node's address, and the walk to the node port there is not translated.",
		Fix:        "add the node's range to nodePortAddresses in kube-proxy's configuration and restart it, or connect to an address that serves node ports",
		Explains:   []string{"no-translation", "rejected-though-endpoints", "dropped-though-endpoints", "not-rejected", "not-dropped", "kube-proxy-stale", "stale-node-rules"},
		References: []string{"k0sproject/k0s#5760"},
	}
)

func proxyConfigFamily() Family {
	return Family{Name: "kube-proxy's settings", Kinds: []Kind{HostNameMismatch, WrongClusterCIDR, ConfigUnapplied, NodePortAddressesExclude}, check: func(s *scene, l *ledger) {
		checkHostName(s, l)
		s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
			checkApplied(s, l, n, a)
			checkNodePortAddresses(s, l, n, a)
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

// checkApplied compares what the API has with what runs.
func checkApplied(s *scene, l *ledger, n *survey.Node, a *wire.FactsAnswer) {
	c := s.api.Proxy
	if c == nil || !a.KubeProxy.Runs() {
		return
	}
	differs := func(name, path, written, running string) {
		l.add(n.Name, draft{kind: ConfigUnapplied, subject: name,
			sentence: fmt.Sprintf("kube-proxy on the node runs with %s %s, and its ConfigMap says %s", name, running, written),
			evidence: []Evidence{
				field("ConfigMap", "kube-system", "kube-proxy", "data[config.conf]."+path, written, "ConfigMap kube-system/kube-proxy: %s: %s", path, written),
				value("kube-proxy "+name, running, "kube-proxy on the node says: %s %s", name, running),
			}})
	}
	if k := a.KubeProxy.Mode; k != "" && k != c.Mode {
		differs("mode", "mode", c.Mode, k)
	}
	if k := a.KubeProxy.Config; k != nil && c.ClusterCIDR != "" && len(k.ClusterCIDR) > 0 && !samePrefixes(c.ClusterCIDR, k.ClusterCIDR) {
		differs("clusterCIDR", "clusterCIDR", c.ClusterCIDR, joinPrefixes(k.ClusterCIDR))
	}
}

// samePrefixes reports whether a list in words is a list of prefixes, in whatever order. What is no prefix is the same.
func samePrefixes(words string, list []netip.Prefix) bool {
	var written []netip.Prefix
	for w := range strings.SplitSeq(words, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(w))
		if err != nil {
			return true
		}
		written = append(written, p.Masked())
	}
	return len(written) == len(list) && !slices.ContainsFunc(written, func(p netip.Prefix) bool { return !slices.Contains(list, p) })
}

// checkNodePortAddresses looks at walks to the node port that are not translated, where the setting says why.
func checkNodePortAddresses(s *scene, l *ledger, n *survey.Node, a *wire.FactsAnswer) {
	k := a.KubeProxy.Config
	if k == nil || len(k.NodePortAddresses) == 0 {
		return
	}
	var ranges []netip.Prefix
	for _, r := range k.NodePortAddresses {
		p, err := netip.ParsePrefix(r)
		if err != nil {
			return // a word: primary holds the node's address
		}
		ranges = append(ranges, p)
	}
	for i := range n.Walks {
		w := &n.Walks[i]
		to := w.Destination.Addr().Unmap()
		family := slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return intent.FamilyOf(p.Addr()) == w.Path.Family })
		if w.Path.Kind != intent.NodePort || !family || slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(to) }) || !s.differs(n, w) {
			continue
		}
		l.add(n.Name, draft{kind: NodePortAddressesExclude, subject: to.String(),
			sentence: fmt.Sprintf("the node serves no node port at %s: kube-proxy's nodePortAddresses are %s", to, joinPrefixes(ranges)),
			evidence: []Evidence{value("kube-proxy nodePortAddresses", joinPrefixes(ranges), "kube-proxy's nodePortAddresses: %s", joinPrefixes(ranges))},
		}, Place{Path: w.Path, Client: w.Client.Kind})
	}
}
