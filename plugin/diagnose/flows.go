package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: connections that exist already.
var (
	StaleUDPConntrack = Kind{
		ID: "stale-udp-conntrack", Severity: Error, Title: "stale UDP flow",
		Means: "A live UDP flow of the Service goes to an address that is no endpoint any more. Each packet of the client renews the entry, so that it never recovers " +
			"by itself. New clients are well.",
		Proven:     "The node's connection tracking holds a flow to the Service's address whose replies would come from an address that stands in no EndpointSlice.",
		Fix:        "delete the entry on the node: conntrack -D -p udp --orig-dst ADDRESS; releases of kube-proxy before 1.37 leave it when a Service has no endpoint left",
		References: []string{"kubernetes/kubernetes#125467", "kubernetes/kubernetes#19029", "kubernetes/kubernetes#139628"},
	}
	StaleTCPConntrack = Kind{
		ID: "stale-tcp-conntrack", Severity: Warning, Title: "stale TCP flow",
		Means: "A live TCP connection of the Service goes to an address that is no endpoint any more: the pod is gone without having closed it. Its client waits until " +
			"the kernel gives up, after a quarter of an hour. New connections are well.",
		Proven:     "The node's connection tracking holds an open flow to the Service's address whose replies would come from an address that stands in no EndpointSlice.",
		Fix:        "the client must connect again; keep-alive messages let it notice within seconds",
		References: []string{"kubernetes/kubernetes#124290", "kubernetes/kubernetes#104098", "kubernetes/kubernetes#100698"},
	}
	FlowUntranslated = Kind{
		ID: "flow-untranslated", Severity: Warning, Title: "untranslated flow",
		Means:      "A live flow to the Service's address is not translated: it began before there was a rule, and a flow keeps to what was decided for its first packet.",
		Proven:     "The node's connection tracking holds a flow to the Service's address whose replies are expected from that same address.",
		Fix:        "the flow began before there was a rule and keeps to that; delete the entry on the node with conntrack -D, or wait until it expires",
		References: []string{"kubernetes/kubernetes#48370", "kubernetes/kubernetes#66651"},
	}
)

func flowFamily() Family {
	return Family{Name: "Live flows", Kinds: []Kind{StaleUDPConntrack, StaleTCPConntrack, FlowUntranslated}, check: func(s *scene, l *ledger) {
		for _, n := range s.nodes {
			checkFlows(s.model, n, l)
		}
	}}
}

// checkFlows looks for live flows that go where no endpoint is. TCP connections that are closing are as they should be.
func checkFlows(m *intent.Model, n *survey.Node, l *ledger) {
	for _, p := range m.Paths {
		if p.Proxied || m.OtherProxy != "" {
			continue
		}
		for _, f := range n.FlowsOf(p) {
			if !open(f) {
				continue
			}
			to := netip.AddrPortFrom(f.ReplySource.Addr().Unmap(), f.ReplySource.Port())
			d := draft{evidence: []Evidence{flowOf(f)}}
			if f.Protocol == "udp" {
				d.severity = Error // each packet of the client renews the entry: it does not heal by itself
			}
			switch _, ok := known(m, p, to); {
			case ok:
				continue
			case to == f.Destination:
				if len(m.Ports[p.PortIndex].Endpoints) == 0 {
					continue // nothing to translate to
				}
				d.kind, d.subject = FlowUntranslated, f.Destination.String()
				d.sentence = fmt.Sprintf("a %s flow to %s is not translated", f.Protocol, f.Destination)
			default:
				d.kind, d.subject = StaleTCPConntrack, to.String()
				if f.Protocol == "udp" {
					d.kind = StaleUDPConntrack
				}
				d.sentence = fmt.Sprintf("a live %s flow goes to %s, which is no endpoint of the Service any more", f.Protocol, to)
			}
			l.add(n.Name, d, Place{Path: p})
		}
	}
}

// open reports whether a flow carries, or tries to carry, new packets of its client.
func open(f wire.Flow) bool {
	switch f.State {
	case "", "ESTABLISHED", "SYN_SENT", "SYN_RECV":
		return true
	}
	return false
}

// flowText is a flow as evidence.
func flowText(f wire.Flow) string {
	state := f.State
	if f.Unreplied {
		state += " [UNREPLIED]"
	}
	more := ""
	if f.AgeSeconds != nil {
		more = fmt.Sprintf(", %ds old", *f.AgeSeconds)
	}
	if f.Zone != 0 {
		more += fmt.Sprintf(", zone %d", f.Zone)
	}
	return fmt.Sprintf("conntrack %s %s: %s -> %s, replies from %s, expires in %ds%s", f.Protocol, state, f.Source, f.Destination, f.ReplySource, f.TimeoutSeconds, more)
}

// FlowsToGone counts the live flows of a node's access path that go to no endpoint of the API.
func FlowsToGone(m *intent.Model, n *survey.Node, p intent.AccessPath) int {
	gone := 0
	for _, f := range n.FlowsOf(p) {
		if _, ok := known(m, p, f.ReplySource); open(f) && !ok {
			gone++
		}
	}
	return gone
}
