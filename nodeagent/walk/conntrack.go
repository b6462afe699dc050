package walk

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nat"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// track is the lookup of connection tracking (nf_conntrack_in): the packet gets its entry, or a new one.
func (w *walk) track(b *branch, next func(*branch)) {
	p := b.p
	if p.Ct != nil || p.State == skb.CtUntracked {
		next(b)
		return
	}
	active, err := w.conntrackActive(p.Family)
	if err != nil {
		w.fail(err)
		return
	}
	if !active {
		next(b)
		return
	}
	t, known := tupleOf(p)
	z, helper := zonesOf(p), ""
	if p.Template != nil {
		helper = p.Template.Helper
	}
	if c, reply := w.assumedEntry(t, z); c != nil {
		w.known(b, c, reply)
		next(b)
		return
	}
	if known {
		c, reply, err := w.lookup(t, z)
		switch {
		case err == nil:
			step := tcpGoesOn
			switch {
			case p.Proto() == skb.TCP:
				step = stepTCP(c, p, reply)
			case p.Proto() == skb.SCTP && wrongTag(c, p, reply):
				step = tcpInvalid
			}
			switch step {
			case tcpInvalid:
				w.invalid(b, fmt.Sprintf("the segment does not fit the state of its flow, %s", c.Orig))
				next(b)
				return
			case tcpMayReopen:
				ways := w.fork(b, "the last segment of the closed connection was a reset by the side that opens it anew")
				w.known(ways[1], c, reply)
				next(ways[1])
				b, p = ways[0], ways[0].p
			case tcpGoesOn:
				w.known(b, c, reply)
				next(b)
				return
			}
		case !errors.Is(err, node.ErrNotFound):
			w.fail(err)
			return
		}
	}
	opens := true
	if _, known := p.TCPFlags(); p.Proto() == skb.TCP && known&(flagSYN|flagRST|flagACK) == 0 {
		// The header is in another fragment.
		ways := w.fork(b, "the segment opens a connection")
		w.invalid(ways[1], "it opens no flow, and connection tracking has none here that it belongs to")
		next(ways[1])
		b, p = ways[0], ways[0].p
	} else if p.Proto() == skb.TCP {
		if opens, err = w.opensTCP(p); err != nil {
			w.fail(err)
			return
		}
	}
	if !opens || neverOpens(p) {
		// net/netfilter/nf_conntrack_proto_tcp.c, nf_conntrack_proto_icmp.c
		w.invalid(b, "it opens no flow, and connection tracking has none here that it belongs to")
		next(b)
		return
	}
	if p.Proto() == skb.SCTP && !opensSCTP(p) {
		// Which chunks open a flow is a matter of their type and tag (sctp_new); a later packet's are not described.
		ways := w.fork(b, "conntrack takes the SCTP chunk for the first of a flow")
		ways[1].p.State = skb.CtInvalid
		next(ways[1])
		b, p = ways[0], ways[0].p
	}
	p.Ct = &skb.Conn{Orig: t, Reply: reverse(t), New: true, Zone: z.orig, ReplyZone: z.reply, Helper: helper}
	p.State = skb.CtNew
	next(b)
}

// invalid makes the packet one that connection tracking could not place.
func (w *walk) invalid(b *branch, says string) {
	b.p.State = skb.CtInvalid
	w.hop(b, trace.Hop{Hook: b.p.Hook.String(), Action: "conntrack: invalid", Says: says})
}

// neverOpens tells of packets other than TCP's that open no flow: answers to an echo, later fragments, and IPv6 packets
// without a transport protocol.
func neverOpens(p *skb.Packet) bool {
	typ, _, known := p.ICMPType()
	later, _ := p.LaterFragment()
	return later || known && (p.Proto() == skb.ICMP && typ == 0 || p.Proto() == skb.ICMPv6 && typ == 129) ||
		p.Family == skb.IPv6 && p.Proto() == skb.HeaderNone
}

