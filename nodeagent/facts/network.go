package facts

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// maxAsked bounds how many addresses are looked up for one request.
const maxAsked = 64

// links lists the interfaces that belong to no pod, and what tunnels add to a packet.
func (c *collector) links() error {
	links, err := c.m.Links(c.ctx)
	if err != nil {
		return err
	}
	addrs, err := c.m.Addresses(c.ctx)
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Loopback() || l.Kind == "veth" && l.PeerNamespace >= 0 && l.Master != 0 {
			continue
		}
		x := wire.Link{Name: l.Name, Kind: l.Kind, Up: l.Up(), MTU: l.MTU}
		if m := byIndex(links, l.Master); m != nil {
			x.Master = m.Name
		}
		if l.Tunnel != nil {
			x.Overhead = l.Tunnel.Overhead(l.Kind, l.Tunnel.Local.Is6() || l.Tunnel.Remote.Is6())
			if o := withAddress(links, addrs, l.Tunnel.Local); o != nil {
				x.Outer, x.OuterMTU = o.Name, o.MTU
			}
			if x.ChecksumOffload, err = c.m.ChecksumOffload(c.ctx, l.Name); err != nil && !errors.Is(err, node.ErrNotSupported) {
				return err
			}
		}
		c.out.Links = append(c.out.Links, x)
	}
	return nil
}

func byIndex(links []node.Link, index int) *node.Link {
	i := slices.IndexFunc(links, func(l node.Link) bool { return l.Index == index })
	if index == 0 || i < 0 {
		return nil
	}
	return &links[i]
}

func withAddress(links []node.Link, addrs []node.Address, a netip.Addr) *node.Link {
	for _, x := range addrs {
		if a.IsValid() && x.Prefix.Addr().Unmap() == a.Unmap() {
			return byIndex(links, x.Link)
		}
	}
	return nil
}

// routes looks up the node's own way to each address.
func (c *collector) routes() error {
	for _, a := range bounded(append(slices.Clone(c.q.Addresses), c.q.Endpoints...)) {
		r, err := c.m.Route(c.ctx, node.RouteQuery{Dst: a})
		var refused *node.RouteError
		switch {
		case errors.As(err, &refused):
			c.out.Routes = append(c.out.Routes, wire.Route{To: a, Refused: refused.Errno})
		case err != nil:
			return err
		default:
			c.out.Routes = append(c.out.Routes, wire.Route{To: a, Out: r.Out, Gateway: r.Gateway, Source: r.PrefSrc, MTU: r.MTU})
		}
	}
	return nil
}

func bounded(addrs []netip.Addr) []netip.Addr {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	return addrs[:min(len(addrs), maxAsked)]
}

// attached finds the endpoints behind ports of this node's bridges, by the neighbour and forwarding tables. An endpoint
// that nobody has talked to lately is in neither, and is left out.
func (c *collector) attached() error {
	links, err := c.m.Links(c.ctx)
	if err != nil {
		return err
	}
	var near []node.Neighbour
	for _, a := range bounded(slices.Clone(c.q.Endpoints)) {
		r, err := c.m.Route(c.ctx, node.RouteQuery{Dst: a})
		if err != nil || r.Gateway.IsValid() || r.Type != node.RouteUnicast {
			continue // the routes part says why
		}
		i := slices.IndexFunc(links, func(l node.Link) bool { return l.Name == r.Out && l.Kind == "bridge" })
		if i < 0 {
			continue
		}
		if near == nil {
			if near, err = c.m.Neighbours(c.ctx); err != nil {
				return err
			}
		}
		if err := c.attach(links, links[i], near, a); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) attach(links []node.Link, bridge node.Link, near []node.Neighbour, a netip.Addr) error {
	i := slices.IndexFunc(near, func(n node.Neighbour) bool { return n.Addr == a && n.Link == bridge.Index })
	if i < 0 {
		return nil
	}
	port, err := c.m.BridgePort(c.ctx, bridge.Index, near[i].HardwareAddr)
	if err != nil || port == "" {
		return err
	}
	k := slices.IndexFunc(links, func(l node.Link) bool { return l.Name == port })
	if k < 0 {
		return nil
	}
	name, own := "net/bridge/bridge-nf-call-iptables", bridge.CallIPTables
	if a.Is6() {
		name, own = "net/bridge/bridge-nf-call-ip6tables", bridge.CallIP6Tables
	}
	calls, err := c.m.Sysctl(c.ctx, name)
	if err != nil && !errors.Is(err, node.ErrNotFound) {
		return err
	}
	c.out.Attached = append(c.out.Attached, wire.Attached{
		Endpoint: a, Bridge: bridge.Name, Port: port, Hairpin: links[k].Hairpin,
		CallsIP: err == nil && (calls != "0" || own),
	})
	return nil
}
