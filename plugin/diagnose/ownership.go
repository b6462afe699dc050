package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// The kinds of this family: who serves the Service's ports.
var (
	LeftToAnotherProxy = Kind{
		ID: "left-to-another-proxy", Severity: Warning, Title: "not kube-proxy's",
		Means: "A label hands the Service to another proxy than kube-proxy, which leaves it alone. If that proxy does not run, nothing translates the " +
			"Service's addresses.",
		Proven: "The Service has the label service.kubernetes.io/service-proxy-name.",
		Fix:    "see whether the proxy that the label names runs, or remove the label",
	}
	NodePortInEphemeralRange = Kind{
		ID: "node-port-in-ephemeral-range", Severity: Warning, Title: "node port is ephemeral",
		Means: "The node port lies in the range that the node's kernel takes ports for outgoing connections from, and is not reserved. When the node happens " +
			"to use the port itself, answers to it are taken for connections to the Service, and that connection fails.",
		Proven:     "The node port is within net.ipv4.ip_local_port_range of the node and not in net.ipv4.ip_local_reserved_ports.",
		Fix:        "reserve the node ports on every node: sysctl net.ipv4.ip_local_reserved_ports=30000-32767, or move one of the two ranges",
		References: []string{"kubernetes/kubernetes#111682", "kubernetes/kubernetes#111823", "cilium/cilium#10261"},
	}
)

func ownershipFamily() Family {
	return Family{Name: "Who serves the ports", Kinds: []Kind{LeftToAnotherProxy, NodePortInEphemeralRange}, check: checkOwnership}
}

func checkOwnership(s *scene, l *ledger) {
	if p := s.model.OtherProxy; p != "" {
		l.add("", draft{
			kind: LeftToAnotherProxy, evidence: []string{"label service.kubernetes.io/service-proxy-name: " + p},
			sentence: fmt.Sprintf("kube-proxy leaves the Service to a proxy named %q: nothing translates its addresses unless that one runs", p),
		}, s.everyPlace()...)
	}
	for _, n := range s.nodes {
		if n.LocalPorts == nil {
			continue
		}
		for _, path := range s.model.Paths {
			if path.Kind != intent.NodePort || !n.LocalPorts.Ephemeral(path.Port) {
				continue
			}
			l.add(n.Name, draft{
				kind: NodePortInEphemeralRange, subject: fmt.Sprint(path.Port),
				sentence: fmt.Sprintf("node port %d is among the ports %d-%d that the node takes for its own outgoing connections", path.Port, n.LocalPorts.Range.First, n.LocalPorts.Range.Last),
				evidence: []string{
					fmt.Sprintf("net.ipv4.ip_local_port_range = %d %d", n.LocalPorts.Range.First, n.LocalPorts.Range.Last),
					fmt.Sprintf("net.ipv4.ip_local_reserved_ports does not hold %d", path.Port),
				},
			}, Place{Path: path})
		}
	}
}
