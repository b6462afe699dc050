package diagnose

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/owner"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: ports of the node that the Service shares with something else.
var (
	HostPortShadowing = Kind{
		ID: "host-port-shadowing", Severity: Error, Title: "hostPort in front",
		Means: "A pod's hostPort takes the Service's traffic on the node: the CNI plugin's rules stand before kube-proxy's, and have the same port. Clients reach " +
			"that pod instead of the Service.",
		Proven:     "The walk is translated by a rule of the CNI plugin for hostPort.",
		Fix:        "give the pod another hostPort, or the Service another nodePort",
		Explains:   []string{"endpoint-not-in-api", "endpoint-missing-in-kernel", "not-masqueraded", "stopped-after-translation"},
		References: []string{"cloudnativelabs/kube-router#612", "aws/amazon-vpc-cni-k8s#499", "containernetworking/plugins#269"},
	}
	NodePortInUse = Kind{
		ID: "node-port-in-use", Severity: Warning, Title: "node port in use",
		Means: "A process on the node listens on the Service's node port. kube-proxy's rules translate the traffic before it reaches the process, so that the " +
			"process gets none of it; kube-proxy does not say so, for it no longer opens node ports itself.",
		Proven:     "A socket of the node listens on the port.",
		Fix:        "let the process listen on another port, or give the Service another nodePort; the apiserver's --service-node-port-range keeps them apart",
		References: []string{"kubernetes/kubernetes#40920", "kubernetes/kubernetes#100643"},
	}
	NodePortInEphemeralRange = Kind{
		ID: "node-port-in-ephemeral-range", Severity: Warning, Title: "node port in ephemeral range",
		Means: "The node may choose the Service's node port as the source port of its own connections. Answers to such a connection are then taken for connections " +
			"to the Service: now and then an outgoing connection times out.",
		Proven:     "The parameter net.ipv4.ip_local_port_range holds the port, and net.ipv4.ip_local_reserved_ports does not.",
		Fix:        "reserve the node ports: sysctl -w net.ipv4.ip_local_reserved_ports=30000-32767",
		References: []string{"kubernetes/kubernetes#111682", "kubernetes/kubernetes#111823", "cilium/cilium#10261"},
	}
	LocalhostNodePort = Kind{
		ID: "localhost-node-port", Severity: Warning, Title: "node port at localhost",
		Means: "Something on the node connects to the Service's node port at 127.0.0.1, and kube-proxy on this node does not serve node ports there: only iptables " +
			"mode can, over IPv4, unless it is switched off.",
		Proven:     "The node's connection tracking has a flow to 127.0.0.1 at the node port that is not translated.",
		Fix:        "connect to an address of the node instead of 127.0.0.1",
		Explains:   []string{"flow-untranslated"},
		References: []string{"kubernetes/kubernetes#67730", "kubernetes/kubernetes#90236", "k0sproject/k0s#5760"},
	}
	RouteLocalnetOff = Kind{
		ID: "route-localnet-off", Severity: Warning, Title: "route_localnet off",
		Means: "kube-proxy on the node is set to serve node ports at 127.0.0.1, for which it switches route_localnet on when it starts, and something switched it off again. " +
			"Connections to the node port at 127.0.0.1 time out.",
		Proven:     "The parameter net.ipv4.conf.all.route_localnet is 0, kube-proxy runs in iptables mode, and its localhostNodePorts is true.",
		Fix:        "sysctl -w net.ipv4.conf.all.route_localnet=1 (a hardening profile may set it to 0), or set localhostNodePorts to false",
		References: []string{"kubernetes/kubernetes#67730"},
	}
)

func nodePortFamily() Family {
	return Family{Name: "Ports of the node", Kinds: []Kind{HostPortShadowing, NodePortInUse, NodePortInEphemeralRange, LocalhostNodePort, RouteLocalnetOff},
		check: func(s *scene, l *ledger) {
			s.wrongEnds(func(e branchEnd) { checkHostPort(s.model, e, l) })
			for _, n := range s.nodes {
				checkLocalhost(s.model, n, l)
			}
			s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
				checkListeners(s.model, n, a, l)
				checkEphemeral(s.model, n, a, l)
				checkRouteLocalnet(s.model, n, a, l)
			})
		}}
}

func checkHostPort(m *intent.Model, e branchEnd, l *ledger) {
	var by *trace.Hop
	e.passed(func(h *trace.Hop) {
		if h.Rule != nil && ownerOf(h) == owner.Portmap && strings.Contains(h.Action, "dnat") {
			by = h
		}
	})
	if _, ok := known(m, e.walk.Path, e.out.Destination); by == nil || ok {
		return
	}
	l.addSeen(cmp.Or(by.Node, e.node.Name), e.client.Name, draft{kind: HostPortShadowing, subject: e.out.Destination.String(), evidence: []Evidence{counted(by)},
		sentence: fmt.Sprintf("a hostPort takes the traffic of %s: connections go to the pod %s", e.walk.Path, e.out.Destination)}, e.place)
}

