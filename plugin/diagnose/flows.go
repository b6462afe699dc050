package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

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
			d := draft{evidence: []string{flowText(f)}}
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
				d.kind, d.subject = FlowToGoneEndpoint, to.String()
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