// wrongTag tells of an SCTP packet whose verification tag is known not to be its flow's (nf_conntrack_sctp_packet). INIT and the
// chunks that end an association have rules of their own, and are let pass.
func wrongTag(c *skb.Conn, p *skb.Packet, reply bool) bool {
	const initChunk, abort, shutdownComplete = 1, 6, 14
	v, known, ok := p.Transport(4, 9)
	if c.SCTPTags == nil || !ok || !p.Whole() || known[0]&known[1]&known[2]&known[3]&known[8] != 0xff {
		return false
	}
	switch v[8] {
	case initChunk, abort, shutdownComplete:
		return false
	}
	want := c.SCTPTags[0]
	if reply {
		want = c.SCTPTags[1]
	}
	return binary.BigEndian.Uint32(v) != want
}

// opensSCTP tells whether the packet's first chunk is known to be INIT.
func opensSCTP(p *skb.Packet) bool {
	v, known, _ := p.Transport(12, 1)
	return known[0] == 0xff && v[0] == 1
}

// zones are the conntrack zones of the two directions of a flow: they differ when a template's zone is for one only.
type zones struct{ orig, reply uint16 }

func zonesOf(p *skb.Packet) zones {
	tmpl := p.Template
	if tmpl == nil {
		return zones{}
	}
	id := tmpl.Zone
	if tmpl.ZoneFromMark {
		id = uint16(p.Mark)
	}
	z := zones{id, id}
	if tmpl.OriginalOnly {
		z.reply = 0
	}
	if tmpl.ReplyOnly {
		z.orig = 0
	}
	return z
}

// lookup finds the entry of a packet as __nf_conntrack_find_get does: as an original one in the zone of that direction,
// else as a reply in the zone of the other.
func (w *walk) lookup(t skb.Tuple, z zones) (c *skb.Conn, reply bool, err error) {
	c, reply, err = w.ns.Lookup(w.ctx, t, z.orig)
	if z.orig == z.reply || err == nil && !reply || err != nil && !errors.Is(err, node.ErrNotFound) {
		return c, reply, err
	}
	c, reply, err = w.ns.Lookup(w.ctx, t, z.reply)
	if err == nil && !reply {
		return nil, false, fmt.Errorf("conntrack entry %s: %w", t, node.ErrNotFound)
	}
	return c, reply, err
}

// known makes the packet one of a flow that conntrack has.
func (w *walk) known(b *branch, c *skb.Conn, reply bool) {
	p := b.p
	p.Ct = c
	seen := c.Status&skb.StatusSeenReply != 0
	switch {
	case reply:
		p.State = skb.CtEstablishedReply
		c.Status |= skb.StatusSeenReply
	case seen:
		p.State = skb.CtEstablished
	case c.Status&skb.StatusExpected != 0:
		p.State = skb.CtRelated
	default:
		p.State = skb.CtNew
	}
	if reply || c.TCPState != tcpTimeWait && c.TCPState != tcpClose {
		describe(p, seen, reply)
	}
	says := fmt.Sprintf("of a known flow, %s", c.Orig)
	if c.Reply != reverse(c.Orig) {
		says += fmt.Sprintf(", translated: replies go %s -> %s", c.Reply.Src, c.Reply.Dst)
	}
	if reply {
		says = "a reply " + says
	}
	w.hop(b, trace.Hop{Hook: p.Hook.String(), Action: "conntrack entry", Says: says})
}

// describe makes the packet's transport header that of a later packet of its flow, where one is due.
func describe(p *skb.Packet, seen, reply bool) {
	if !reply && !seen || p.Whole() {
		return
	}
	switch p.Proto() {
	case skb.TCP:
		if reply && !seen {
			p.SetTCPFlags(0x12, 0x17) // SYN and ACK
		} else {
			p.SetTCPFlags(0x10, 0x12) // ACK without SYN
		}
	case skb.SCTP:
		p.Forget(p.TransportOffset()+12, 20) // any chunk
	}
}

