package diagnose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: the node's routing decision stops the packet, or sends it another way.
var (
	IPForwardOff = Kind{
		ID: "ip-forward-off", Severity: Error, Title: "forwarding off",
		Means:      "The node does not forward packets from one interface to another. Pods on it reach nothing but the node itself, and nobody reaches its pods.",
		Proven:     "The parameter net.ipv4.ip_forward (or the interface's own forwarding, or net.ipv6.conf.all.forwarding) is 0; the walk's routing decision drops the packet.",
		Fix:        "sysctl -w net.ipv4.ip_forward=1, and find what set it to 0: a file in /etc/sysctl.d that a hardening profile brought is usual",
		Explains:   also(foreignDifferences, "no-route-to-endpoint", "no-translation"),
		References: []string{"kubernetes/kubernetes#84254", "cilium/pwru#416"},
	}
	ReversePathDrop = Kind{
		ID: "rp-filter-drop", Severity: Error, Title: "reverse path filter",
		Means: "The kernel drops packets whose sender it would answer by another interface (rp_filter). It says nothing but a line about martians, if that is on. Nodes " +
			"with several interfaces or with routes by source meet it.",
		Proven:     "The way back to the source is looked up; the larger of the parameters of all interfaces and of this one is not 0, and the ways differ.",
		Fix:        "sysctl -w net.ipv4.conf.INTERFACE.rp_filter=2 (loose), and the same for all; or make the routes symmetric",
		Explains:   also(foreignDifferences, "no-translation"),
		References: []string{"cilium/cilium#19761", "cloudnativelabs/kube-router#812"},
	}
	NoRouteToEndpoint = Kind{
		ID: "no-route-to-endpoint", Severity: Error, Title: "no route",
		Means: "The node translates to an endpoint that it has no route to: the pods of the endpoint's node are not known there. The network plugin on one of the two " +
			"nodes has failed, or the node has lost a route.",
		Proven:     "The kernel's own route lookup refuses the endpoint's address.",
		Fix:        "see the network plugin's pod on both nodes (kubectl -n kube-system get pods -o wide), and ip route get ENDPOINT on the node",
		Explains:   also(foreignDifferences, "no-translation"),
		References: []string{"flannel-io/flannel#535"},
	}
	SourceRoutedBeforeDNAT = Kind{
		ID: "source-routed-before-dnat", Severity: Error, Title: "routed before DNAT",
		Means: "A process on the node connects to the Service's address, and the kernel chooses the way and the source address before any rule translates. Without " +
			"a route to that address the connection fails at once; with one by another interface it leaves with a source that the endpoint cannot answer.",
		Proven:     "The kernel's route to the Service's address is compared with its route to the endpoint.",
		Fix:        "add a route for the Services' range by the interface that reaches the pods: ip route add SERVICE-RANGE dev INTERFACE src NODE-ADDRESS",
		Explains:   []string{"rejected-though-endpoints", "dropped-though-endpoints", "no-translation", "walk-failed"},
		References: []string{"kubernetes/kubernetes#63479"},
	}
)

func forwardingFamily() Family {
	return Family{Name: "Routing", Kinds: []Kind{IPForwardOff, ReversePathDrop, NoRouteToEndpoint, SourceRoutedBeforeDNAT}, check: func(s *scene, l *ledger) {
		name := func(e branchEnd) {
			if d, ok := routedAway(e); ok {
				l.addSeen(e.node.Name, e.client.Name, d, e.place)
			}
		}
		s.wrongEnds(name)
		s.lostReplies(name)
		s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
			for _, f := range s.families() {
				checkForwarding(s, l, n, a, f)
			}
			checkSources(n, a, l)
		})
	}}
}

// routedAway names what a routing decision ended a branch for.
func routedAway(e branchEnd) (draft, bool) {
	h := e.stopper()
	if !e.ended() || h == nil || h.Hook != "route" {
		return draft{}, false
	}
	d := draft{evidence: []Evidence{routing(h)}}
	translated := e.out.Destination != e.walk.Destination
	switch {
	case strings.Contains(h.Says, "forwarding is 0"):
		d.kind, d.subject = IPForwardOff, string(e.walk.Path.Family)
		d.sentence = "the node does not forward packets: " + h.Says
	case strings.Contains(h.Says, "rp_filter is"):
		d.kind, d.subject = ReversePathDrop, string(e.walk.Path.Family)
		d.sentence = "the node drops packets by their source: " + h.Says
	case e.reply:
		return draft{}, false
	case strings.Contains(h.Says, "before any rule is asked"):
		d.kind, d.subject = SourceRoutedBeforeDNAT, e.walk.Destination.Addr().String()
		d.sentence = fmt.Sprintf("the node has no route to %s, and its own connections need one before they are translated", e.walk.Destination.Addr())
	case translated && h.Action != "drop" || translated && strings.Contains(h.Says, "blackhole"):
		d.kind, d.subject = NoRouteToEndpoint, e.out.Destination.Addr().String()
		d.sentence = fmt.Sprintf("the node has no way to endpoint %s", e.out.Destination)
		d.evidence = append(d.evidence, refusedRoute(e)...)
	default:
		return draft{}, false
	}
	return d, true
}

