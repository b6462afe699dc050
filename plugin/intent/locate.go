package intent

import (
	"net/netip"
	"slices"
)

// NodeWithAddress finds the node that has an address as an InternalIP.
func (m *Model) NodeWithAddress(a netip.Addr) (Node, bool) {
	i := slices.IndexFunc(m.Nodes, func(n Node) bool { return a.IsValid() && slices.Contains(n.Internal, a.Unmap()) })
	if i < 0 {
		return Node{}, false
	}
	return m.Nodes[i], true
}

// NodeOfPod finds the node that runs the pod with an address: as an EndpointSlice says, else by the nodes' pod ranges.
func (m *Model) NodeOfPod(a netip.Addr) (Node, bool) {
	for _, p := range m.Ports {
		for _, e := range p.Endpoints {
			if e.Address.Addr() == a {
				if n, ok := m.Node(e.Node); ok {
					return n, true
				}
			}
		}
	}
	i := slices.IndexFunc(m.Nodes, func(n Node) bool {
		return slices.ContainsFunc(n.PodRanges, func(r netip.Prefix) bool { return r.Contains(a) })
	})
	if i < 0 {
		return Node{}, false
	}
	return m.Nodes[i], true
}
