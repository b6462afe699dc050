package xtables

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Inversions of struct ipt_ip and struct ip6t_ip6 (IPT_INV_…), and their flags.
const (
	invIn      = 0x01
	invOut     = 0x02
	invSrc     = 0x08
	invDst     = 0x10
	invFrag    = 0x20
	invProto   = 0x40
	flagFrag   = 0x01 // IPv4
	flagProto6 = 0x01 // IPv6
)

// mayMatch is what ip_packet_match (net/ipv4/netfilter/ip_tables.c) and ip6_packet_match compare without looking for
// fragments. A packet without an interface at this hook is compared as one with an empty name, as in the kernel. Most
// rules on a packet's way end here, so it allocates nothing.
func (r Rule) mayMatch(l *layout, p *skb.Packet) bool {
	e, inv := r.raw, r.raw[l.invflags]
	if !addressEqual(p.Src(), e[l.srcMsk:], e[l.src:]) != (inv&invSrc != 0) ||
		!addressEqual(p.Dst(), e[l.dstMk:], e[l.dst:]) != (inv&invDst != 0) ||
		!interfaceEqual(p.In, e[l.in:], e[l.inMask:]) != (inv&invIn != 0) ||
		!interfaceEqual(p.Out, e[l.out:], e[l.outMask:]) != (inv&invOut != 0) {
		return false
	}
	proto := binary.NativeEndian.Uint16(e[l.proto:])
	if l.address == 16 {
		if e[l.flags]&flagProto6 == 0 {
			return true
		}
		if uint16(p.Proto()) == proto {
			return inv&invProto == 0
		}
		return proto == 0 || inv&invProto != 0
	}
	return proto == 0 || (uint16(p.Proto()) != proto) == (inv&invProto != 0)
}

// headerMatches adds what IPv4 rules say of fragments.
func (r Rule) headerMatches(l *layout, p *skb.Packet, ch *rule.Chooser) bool {
	if !r.mayMatch(l, p) {
		return false
	}
	e, inv := r.raw, r.raw[l.invflags]
	if l.address == 16 {
		return true
	}
	if e[l.flags]&flagFrag == 0 {
		return inv&invFrag == 0
	}
	return decide(ch, fragment(p), "the packet is a further fragment") != (inv&invFrag != 0)
}

// addressEqual reports whether an address under a mask is want.
func addressEqual(a netip.Addr, mask, want []byte) bool {
	if a.Is4() {
		b := a.As4()
		return maskedEqual(b[:], mask, want)
	}
	b := a.As16()
	return maskedEqual(b[:], mask, want)
}

// maskedEqual reports whether value&mask is want; mask and want may be longer.
func maskedEqual(value, mask, want []byte) bool {
	for i, v := range value {
		if v&mask[i] != want[i] {
			return false
		}
	}
	return true
}

// interfaceEqual compares a name as ifname_compare does: 16 bytes under a mask.
func interfaceEqual(name string, iface, mask []byte) bool {
	for i := range 16 {
		c := byte(0)
		if i < len(name) {
			c = name[i]
		}
		if (c^iface[i])&mask[i] != 0 {
			return false
		}
	}
	return true
}

// fragment tells whether the packet is a fragment other than the first.
func fragment(p *skb.Packet) tri {
	later, known := p.LaterFragment()
	if !known {
		return maybe
	}
	return triOf(later)
}

// headerText writes the conditions of the IP header as iptables-save does.
func (r Rule) headerText(w *writer, l *layout) {
	e, inv := r.raw, r.raw[l.invflags]
	addr := func(opt string, off, mask int, invert bool) {
		a, m := e[off:off+l.address], e[mask:mask+l.address]
		if bytes.Count(m, []byte{0}) == len(m) && !invert {
			return
		}
		w.inv(invert, opt, addrText(a)+"/"+maskText(m))
	}
	addr("-s", l.src, l.srcMsk, inv&invSrc != 0)
	addr("-d", l.dst, l.dstMk, inv&invDst != 0)
	iface := func(opt string, off, mask int, invert bool) {
		n, m := e[off:off+16], e[mask:mask+16]
		if m[0] == 0 {
			return
		}
		name := ""
		for i := range 16 {
			if m[i] == 0 {
				if n[i-1] != 0 {
					name += "+"
				}
				break
			}
			if n[i] != 0 {
				name += string(n[i : i+1])
			}
		}
		w.inv(invert, opt, name)
	}
	iface("-i", l.in, l.inMask, inv&invIn != 0)
	iface("-o", l.out, l.outMask, inv&invOut != 0)
	if proto := binary.NativeEndian.Uint16(e[l.proto:]); proto != 0 || l.address == 16 && e[l.flags]&flagProto6 != 0 && inv&invProto != 0 {
		w.inv(inv&invProto != 0, "-p", protoText(proto))
	}
	if l.address == 4 && e[l.flags]&flagFrag != 0 {
		w.inv(inv&invFrag != 0, "-f")
	}
}
