package survey

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
)

// plan lists the walks of a node: each access path from each of the clients that start there, with what ought to happen.
func plan(m *intent.Model, n *Node, clients []intent.Client) []Walk {
	var out []Walk
	for _, p := range m.Paths {
		dst, ok := p.Destination(n.Node)
		if !ok {
			continue
		}
		mode := ModeOf(n.Describe, p.Family)
		for _, c := range clients {
			if !speaks(c, n.Node, p.Family) {
				continue
			}
			out = append(out, Walk{Path: p, Client: c, Mode: mode, Destination: dst, Expect: m.Expect(p, c, n.Node, mode)})
		}
	}
	return out
}

// speaks reports whether a client has an address of a family.
func speaks(c intent.Client, n intent.Node, f intent.Family) bool {
	if c.Source.IsValid() {
		return intent.FamilyOf(c.Source) == f
	}
	_, ok := n.Address(f)
	return ok
}

// ModeOf is the mode of the kube-proxy that is active for a family; UnknownMode when none is.
func ModeOf(d wire.DescribeAnswer, f intent.Family) intent.Mode {
	for _, p := range d.Dataplanes {
		if p.Name != "kube-proxy" || !p.Active || p.Family != string(f) {
			continue
		}
		switch {
		case strings.HasPrefix(p.Mode, "iptables"):
			return intent.IPTables
		case strings.HasPrefix(p.Mode, "nftables"):
			return intent.NFTables
		case strings.HasPrefix(p.Mode, "ipvs"):
			return intent.IPVS
		}
	}
	return intent.UnknownMode
}

// start is the packet of a walk. A packet from outside comes in by the interface that has the node's address: a route back
// to a documentation address says nothing about where clients come from.
func start(n *Node, w *Walk) journey.Start {
	s := journey.Start{Client: w.Client, Protocol: w.Path.Protocol, Destination: w.Destination}
	if w.Client.Kind == intent.FromOutside {
		if a, ok := n.Address(w.Path.Family); ok {
			s.In = interfaceOf(n.Describe, a)
		}
	}
	return s
}

// interfaceOf names the interface that has an address; empty when none has it.
func interfaceOf(d wire.DescribeAnswer, a netip.Addr) string {
	for _, i := range d.Interfaces {
		for _, p := range i.Addresses {
			if p.Addr().Unmap() == a {
				return i.Name
			}
		}
	}
	return ""
}

// flowRequests asks for the flows to every virtual address, and to the nodePort at every address of the node, by protocol.
func flowRequests(m *intent.Model, n *Node) []*wire.FlowsRequest {
	by := map[string][]netip.AddrPort{}
	for _, p := range m.Paths {
		if p.Kind != intent.NodePort {
			by[p.Protocol] = append(by[p.Protocol], netip.AddrPortFrom(p.Address, p.Port))
			continue
		}
		for _, i := range n.Describe.Interfaces {
			for _, a := range i.Addresses {
				if addr := a.Addr().Unmap(); intent.FamilyOf(addr) == p.Family {
					by[p.Protocol] = append(by[p.Protocol], netip.AddrPortFrom(addr, p.Port))
				}
			}
		}
	}
	var out []*wire.FlowsRequest
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		dst := by[proto]
		if len(dst) == 0 {
			continue
		}
		slices.SortFunc(dst, netip.AddrPort.Compare)
		out = append(out, &wire.FlowsRequest{Protocol: proto, Destinations: slices.Compact(dst)})
	}
	return out
}

// FlowsOf picks the flows of a node that belong to an access path.
func (n *Node) FlowsOf(p intent.AccessPath) []wire.Flow {
	var out []wire.Flow
	for _, f := range n.Flows {
		if f.Protocol != p.Protocol || f.Destination.Port() != p.Port || intent.FamilyOf(f.Destination.Addr()) != p.Family {
			continue
		}
		if p.Kind == intent.NodePort && interfaceOf(n.Describe, f.Destination.Addr()) == "" {
			continue
		}
		if p.Kind != intent.NodePort && f.Destination.Addr().Unmap() != p.Address {
			continue
		}
		out = append(out, f)
	}
	return out
}

func sortFlows(f []wire.Flow) {
	slices.SortFunc(f, func(a, b wire.Flow) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), a.Destination.Compare(b.Destination), a.Source.Compare(b.Source))
	})
}