// describeKnown does that before any rule sees the packet: rules before connection tracking look at flags too.
func (w *walk) describeKnown(p *skb.Packet) error {
	active, err := w.conntrackActive(p.Family)
	t, known := tupleOf(p)
	if err != nil || !active || !known {
		return err
	}
	c, reply, err := w.ns.Lookup(w.ctx, t, 0)
	if errors.Is(err, node.ErrNotFound) {
		return nil
	}
	if err == nil && (reply || c.TCPState != tcpTimeWait && c.TCPState != tcpClose) {
		// A closed connection is opened anew, by a SYN.
		describe(p, c.Status&skb.StatusSeenReply != 0, reply)
	}
	return err
}

// tupleOf returns the packet's tuple; known is false when a part of it is not known.
func tupleOf(p *skb.Packet) (t skb.Tuple, known bool) {
	t = skb.Tuple{Proto: p.Proto(), Src: p.Source(), Dst: p.Destination()}
	known = true
	if p.HasPorts() {
		_, s := p.SrcPort()
		_, d := p.DstPort()
		known = s && d
	}
	if typ, code, ok := p.ICMPType(); ok {
		// Where the echo id is not described, the packet is taken for the first of its flow.
		t.Dst = netip.AddrPortFrom(t.Dst.Addr(), uint16(typ)<<8|uint16(code))
		var id uint16
		id, known = p.ICMPID()
		t.Src = netip.AddrPortFrom(t.Src.Addr(), id)
	} else if p.Proto() == skb.ICMP || p.Proto() == skb.ICMPv6 {
		known = false
	}
	return t, known
}

// reverse is nf_ct_invert_tuple: ICMP's echo request becomes the reply.
func reverse(t skb.Tuple) skb.Tuple {
	r := t.Reverse()
	if t.Proto != skb.ICMP && t.Proto != skb.ICMPv6 {
		return r
	}
	typ := uint16(0)
	switch {
	case t.Proto == skb.ICMPv6 && t.Dst.Port()>>8 == 128:
		typ = 129
	case t.Proto == skb.ICMPv6:
		typ = 128
	case t.Dst.Port()>>8 == 0:
		typ = 8
	}
	r.Src = netip.AddrPortFrom(r.Src.Addr(), t.Src.Port())
	r.Dst = netip.AddrPortFrom(r.Dst.Addr(), typ<<8)
	return r
}

// conntrackActive tells whether connection tracking has hooks in the namespace for the family: it has as long as a rule
// needs it (nf_ct_netns_get).
func (w *walk) conntrackActive(f skb.Family) (bool, error) {
	if a, ok := w.active[f]; ok {
		return a, nil
	}
	a, err := w.usesConntrack(f)
	if err != nil {
		return false, err
	}
	if w.active == nil {
		w.active = map[skb.Family]bool{}
	}
	w.active[f] = a
	return a, nil
}

func (w *walk) usesConntrack(f skb.Family) (bool, error) {
	hooks, known, err := w.listing(familyOf(f))
	if known || err != nil {
		return known && listsConntrack(hooks), err
	}
	tables, err := w.legacyTables(f)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if t.UsesConntrack() {
			return true, nil
		}
	}
	// Base chains first: that is where the answer nearly always is.
	base, err := w.allBaseChains()
	if err != nil {
		return false, err
	}
	seen := map[chainKey]bool{}
	for _, c := range base {
		if used, err := w.chainUsesConntrack(c, f, seen); used || err != nil {
			return used, err
		}
	}
	if w.noNFT {
		return false, nil
	}
	objects, err := w.ns.NFTObjects(w.ctx)
	if err != nil {
		return false, err
	}
	for _, o := range objects {
		if o.Family != node.NFTInet && o.Family != node.NFTFamily(f) {
			continue
		}
		d, err := nftables.DecodeObject(o.Attrs)
		if err != nil {
			return false, err
		}
		if d.UsesConntrack() {
			return true, nil
		}
	}
	all, err := w.ns.NFTChains(w.ctx)
	if err != nil {
		return false, err
	}
	for _, o := range all {
		c, err := nftables.DecodeChain(o)
		if err != nil {
			return false, err
		}
		if used, err := w.chainUsesConntrack(c, f, seen); used || err != nil {
			return used, err
		}
	}
	return false, nil
}

