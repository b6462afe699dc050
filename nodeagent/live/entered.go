//go:build linux

package live

import (
	"context"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// entered is a namespace that the thread is moved into before each question.
type entered struct {
	n     *Node
	id    string
	fd    int
	label string
	ns    *Namespace
}

var _ node.Namespace = (*entered)(nil)

// Links asks the namespace.
func (e *entered) Links(ctx context.Context) ([]node.Link, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.Links(ctx)
}

// Addresses asks the namespace.
func (e *entered) Addresses(ctx context.Context) ([]node.Address, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.Addresses(ctx)
}

// DevicePrograms asks the namespace.
func (e *entered) DevicePrograms(ctx context.Context, index int, egress bool) ([]string, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.DevicePrograms(ctx, index, egress)
}

// IPsec asks the namespace.
func (e *entered) IPsec(ctx context.Context) (*node.IPsecPolicies, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.IPsec(ctx)
}

// SocketPrograms asks about this process, in whatever namespace.
func (e *entered) SocketPrograms(ctx context.Context, do node.SocketDoes, f skb.Family, proto uint8) ([]string, error) {
	return e.ns.SocketPrograms(ctx, do, f, proto)
}

// WireGuard asks the namespace.
func (e *entered) WireGuard(ctx context.Context, link int) (node.WireGuardDevice, error) {
	if err := e.n.enter(e.id); err != nil {
		return node.WireGuardDevice{}, err
	}
	return e.ns.WireGuard(ctx, link)
}

// Neighbours asks the namespace.
func (e *entered) Neighbours(ctx context.Context) ([]node.Neighbour, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.Neighbours(ctx)
}

// BridgePort asks the namespace.
func (e *entered) BridgePort(ctx context.Context, bridge int, hw []byte) (string, error) {
	if err := e.n.enter(e.id); err != nil {
		return "", err
	}
	return e.ns.BridgePort(ctx, bridge, hw)
}

// Route asks the namespace.
func (e *entered) Route(ctx context.Context, q node.RouteQuery) (node.Route, error) {
	if err := e.n.enter(e.id); err != nil {
		return node.Route{}, err
	}
	return e.ns.Route(ctx, q)
}

// AddrType asks the namespace.
func (e *entered) AddrType(ctx context.Context, a netip.Addr, dev string) (node.RouteType, error) {
	if err := e.n.enter(e.id); err != nil {
		return 0, err
	}
	return e.ns.AddrType(ctx, a, dev)
}

// Lookup asks the namespace.
func (e *entered) Lookup(ctx context.Context, t skb.Tuple, zone uint16) (*skb.Conn, bool, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, false, err
	}
	return e.ns.Lookup(ctx, t, zone)
}

// Sysctl asks the namespace.
func (e *entered) Sysctl(ctx context.Context, name string) (string, error) {
	if err := e.n.enter(e.id); err != nil {
		return "", err
	}
	return e.ns.Sysctl(ctx, name)
}

// LegacyTables asks the namespace.
func (e *entered) LegacyTables(ctx context.Context, f skb.Family) ([]string, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.LegacyTables(ctx, f)
}

// LegacyTable asks the namespace.
func (e *entered) LegacyTable(ctx context.Context, f skb.Family, table string) ([]byte, []byte, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, nil, err
	}
	return e.ns.LegacyTable(ctx, f, table)
}

// NFTTables asks the namespace.
func (e *entered) NFTTables(ctx context.Context) ([]node.NFTObject, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTTables(ctx)
}

// NFTChains asks the namespace.
func (e *entered) NFTChains(ctx context.Context) ([]node.NFTObject, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTChains(ctx)
}

// NFTBaseChains asks the namespace.
func (e *entered) NFTBaseChains(ctx context.Context, f node.NFTFamily) ([]node.NFTObject, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTBaseChains(ctx, f)
}

// NFTChain asks the namespace.
func (e *entered) NFTChain(ctx context.Context, f node.NFTFamily, table, chain string) (node.NFTObject, error) {
	if err := e.n.enter(e.id); err != nil {
		return node.NFTObject{}, err
	}
	return e.ns.NFTChain(ctx, f, table, chain)
}

// NFTRules asks the namespace.
func (e *entered) NFTRules(ctx context.Context, f node.NFTFamily, table, chain string) ([][]byte, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTRules(ctx, f, table, chain)
}

// NFTRulesFor asks the namespace.
func (e *entered) NFTRulesFor(ctx context.Context, f node.NFTFamily, table, chain string, misses func([]byte) bool) (node.NFTRules, error) {
	if err := e.n.enter(e.id); err != nil {
		return node.NFTRules{}, err
	}
	return e.ns.NFTRulesFor(ctx, f, table, chain, misses)
}

// NFTSet asks the namespace.
func (e *entered) NFTSet(ctx context.Context, f node.NFTFamily, table, set string) ([]byte, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTSet(ctx, f, table, set)
}

// NFTElement asks the namespace.
func (e *entered) NFTElement(ctx context.Context, f node.NFTFamily, table, set string, key []byte) ([]byte, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTElement(ctx, f, table, set, key)
}