func checkListeners(m *intent.Model, n *survey.Node, a *wire.FactsAnswer, l *ledger) {
	for _, x := range a.Listeners {
		if strings.HasSuffix(x.Process, "/kube-proxy") {
			continue
		}
		who := "a process"
		if x.Process != "" {
			who = x.Process
		}
		l.add(n.Name, draft{kind: NodePortInUse, subject: fmt.Sprintf("%s %d", x.Protocol, x.Port.Port),
			sentence: fmt.Sprintf("%s listens on node port %d/%s, and the Service's rules keep its traffic from it", who, x.Port.Port, x.Protocol),
			evidence: []Evidence{value("listener on "+x.Address.String(), who, "listening on %s: %s", x.Address, who)}}, nodePortPlaces(m, x.Port)...)
	}
}

func nodePortPlaces(m *intent.Model, p wire.Port) []Place {
	var out []Place
	for _, path := range m.Paths {
		if path.Kind == intent.NodePort && path.Port == p.Port && path.Protocol == p.Protocol {
			out = append(out, Place{Path: path})
		}
	}
	return out
}

func checkEphemeral(m *intent.Model, n *survey.Node, a *wire.FactsAnswer, l *ledger) {
	const rangeName, reservedName = "net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports"
	v, ok := a.Sysctl(rangeName)
	bounds := strings.Fields(v)
	if !ok || len(bounds) != 2 {
		return
	}
	reserved, _ := a.Sysctl(reservedName)
	for _, p := range m.Paths {
		if p.Kind == intent.NodePort && within(p.Port, bounds[0]+"-"+bounds[1]) && !within(p.Port, reserved) {
			l.add(n.Name, draft{kind: NodePortInEphemeralRange, subject: strconv.Itoa(int(p.Port)),
				sentence: fmt.Sprintf("the node may use node port %d as the source port of its own connections", p.Port),
				evidence: []Evidence{sysctlOf(a, rangeName), sysctlOf(a, reservedName)}}, Place{Path: p})
		}
	}
}

// within reports whether a port is in a list of ports and ranges, as in ip_local_reserved_ports.
func within(port uint16, list string) bool {
	for part := range strings.SplitSeq(list, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(part), "-")
		if !ok {
			to = from
		}
		a, err1 := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		if err1 == nil && err2 == nil && uint64(port) >= a && uint64(port) <= b {
			return true
		}
	}
	return false
}

// checkLocalhost looks for connections to 127.0.0.1 at a node port, and for nothing else: who does not use it needs no advice.
func checkLocalhost(m *intent.Model, n *survey.Node, l *ledger) {
	for _, p := range m.Paths {
		if p.Kind != intent.NodePort {
			continue
		}
		for _, f := range n.Flows {
			if f.Protocol != p.Protocol || f.Destination.Port() != p.Port || !f.Destination.Addr().IsLoopback() || f.ReplySource != f.Destination {
				continue
			}
			l.add(n.Name, draft{kind: LocalhostNodePort, subject: f.Destination.String(), evidence: []Evidence{flowOf(f)},
				sentence: fmt.Sprintf("a process on the node connects to %s, and kube-proxy there (%s) does not serve node ports at localhost", f.Destination, modeWord(n, p.Family))},
				Place{Path: p})
		}
	}
}

func modeWord(n *survey.Node, f intent.Family) string {
	if mode := survey.ModeOf(n.Describe, f); mode != intent.UnknownMode {
		return string(mode) + " mode"
	}
	return "no mode known"
}

func checkRouteLocalnet(m *intent.Model, n *survey.Node, a *wire.FactsAnswer, l *ledger) {
	const name = "net/ipv4/conf/all/route_localnet"
	k := a.KubeProxy
	i := slices.IndexFunc(m.Paths, func(p intent.AccessPath) bool { return p.Kind == intent.NodePort && p.Family == intent.IPv4 })
	if v, ok := a.Sysctl(name); i < 0 || !ok || v != "0" || k.Mode != string(intent.IPTables) || k.Config == nil || !k.Config.LocalhostNodePorts {
		return
	}
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), m.Paths[i].Port)
	l.add(n.Name, draft{kind: RouteLocalnetOff, evidence: []Evidence{sysctlOf(a, name), value("kube-proxy iptables.localhostNodePorts", true, "kube-proxy's iptables.localhostNodePorts is true")},
		sentence: fmt.Sprintf("connections of the node to %s time out: route_localnet was switched off after kube-proxy had switched it on", to)},
		Place{Path: m.Paths[i], Client: intent.FromNode})
}
