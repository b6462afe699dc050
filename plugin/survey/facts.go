package survey

import (
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// factsRequest asks a node for everything that the Service has to do with there.
func factsRequest(m *intent.Model) *wire.FactsRequest {
	r := &wire.FactsRequest{Chains: m.ServiceChains()}
	for _, p := range m.Paths {
		if p.Kind == intent.NodePort {
			r.NodePorts = append(r.NodePorts, wire.Port{Protocol: p.Protocol, Port: p.Port})
			continue
		}
		if p.Kind == intent.ClusterIP {
			r.Addresses = append(r.Addresses, p.Address)
			r.Ports = append(r.Ports, wire.Port{Protocol: p.Protocol, Port: p.Port})
		}
	}
	var eps []netip.Addr
	for _, e := range m.Endpoints() {
		eps = append(eps, e.Address.Addr())
	}
	r.Addresses = unique(r.Addresses, netip.Addr.Compare)
	r.Endpoints = unique(eps, netip.Addr.Compare)
	r.Ports = unique(r.Ports, comparePorts)
	r.NodePorts = unique(r.NodePorts, comparePorts)
	return r
}

// recent is how old a change may be, in seconds, that kube-proxy is just writing.
const recent = 10

// Writing reports whether kube-proxy on the node says that a change came a moment ago that it has not written yet.
func (n *Node) Writing() bool {
	return n.Facts != nil && slices.ContainsFunc(n.Facts.KubeProxy.Sync, func(s wire.Sync) bool {
		return s.Queued > s.Last && s.QueuedAge < recent
	})
}

func comparePorts(a, b wire.Port) int {
	if a.Protocol != b.Protocol {
		return order(a.Protocol < b.Protocol)
	}
	return int(a.Port) - int(b.Port)
}

func order(less bool) int {
	if less {
		return -1
	}
	return 1
}

func unique[T comparable](s []T, compare func(a, b T) int) []T {
	slices.SortFunc(s, compare)
	return slices.Compact(s)
}