// NFTElements asks the namespace.
func (e *entered) NFTElements(ctx context.Context, f node.NFTFamily, table, set string) ([][]byte, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTElements(ctx, f, table, set)
}

// NFTObject asks the namespace.
func (e *entered) NFTObject(ctx context.Context, f node.NFTFamily, table, name string, typ uint32) ([]byte, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTObject(ctx, f, table, name, typ)
}

// NFTGeneration asks the namespace.
func (e *entered) NFTGeneration(ctx context.Context) (uint32, error) {
	if err := e.n.enter(e.id); err != nil {
		return 0, err
	}
	return e.ns.NFTGeneration(ctx)
}

// Recent asks the namespace.
func (e *entered) Recent(ctx context.Context, list string, f skb.Family) ([]node.RecentEntry, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.Recent(ctx, list, f)
}

// IPSetName asks the namespace.
func (e *entered) IPSetName(ctx context.Context, index uint16) (string, error) {
	if err := e.n.enter(e.id); err != nil {
		return "", err
	}
	return e.ns.IPSetName(ctx, index)
}

// IPSet asks the namespace.
func (e *entered) IPSet(ctx context.Context, name string) (node.IPSet, error) {
	if err := e.n.enter(e.id); err != nil {
		return node.IPSet{}, err
	}
	return e.ns.IPSet(ctx, name)
}

// IPSetTest asks the namespace.
func (e *entered) IPSetTest(ctx context.Context, name string, family skb.Family, data []byte) (bool, error) {
	if err := e.n.enter(e.id); err != nil {
		return false, err
	}
	return e.ns.IPSetTest(ctx, name, family, data)
}

// IPSetMembers asks the namespace.
func (e *entered) IPSetMembers(ctx context.Context, name string) ([]string, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.IPSetMembers(ctx, name)
}

// Listening asks the namespace.
func (e *entered) Listening(ctx context.Context, proto uint8, dst netip.AddrPort) ([]node.Socket, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.Listening(ctx, proto, dst)
}

// OnPort asks the namespace.
func (e *entered) OnPort(ctx context.Context, proto uint8, f skb.Family, port uint16) ([]node.Socket, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.OnPort(ctx, proto, f, port)
}

// ListenCounters asks the namespace.
func (e *entered) ListenCounters(ctx context.Context) (node.ListenCounters, error) {
	if err := e.n.enter(e.id); err != nil {
		return node.ListenCounters{}, err
	}
	return e.ns.ListenCounters(ctx)
}

// Account asks the namespace.
func (e *entered) Account(ctx context.Context, name string) (xtables.Account, error) {
	if err := e.n.enter(e.id); err != nil {
		return xtables.Account{}, err
	}
	return e.ns.Account(ctx, name)
}

// SourceRules asks the namespace.
func (e *entered) SourceRules(ctx context.Context, ipv6 bool) (bool, error) {
	if err := e.n.enter(e.id); err != nil {
		return false, err
	}
	return e.ns.SourceRules(ctx, ipv6)
}

// FIBLookup asks the namespace.
func (e *entered) FIBLookup(ctx context.Context, q node.FIBQuery) (node.Route, error) {
	if err := e.n.enter(e.id); err != nil {
		return node.Route{}, err
	}
	return e.ns.FIBLookup(ctx, q)
}

// NFTObjects asks the namespace.
func (e *entered) NFTObjects(ctx context.Context) ([]node.NFTObject, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.NFTObjects(ctx)
}

// TunnelRemote asks the namespace.
func (e *entered) TunnelRemote(ctx context.Context, link int, hw []byte) (netip.Addr, uint16, error) {
	if err := e.n.enter(e.id); err != nil {
		return netip.Addr{}, 0, err
	}
	return e.ns.TunnelRemote(ctx, link, hw)
}

// VirtualServer asks the namespace.
func (e *entered) VirtualServer(ctx context.Context, proto uint8, dst netip.AddrPort, mark uint32) (bool, error) {
	if err := e.n.enter(e.id); err != nil {
		return false, err
	}
	return e.ns.VirtualServer(ctx, proto, dst, mark)
}

// RealServer asks the namespace.
func (e *entered) RealServer(ctx context.Context, proto uint8, src netip.AddrPort) (bool, error) {
	if err := e.n.enter(e.id); err != nil {
		return false, err
	}
	return e.ns.RealServer(ctx, proto, src)
}

// Hooks asks the namespace.
func (e *entered) Hooks(ctx context.Context, f node.NFTFamily) ([][]node.HookFunction, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.Hooks(ctx, f)
}

// DeviceHooks asks the namespace.
func (e *entered) DeviceHooks(ctx context.Context, index int, egress bool) ([]node.HookFunction, error) {
	if err := e.n.enter(e.id); err != nil {
		return nil, err
	}
	return e.ns.DeviceHooks(ctx, index, egress)
}

// SameHooks asks the namespace.
func (e *entered) SameHooks(ctx context.Context) (bool, error) {
	if err := e.n.enter(e.id); err != nil {
		return false, err
	}
	return e.ns.SameHooks(ctx)
}