func (w *walk) chainUsesConntrack(c nftables.Chain, f skb.Family, seen map[chainKey]bool) (bool, error) {
	k := chainKey{c.Family, c.Table, c.Name}
	if seen[k] || c.Family != node.NFTInet && c.Family != node.NFTFamily(f) {
		return false, nil
	}
	seen[k] = true
	rules, err := w.chainRules(k, nil)
	if err != nil {
		return false, err
	}
	for i := range rules.raw {
		r, err := rules.rule(k, i)
		if err != nil {
			return false, err
		}
		if !w.nft.UsesConntrack(r) {
			continue
		}
		if v4, v6 := r.ConntrackFamilies(); r.UsesConntrack() && !v4 && f == skb.IPv4 || r.UsesConntrack() && !v6 && f == skb.IPv6 {
			continue // an inet rule that translates the other family only
		}
		return true, nil
	}
	return false, nil
}

// natHook is nf_nat_inet_fn: all nat chains of a hook, asked in turn for the first packet of a flow.
type natHook struct {
	// source is true at POSTROUTING and INPUT, where source addresses are translated.
	source bool
	groups []natGroup
}

type natGroup struct {
	priority int32
	group    *group
}

func (n *natHook) groupAt(p int32) *group {
	for _, g := range n.groups {
		if g.priority == p {
			return g.group
		}
	}
	g := &group{}
	n.groups = append(n.groups, natGroup{p, g})
	slices.SortFunc(n.groups, func(a, b natGroup) int { return cmp.Compare(a.priority, b.priority) })
	return g
}

// run translates a packet. Chains are asked until one has decided; when none has, the flow stays as it is.
func (n *natHook) run(w *walk, b *branch, next func(*branch)) {
	p := b.p
	if p.Ct == nil {
		next(b)
		return
	}
	after := func(b *branch) { n.after(w, b, next) }
	if p.State == skb.CtNew && !p.Ct.NATDone(n.source) {
		groups := make([]group, len(n.groups))
		for i, g := range n.groups {
			groups[i] = n.guard(*g.group)
		}
		w.passGroups(b, groups, func(b *branch) {
			nat.NullBinding(b.p, n.source)
			if n.source {
				w.clash(b, after)
				return
			}
			after(b)
		})
		return
	}
	if did := nat.Packet(p, n.source); did != "" {
		w.hop(b, trace.Hop{Hook: p.Hook.String(), Action: did, Says: "as its conntrack entry says; no nat rule is asked"})
	}
	after(b)
}

// guard makes the functions of a group pass packets whose translation is decided.
func (n *natHook) guard(g group) group {
	wrap := func(f function) function {
		inner := f.run
		f.run = func(w *walk, b *branch, next func(*branch)) {
			if b.p.Ct == nil || b.p.Ct.NATDone(n.source) {
				next(b)
				return
			}
			inner(w, b, next)
		}
		return f
	}
	out := group{}
	for _, q := range g.sequences {
		for _, f := range q.functions {
			out.add(q.of, wrap(f))
		}
	}
	return out
}

// after routes a local packet again when its destination was translated (nf_nat_ipv4_local_fn), and asks IPsec again where the
// route stays (nf_xfrm_me_harder).
func (n *natHook) after(w *walk, b *branch, next func(*branch)) {
	c, hook := b.p.Ct, b.p.Hook
	if hook != skb.Output && hook != skb.Postrouting || c == nil {
		next(b)
		return
	}
	own, other := c.Orig, c.Reply
	if b.p.State.Reply() {
		own, other = other, own
	}
	switch {
	case hook == skb.Output && own.Dst.Addr() != other.Src.Addr():
		w.reroute(b, next)
	case hook == skb.Output && changed(b.p, own.Dst, other.Src), hook == skb.Postrouting && changed(b.p, own.Src, other.Dst):
		w.ipsec(b, node.IPsecOut, false, next)
	default:
		next(b)
	}
}