// parameter is a kernel parameter in what the kernel's decision is explained by.
var parameter = regexp.MustCompile(`(net\.[a-z0-9_.:@-]+) is (-?[0-9]+)`)

// routing is a routing decision as evidence, with the parameter that decided.
func routing(h *trace.Hop) Evidence {
	e := value("route", h.Action, "%s", strings.TrimSuffix("route: "+h.Action+": "+h.Says, ": "))
	if m := parameter.FindStringSubmatch(h.Says); m != nil {
		e.Value, e.Sysctl = nil, &wire.Sysctl{Name: m[1], Value: m[2]}
	}
	return e
}

func refusedRoute(e branchEnd) []Evidence {
	if e.node.Facts == nil {
		return nil
	}
	for _, r := range e.node.Facts.Routes {
		if r.To == e.out.Destination.Addr() && r.Refused != "" {
			return []Evidence{routeOf(r, fmt.Sprintf("ip route get %s: %s", r.To, r.Refused))}
		}
	}
	return nil
}

// checkForwarding reports the parameter itself, also where no walk had to be forwarded.
func checkForwarding(s *scene, l *ledger, n *survey.Node, a *wire.FactsAnswer, f intent.Family) {
	name := "net/ipv4/ip_forward"
	if f == intent.IPv6 {
		name = "net/ipv6/conf/all/forwarding"
	}
	if v, ok := a.Sysctl(name); !ok || v != "0" {
		return
	}
	l.add(n.Name, draft{kind: IPForwardOff, subject: string(f), evidence: []Evidence{sysctlOf(a, name)},
		sentence: "the node does not forward packets: " + sysctlText(a, name)})
}

// checkSources compares the way to the Service's address, by which the source is chosen, with the way to the endpoint.
func checkSources(n *survey.Node, a *wire.FactsAnswer, l *ledger) {
	for i := range n.Walks {
		w := &n.Walks[i]
		if w.Client.Kind != intent.FromNode || w.Path.Kind == intent.NodePort {
			continue
		}
		if w.Trace == nil {
			checkStart(n, a, w, l)
			continue
		}
		vip, ok := routeTo(a, w.Destination.Addr().String())
		if !ok {
			continue
		}
		for k := range w.Trace.Outcomes {
			o := &w.Trace.Outcomes[k]
			ep, ok := routeTo(a, o.Destination.Addr().String())
			if !ok || o.Verdict != trace.Forwarded || o.Masqueraded || o.Source.Addr() != vip.Source || ep.Source == vip.Source || ep.Out == vip.Out || !leaves(a, ep) {
				continue
			}
			l.add(n.Name, draft{kind: SourceRoutedBeforeDNAT, severity: Warning, subject: o.Destination.String(),
				sentence: fmt.Sprintf("the node's own connections to %s go to the endpoint with the source %s of %s, and leave by %s", w.Destination.Addr(), vip.Source, vip.Out, ep.Out),
				evidence: []Evidence{routeOf(vip, routeText(vip)), routeOf(ep, routeText(ep))}}, Place{Path: w.Path, Client: w.Client.Kind})
		}
	}
}

// checkStart reports a walk that could not start because the kernel has no way to the Service's address: so could no process.
func checkStart(n *survey.Node, a *wire.FactsAnswer, w *survey.Walk, l *ledger) {
	for _, r := range a.Routes {
		if r.To == w.Destination.Addr() && r.Refused != "" {
			l.add(n.Name, draft{kind: SourceRoutedBeforeDNAT, subject: r.To.String(), evidence: []Evidence{routeOf(r, fmt.Sprintf("ip route get %s: %s", r.To, r.Refused))},
				sentence: fmt.Sprintf("the node has no route to %s, and its own connections need one before any rule is asked", r.To)}, Place{Path: w.Path, Client: w.Client.Kind})
		}
	}
}

// leaves reports whether a route goes by a gateway on one of the node's networks. What stays on the node, or goes by a tunnel,
// is answered at any of the node's addresses.
func leaves(a *wire.FactsAnswer, r wire.Route) bool {
	return r.Gateway.IsValid() && !slices.ContainsFunc(a.Links, func(l wire.Link) bool {
		return l.Name == r.Out && (l.Overhead > 0 || l.Kind == "bridge" || l.Kind == "wireguard")
	})
}

func routeTo(a *wire.FactsAnswer, to string) (wire.Route, bool) {
	i := slices.IndexFunc(a.Routes, func(r wire.Route) bool { return r.To.String() == to && r.Refused == "" })
	if i < 0 {
		return wire.Route{}, false
	}
	return a.Routes[i], true
}

func routeText(r wire.Route) string {
	via := ""
	if r.Gateway.IsValid() {
		via = " via " + r.Gateway.String()
	}
	return fmt.Sprintf("%s%s dev %s src %s", r.To, via, r.Out, r.Source)
}
