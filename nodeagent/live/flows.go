//go:build linux

package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/cthash"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// From so many entries in a namespace on the table is walked through in kernel memory. It takes some 10 ms to begin with, in
// which the kernel sends some thousand entries, or compares a hundred thousand with its own filter. Then it takes a third of the
// time of that filter, and a twentieth of that of sending.
const (
	manyForPort   = 10_000
	manyForFilter = 100_000
)

// anchors is how many entries are looked at for one that leads to the kernel's table.
const anchors = 64

// FlowsTo calls f for every connection tracking entry whose original destination is one of several addresses of one family,
// of protocol proto; a port of 0 means any port. It returns how they were chosen. What f gets the kernel said by netlink.
func (n *Namespace) FlowsTo(ctx context.Context, proto uint8, dst []netip.Addr, port uint16, reset func(), f func(*skb.Conn) error) (wire.FlowChoice, error) {
	how, many := wire.ChosenByPort, manyForPort
	if n.conns.Filters(dst) {
		how, many = wire.ChosenByFilter, manyForFilter
	}
	chosen, err := n.flowsInMemory(ctx, many, cthash.Filter{Protocol: proto, Addresses: dst, Port: port})
	if err != nil {
		if e := ctx.Err(); e != nil {
			return "", e
		}
		// Whatever it was (no BPF, an older kernel, a table that is resized, very many flows): netlink tells all, if more slowly.
		return how, n.conns.ToAny(ctx, proto, dst, port, reset, f)
	}
	for _, c := range chosen {
		if err := f(c); err != nil {
			return "", err
		}
	}
	return wire.ChosenInMemory, nil
}

// errFew says that a table is small enough for netlink.
var errFew = errors.New("few connection tracking entries")

// tableTries is how often the table is read again when it was resized meanwhile.
const tableTries = 3

// flowsInMemory chooses entries in kernel memory, and asks the kernel about each.
func (n *Namespace) flowsInMemory(ctx context.Context, many int, f cthash.Filter) ([]*skb.Conn, error) {
	if n.memory.err != nil {
		return nil, n.memory.err
	}
	count, _, err := n.conns.Fill(ctx)
	if err != nil {
		return nil, err
	}
	if count < many || len(f.Addresses) == 0 {
		return nil, errFew
	}
	m, err := n.memory.open()
	if err != nil {
		return nil, err
	}
	table, err := n.memory.openTable()
	if err != nil {
		return nil, err
	}
	if f.Namespace, err = m.Namespace(); err != nil {
		return nil, err
	}
	var keys []cthash.Key
	for range tableTries {
		var some []*skb.Conn
		if some, err = n.conns.Some(ctx, anchors); err != nil {
			return nil, err
		}
		// What lasts longest is the likeliest to last.
		slices.SortStableFunc(some, func(a, b *skb.Conn) int { return cmp.Compare(b.TimeoutSeconds, a.TimeoutSeconds) })
		leads := make([]cthash.Key, len(some))
		for i, c := range some {
			leads[i] = cthash.Key{Tuple: c.Orig, Zone: c.Zone}
		}
		if keys, err = table.Find(f, leads); !errors.Is(err, cthash.ErrOdd) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return n.confirm(ctx, keys)
}

// confirm asks the kernel about entries. Those that have gone meanwhile are left out, and so is what has come in their place.
func (n *Namespace) confirm(ctx context.Context, keys []cthash.Key) ([]*skb.Conn, error) {
	out := make([]*skb.Conn, 0, len(keys))
	for _, k := range keys {
		c, _, err := n.conns.Lookup(ctx, k.Tuple, k.Zone)
		if errors.Is(err, node.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("asking about %s: %w", k.Tuple, err)
		}
		if c.Orig == k.Tuple && c.Zone == k.Zone {
			out = append(out, c)
		}
	}
	return out, nil
}
