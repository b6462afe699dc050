package facts

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// listeners finds the processes that listen on the node ports.
func (c *collector) listeners() error {
	for _, p := range c.q.NodePorts {
		proto, err := skb.ParseProto(p.Protocol)
		if err != nil {
			return err
		}
		seen := map[uint64]bool{}
		for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
			socks, err := c.m.OnPort(c.ctx, proto, f, p.Port)
			if err != nil {
				return err
			}
			for _, s := range socks {
				if !seen[s.Inode] {
					seen[s.Inode] = true
					c.out.Listeners = append(c.out.Listeners, wire.Listener{Port: p, Address: s.Local, Process: c.m.ServedBy(s.Inode)})
				}
			}
		}
	}
	return nil
}

// maxFlows bounds the flows to other ports that are listed.
const maxFlows = 16

// otherPorts lists flows to the Service's addresses at ports that the Service does not have.
func (c *collector) otherPorts(flow func(*skb.Conn) wire.Flow) error {
	for _, a := range bounded(slices.Clone(c.q.Addresses)) {
		for _, proto := range []uint8{skb.TCP, skb.UDP} {
			kept, total := len(c.out.OtherPorts), c.out.OtherPortsTotal
			reset := func() { c.out.OtherPorts, c.out.OtherPortsTotal = c.out.OtherPorts[:kept], total }
			err := c.m.To(c.ctx, proto, netip.AddrPortFrom(a, 0), reset, func(x *skb.Conn) error {
				f := flow(x)
				if slices.Contains(c.q.Ports, wire.Port{Protocol: f.Protocol, Port: f.Destination.Port()}) {
					return nil
				}
				c.out.OtherPortsTotal++
				if len(c.out.OtherPorts) < maxFlows {
					c.out.OtherPorts = append(c.out.OtherPorts, f)
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("flows to %s: %w", a, err)
			}
		}
	}
	return nil
}