// changed reports whether one end of the packet's flow is translated.
func changed(p *skb.Packet, own, other netip.AddrPort) bool {
	return own.Addr() != other.Addr() || p.HasPorts() && own.Port() != other.Port()
}

// clash makes the source port the kernel's choice when another flow already uses the tuple that this one would get. Where
// there are no ports, or the rule leaves only that port there is nothing to choose: TCP is dropped when conntrack confirms the flow
// (nf_ct_resolve_clash), and what becomes of other protocols is not modelled.
func (w *walk) clash(b *branch, next func(*branch)) {
	p := b.p
	if p.Ct == nil || !p.Ct.New || p.Proto() == skb.ICMP || p.Proto() == skb.ICMPv6 {
		next(b)
		return
	}
	chosen := p.HasPorts() && p.Ct.Reply.Dst.Port() == 0 // the kernel looks for a free one anyway
	if !chosen {
		other, _, err := w.ns.Lookup(w.ctx, p.Ct.Reply, p.Ct.ReplyZone)
		if errors.Is(err, node.ErrNotFound) {
			next(b)
			return
		}
		if err != nil {
			w.fail(err)
			return
		}
		if !p.HasPorts() || p.Proto() == skb.DCCP && other.Orig.Src.Port() == 0 {
			// The kernel knows no ports of this protocol that it could choose (DCCP's are unknown to it since Linux 6.17).
			reason := fmt.Sprintf("another flow of protocol %s already goes from %s to %s", skb.ProtoName(p.Proto()), p.Ct.Reply.Dst.Addr(), p.Ct.Reply.Src.Addr())
			w.hop(b, trace.Hop{Hook: p.Hook.String(), Action: "drop", Says: reason})
			w.end(b, end{verdict: trace.Dropped, reason: reason})
			return
		}
	}
	exhausted, err := w.exhausted(p.Ct)
	if err != nil {
		w.fail(err)
		return
	}
	if exhausted {
		reason := fmt.Sprintf("other flows already use %s, and every port that the rule allows", p.Ct.Reply.Dst)
		if p.Proto() != skb.TCP {
			w.unmodelled(b, "two flows with one tuple", next)
			return
		}
		w.hop(b, trace.Hop{Hook: p.Hook.String(), Action: "drop", Says: reason})
		w.end(b, end{verdict: trace.Dropped, reason: reason})
		return
	}
	if chosen {
		next(b)
		return
	}
	free := netip.AddrPortFrom(p.Ct.Reply.Dst.Addr(), 0)
	p.Ct.Reply.Dst = free
	p.Ct.Status |= skb.StatusSrcNAT
	p.SetSource(free)
	w.hop(b, trace.Hop{Hook: p.Hook.String(), Action: "source port chosen by the kernel", Says: "another flow already uses this address and port"})
	next(b)
}

// maxPortsTried bounds the range of ports that is looked through: in a wider one a free port is taken for granted.
const maxPortsTried = 128

// exhausted tells whether other flows have every tuple that a rule's range of source ports allows.
func (w *walk) exhausted(c *skb.Conn) (bool, error) {
	low, high := int(c.SourcePorts[0]), int(c.SourcePorts[1])
	if low == 0 || high < low || high-low >= maxPortsTried {
		return false, nil
	}
	for port := low; port <= high; port++ {
		t := c.Reply
		t.Dst = netip.AddrPortFrom(t.Dst.Addr(), uint16(port))
		if _, _, err := w.ns.Lookup(w.ctx, t, c.ReplyZone); err != nil {
			if errors.Is(err, node.ErrNotFound) {
				err = nil
			}
			return false, err
		}
	}
	return true, nil
}
