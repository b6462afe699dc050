// Package facts collects what a node can tell beyond walks and flows: the settings that decide about its packets, what its
// kube-proxy says and has written, whose other rules are there, and how the node is connected to a Service's endpoints.
//
// It decides what to ask and reads the answers; package live asks the kernel. Everything is read as it is named: no rule
// set is listed as a whole but legacy tables, which the kernel gives no other way.
package facts

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// Machine is what facts are collected from.
type Machine interface {
	node.Namespace
	// Statistics sums the counters of connection tracking over the CPUs.
	Statistics(ctx context.Context) (wire.ConntrackStatistics, error)
	// To calls f for each entry whose original destination is dst; a port of 0 means any. reset is called when the reading
	// starts again.
	To(ctx context.Context, proto uint8, dst netip.AddrPort, reset func(), f func(*skb.Conn) error) error
	// ChecksumOffload tells whether an interface leaves transmit checksums to a device.
	ChecksumOffload(ctx context.Context, link string) (bool, error)
	// Get asks an HTTP server in the namespace and returns its status and the beginning of its answer.
	Get(ctx context.Context, server netip.AddrPort, path string) (status int, body []byte, err error)
	// Processes names the processes that run a program.
	Processes(ctx context.Context, program string) ([]string, error)
	// ServedBy names the process that owns a socket, "" when none is found.
	ServedBy(inode uint64) string
	// Now is the time in seconds since 1970.
	Now() float64
}

// Collect answers a request. What cannot be read is named in the answer; the error is the context's.
func Collect(ctx context.Context, m Machine, q wire.FactsRequest, flow func(*skb.Conn) wire.Flow) (*wire.FactsAnswer, error) {
	c := &collector{ctx: ctx, m: m, q: q, out: &wire.FactsAnswer{Sysctls: []wire.Sysctl{}, Chains: []wire.Chain{}, Routes: []wire.Route{}, Links: []wire.Link{}}}
	c.part("kernel parameters", c.sysctls)
	c.part("statistics of connection tracking", func() (err error) { c.out.Conntrack, err = m.Statistics(ctx); return err })
	c.part("interfaces", c.links)
	c.part("routes", c.routes)
	c.part("bridge ports of endpoints", c.attached)
	c.part("sockets on node ports", c.listeners)
	c.part("kube-proxy's endpoints", c.kubeProxy)
	c.part("nftables chains", c.nft)
	c.part("legacy iptables chains", c.legacy)
	c.part("flows to other ports", func() error { return c.otherPorts(flow) })
	return c.out, ctx.Err()
}

type collector struct {
	ctx context.Context
	m   Machine
	q   wire.FactsRequest
	out *wire.FactsAnswer
}

// part reads one part, and notes it when it cannot be read.
func (c *collector) part(what string, read func() error) {
	if c.ctx.Err() != nil {
		return
	}
	if err := read(); err != nil {
		c.out.Unread = append(c.out.Unread, fmt.Sprintf("%s: %v", what, err))
	}
}
