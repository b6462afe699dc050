//go:build linux

package netns

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// Pair is two nodes with a pod each, on one network. How pods of the one reach those of the other is for the test to say.
//
// Node i, 1 or 2, has the addresses 10.250.0.1i and fd00:250::1i on eth0, and its pod 10.244.i.5 and fd00:244:i::5. The
// second pod listens on TCP port 8080.
type Pair struct{ Node, Pod [2]*Place }

// NewPair makes two nodes. They need the sysctls of br_netfilter.
func NewPair(t *testing.T) Pair {
	t.Helper()
	var p Pair
	for i := range 2 {
		p.Node[i], p.Pod[i] = New(t, fmt.Sprintf("node%d", i+1)), New(t, fmt.Sprintf("pod%d", i+1))
	}
	wire := NewHidden(t, "switch")
	wire.IP(t, "link add br0 type bridge", "link set br0 up")
	wire.Sysctl(t, "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")
	for i := range 2 {
		own, n, pod := i+1, p.Node[i], p.Pod[i]
		for _, x := range []*Place{n, pod} { // an address is used at once, not after a second of asking for duplicates
			x.Sysctl(t, "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
		}
		n.Sysctl(t, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0")
		n.IP(t, fmt.Sprintf("link add eth0 type veth peer name p%d netns %s", own, wire.File), "link set eth0 up",
			fmt.Sprintf("addr add 10.250.0.1%d/24 dev eth0", own), fmt.Sprintf("addr add fd00:250::1%d/64 dev eth0", own),
			"link add pod0 type veth peer name eth0 netns "+pod.File, "link set pod0 up",
			fmt.Sprintf("addr add 10.244.%d.1/24 dev pod0", own), fmt.Sprintf("addr add fd00:244:%d::1/64 dev pod0", own))
		wire.IP(t, fmt.Sprintf("link set p%d master br0 up", own))
		pod.IP(t, "link set eth0 up", fmt.Sprintf("addr add 10.244.%d.5/24 dev eth0", own), fmt.Sprintf("addr add fd00:244:%d::5/64 dev eth0", own),
			fmt.Sprintf("route add default via 10.244.%d.1", own), fmt.Sprintf("route add default via fd00:244:%d::1", own))
	}
	p.Pod[1].Listen(t, ":8080")
	return p
}

// Journey is a walk from the first node's pod by both nodes to the second's, and the reply back. A leg that the packet does
// not come to is nil.
type Journey struct{ Forward, Onward, Back, Home *trace.Trace }

// Walk walks a new TCP connection of the first pod, and the reply.
func (p Pair) Walk(t *testing.T, to string) (j Journey) {
	t.Helper()
	from := "10.244.1.5"
	if netip.MustParseAddrPort(to).Addr().Is6() {
		from = "fd00:244:1::5"
	}
	j.Forward = p.Node[0].Walk(t, Start(from, to))
	f := j.Forward.Outcomes[0]
	if !crosses(f) {
		return j
	}
	j.Onward = p.Node[1].Walk(t, walk.Start{
		Proto: skb.TCP, Source: f.Source, Destination: f.Destination, Follow: true, Arrives: arrival(f, "10.250.0.12", "fd00:250::12"), Tunnel: f.Tunnel,
	})
	o := j.Onward.Outcomes[0]
	if o.Verdict != trace.Delivered {
		return j
	}
	j.Back = p.Node[1].Walk(t, walk.Start{
		Proto: skb.TCP, Source: o.Destination, Destination: o.Source, Follow: true, FromAddress: true, Reply: true, Assume: o.Tracked,
	})
	b := j.Back.Outcomes[0]
	if !crosses(b) {
		return j
	}
	j.Home = p.Node[0].Walk(t, walk.Start{
		Proto: skb.TCP, Source: b.Source, Destination: b.Destination, Follow: true, Reply: true, Assume: f.Tracked,
		Arrives: arrival(b, "10.250.0.11", "fd00:250::11"), Tunnel: b.Tunnel,
	})
	return j
}

// crosses tells whether a packet leaves for the other node.
func crosses(o trace.Outcome) bool {
	return o.Verdict == trace.Forwarded && (o.Tunnel == nil || o.Tunnel.Destination.Addr().IsValid())
}

// arrival is the address of the other node that a packet is sent to on the nodes' network.
func arrival(o trace.Outcome, v4, v6 string) netip.Addr {
	to := o.Destination.Addr()
	if o.Tunnel != nil {
		to = o.Tunnel.Destination.Addr()
	}
	if to.Is6() {
		return netip.MustParseAddr(v6)
	}
	return netip.MustParseAddr(v4)
}

// Connects tells whether the reply comes back to the first pod, from the address that it sent to.
func (j Journey) Connects(to string) bool {
	return j.Home != nil && j.Home.Outcomes[0].Verdict == trace.Local && j.Home.Outcomes[0].Source == netip.MustParseAddrPort(to)
}

// Says is what all legs say.
func (j Journey) Says() string {
	said := ""
	for _, x := range []*trace.Trace{j.Forward, j.Onward, j.Back, j.Home} {
		if x != nil {
			said += Says(x) + "--\n"
		}
	}
	return said
}
