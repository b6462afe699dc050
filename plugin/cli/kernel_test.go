package cli

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/utils/ptr"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// kernel is what a node of the shop does with packets: in the manner of kube-proxy's nftables mode it translates those to
// the Service, and routes all others. Pods of node N have addresses in 10.244.N.0/24, and the node has 10.250.0.(10+N).
type kernel struct {
	endpoints []string
	// deaf says for an endpoint why no socket takes its packets.
	deaf map[string]string
	// forgets makes the node translate no answers back.
	forgets bool
	// walk overrides what becomes of packets to the Service.
	walk func(wire.WalkRequest) (*trace.Trace, *wire.Error)
}

// hostOf is the node that an address is on: its own or that of one of its pods; empty for an address outside.
func hostOf(a netip.Addr) (node string, pod bool) {
	b := a.As4()
	switch {
	case b[0] == 10 && b[1] == 244:
		return fmt.Sprintf("node%d", b[2]), true
	case b[0] == 10 && b[1] == 250:
		return fmt.Sprintf("node%d", b[3]-10), false
	}
	return "", false
}

func addressOf(node string) netip.Addr {
	return netip.MustParseAddr("10.250.0.1" + node[len("node"):])
}

// answer walks a packet.
func (k *kernel) answer(r wire.WalkRequest) *trace.Trace {
	w := &walked{kernel: k, node: r.Node, place: "host", source: r.Source, hook: "prerouting"}
	if !w.source.IsValid() {
		w.source, w.hook = netip.AddrPortFrom(addressOf(r.Node), 0), "output"
	}
	w.t = trace.New(trace.Packet{Protocol: r.Protocol, Source: w.source, Destination: r.Destination, In: r.In})
	var path []int
	if r.FromAddress {
		w.place = "pod " + w.source.Addr().String()
		path = []int{w.hop(trace.Hop{Hook: "route", Action: "default via 10.244.0.1 dev eth0"}), w.hop(trace.Hop{Hook: "veth", Action: "eth0 to veth1", Says: "crosses into host"})}
		w.place = "host"
	}
	port := r.Destination.Port()
	switch {
	case r.Reply:
		w.reply(r, path)
	case port == 80 || port == 30080:
		w.translate(r, path)
	default:
		w.arrive(trace.NewProbability(1, 1), r.Destination, false, path)
	}
	return w.t
}

// walked is one walk under way.
type walked struct {
	*kernel
	t           *trace.Trace
	node, place string
	hook        string
	source      netip.AddrPort
}

func (w *walked) hop(h trace.Hop) int {
	h.Node, h.Namespace = w.node, w.place
	w.t.Hops = append(w.t.Hops, h)
	return len(w.t.Hops) - 1
}

// translate shares connections evenly over the endpoints.
func (w *walked) translate(r wire.WalkRequest, path []int) {
	rule := func(h trace.Hop) int {
		h.Hook, h.Table = w.hook, "ip kube-proxy"
		return w.hop(h)
	}
	shared := append(path,
		rule(trace.Hop{Chain: "services", Rule: &trace.Rule{Handle: 12, Text: "ip daddr . meta l4proto . th dport vmap @service-ips"},
			Action: "goto service-ULMVA6XW-shop/web/tcp/http", Says: fmt.Sprintf("%s . %s . %d is in service-ips", r.Destination.Addr(), r.Protocol, r.Destination.Port())}),
		rule(trace.Hop{Chain: "service-ULMVA6XW-shop/web/tcp/http", Rule: &trace.Rule{Handle: 20, Text: fmt.Sprintf("numgen random mod %d vmap { … }", len(w.endpoints)), Packets: ptr.To[uint64](3), Bytes: ptr.To[uint64](180)},
			Action: fmt.Sprintf("numgen random mod %d", len(w.endpoints))}))
	client := w.source
	for i, e := range w.endpoints {
		to := netip.MustParseAddrPort(e)
		n := rule(trace.Hop{Chain: "endpoint-" + e, Rule: &trace.Rule{Handle: uint64(30 + i), Text: "meta l4proto tcp dnat to " + e}, Action: "dnat to " + e})
		inside, _ := hostOf(client.Addr())
		masquerade := r.Destination.Port() == 30080 || client.Addr() == to.Addr() || inside == ""
		if w.source = client; masquerade {
			w.source = netip.AddrPortFrom(addressOf(w.node), 0)
		}
		w.arrive(trace.NewProbability(1, int64(len(w.endpoints))), to, masquerade, append(slices.Clone(shared), n))
		o := &w.t.Outcomes[len(w.t.Outcomes)-1]
		o.Tracked = []trace.Tracked{{Namespace: "host", Protocol: r.Protocol, Source: client, Destination: r.Destination, ReplySource: to, ReplyDestination: w.source}}
	}
}

// reply translates an answer back by what is assumed, and routes it.
func (w *walked) reply(r wire.WalkRequest, path []int) {
	to := r.Destination
	for _, e := range r.Assume {
		if e.ReplySource == r.Source && e.ReplyDestination == r.Destination && !w.forgets {
			w.source, to = e.Destination, e.Source
		}
	}
	w.arrive(trace.NewProbability(1, 1), to, false, path)
}

// arrive routes a packet: to a pod or a process here, to another node, or out of the cluster.
func (w *walked) arrive(p *trace.Probability, to netip.AddrPort, masqueraded bool, path []int) {
	o := trace.Outcome{Verdict: trace.Forwarded, Probability: p, Destination: to, Source: w.source, Masqueraded: masqueraded, Conditions: []string{}, Path: path}
	node, pod := hostOf(to.Addr())
	why := w.deaf[to.String()]
	switch {
	case node != w.node:
		o.Out = "eth0"
		if node != "" {
			o.NextHop = addressOf(node)
		}
		o.Path = append(o.Path, w.hop(trace.Hop{Hook: "route", Action: "to " + to.Addr().String() + " dev eth0"}))
	case pod:
		o.Path = append(o.Path, w.hop(trace.Hop{Hook: "veth", Action: "veth2 to eth0", Says: "crosses into pod " + to.Addr().String()}))
		w.place = "pod " + to.Addr().String()
		fallthrough
	default:
		o.Verdict = trace.Delivered
		h := trace.Hop{Hook: "socket", Action: "delivered", Says: fmt.Sprintf("a socket listens on 0.0.0.0:%d (pid 812 /server)", to.Port())}
		if why != "" {
			o.Verdict, o.Reason = trace.Local, why
			h.Action, h.Says = "no listener", why
		}
		o.Path = append(o.Path, w.hop(h))
		w.place = "host"
	}
	w.t.Outcomes = append(w.t.Outcomes, o)
}

// untouched is a trace of a packet that nothing translates.
func untouched(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
	source := r.Source
	if !source.IsValid() {
		source = netip.AddrPortFrom(addressOf(r.Node), 0)
	}
	t := trace.New(trace.Packet{Protocol: r.Protocol, Source: source, Destination: r.Destination, In: r.In})
	t.Hops = []trace.Hop{{Node: r.Node, Namespace: "host", Hook: "route", Action: "default via 10.250.0.1 dev eth0"}}
	t.Outcomes = []trace.Outcome{{Verdict: trace.Forwarded, Probability: trace.NewProbability(1, 1), Destination: r.Destination, Source: source, Out: "eth0", Conditions: []string{}, Path: []int{0}}}
	return t, nil
}
