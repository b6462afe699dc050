package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// kubeProxyTable is the table of kube-proxy's nftables mode, in each family.
const kubeProxyTable = "kube-proxy"

// affinity lists the clients that the kernel keeps with an endpoint: in recent lists (iptables mode) and in dynamic sets
// (nftables mode). A list or set that is not there remembers nobody.
func affinity(ctx context.Context, q wire.AffinityRequest) (*wire.AffinityAnswer, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = defaultFlows
	}
	a := &wire.AffinityAnswer{Entries: []wire.AffinityEntry{}}
	err := here(func(ns *live.Namespace) error {
		for _, l := range q.Lists {
			for _, read := range []func(context.Context, *live.Namespace, wire.AffinityList, int64) ([]wire.AffinityEntry, error){recentClients, setClients} {
				found, err := read(ctx, ns, l, q.TimeoutSeconds)
				if err != nil && !errors.Is(err, node.ErrNotFound) && !errors.Is(err, node.ErrNotSupported) {
					return fmt.Errorf("clients that stay with %s: %w", l.Endpoint, err)
				}
				a.Total += len(found)
				a.Entries = append(a.Entries, found[:min(len(found), limit-len(a.Entries))]...)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// recentClients reads a recent list: each client with the time of its last connection.
func recentClients(ctx context.Context, ns *live.Namespace, l wire.AffinityList, timeout int64) ([]wire.AffinityEntry, error) {
	if l.Recent == "" {
		return nil, nil
	}
	family := skb.IPv4
	if l.Endpoint.Addr().Is6() {
		family = skb.IPv6
	}
	entries, err := ns.Recent(ctx, l.Recent, family)
	if err != nil {
		return nil, err
	}
	var out []wire.AffinityEntry
	for _, e := range entries {
		if len(e.AgesMillis) == 0 {
			continue
		}
		// An entry remains in the list when its time is over, until the next packet sweeps it (--reap), and counts for nothing.
		if left := timeout - e.AgesMillis[0]/1000; left > 0 {
			out = append(out, wire.AffinityEntry{Client: e.Addr, Endpoint: l.Endpoint, LeftSeconds: left, Where: "recent list " + l.Recent})
		}
	}
	return out, nil
}

// setClients reads a dynamic set of addresses whose elements expire.
func setClients(ctx context.Context, ns *live.Namespace, l wire.AffinityList, _ int64) ([]wire.AffinityEntry, error) {
	if l.Set == "" {
		return nil, nil
	}
	family := node.NFTIPv4
	if l.Endpoint.Addr().Is6() {
		family = node.NFTIPv6
	}
	elements, err := ns.NFTElements(ctx, family, kubeProxyTable, l.Set)
	if err != nil {
		return nil, err
	}
	var out []wire.AffinityEntry
	for _, attrs := range elements {
		e, err := nftables.DecodeElement(attrs)
		if err != nil {
			return nil, err
		}
		client, ok := netip.AddrFromSlice(e.Key)
		if !ok || e.Expired() {
			continue
		}
		left := time.Duration(e.ExpiresMillis) * time.Millisecond
		out = append(out, wire.AffinityEntry{Client: client, Endpoint: l.Endpoint, LeftSeconds: int64((left + time.Second - 1) / time.Second), Where: "set " + l.Set})
	}
	return out, nil
}
