package command

import (
	"context"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// flowGroup are destinations that one walk of the kernel through its table of flows finds.
type flowGroup struct {
	addresses []netip.Addr
	port      uint16
}

// flowGroups sorts destinations into as few walks as they need. The kernel can be asked for one IPv4 address, or for a
// port of any address: a port of the node's own addresses (a nodePort) is one that few other flows go to. IPv6 addresses
// it cannot be asked for at all, so that those with one port go together.
func flowGroups(ctx context.Context, types node.AddrTyper, destinations []netip.AddrPort) ([]flowGroup, error) {
	type key struct {
		together netip.Addr // the zero address for all of a family
		is6      bool
		port     uint16
	}
	var out []flowGroup
	at := map[key]int{}
	for _, d := range destinations {
		a := d.Addr().Unmap()
		k := key{a, a.Is6(), d.Port()}
		typ, err := types.AddrType(ctx, a, "")
		if err != nil {
			return nil, err
		}
		if a.Is6() || typ == node.RouteLocal {
			k.together = netip.Addr{}
		}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k], out = i, append(out, flowGroup{port: d.Port()})
		}
		out[i].addresses = append(out[i].addresses, a)
	}
	return out, nil
}
