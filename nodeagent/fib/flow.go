package fib

import (
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// flow is what rules and tables look at (struct flowi4, struct flowi6).
type flow struct {
	dst, src netip.Addr
	// in is the input interface, lo for packets of this host; out the output interface, "" for any.
	in, out          string
	mark             uint32
	proto            uint8
	srcPort, dstPort uint16
	uid              uint32
	tos              uint8
	// hasSrc is RT6_LOOKUP_F_HAS_SADDR: IPv6 rules compare a source only when there is one.
	hasSrc bool
	// scope is the least scope of an IPv4 route that may be taken.
	scope uint8
	// vrf is the VRF that the flow belongs to, "" for none.
	vrf string
}

// protoUDP is what the kernel takes a query without a protocol for (inet_rtm_getroute).
const protoUDP = 17

// flowOf is the flow of a query, with in for the rules' input interface.
func (s *State) flowOf(q node.RouteQuery, in string) flow {
	f := flow{
		dst: q.Dst, src: q.Src, in: in, mark: q.Mark, proto: q.Proto, srcPort: q.SrcPort, dstPort: q.DstPort,
		tos: q.TOS &^ 3,
	}
	if f.proto == 0 && q.Dst.Is4() {
		f.proto = protoUDP
	}
	if f.proto != 6 && f.proto != 17 {
		f.srcPort, f.dstPort = 0, 0
	}
	if q.UID != nil {
		f.uid = *q.UID
	}
	if !f.src.IsValid() {
		f.src = unspecified(q.Dst)
	}
	f.hasSrc = !f.src.IsUnspecified()
	return f
}

// undissected takes the ports and the protocol off a flow that arrives, unless a rule makes the kernel look at them. Rules
// with iif lo do not count (fib_rule_requires_fldissect), so that these see none in a check of the source.
func (s *State) undissected(f *flow) {
	if !s.indexed().dissects {
		f.proto, f.srcPort, f.dstPort = 0, 0, 0
	}
}

// unspecified is the zero address of a's family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// enslaved fills in the VRF of a flow (l3mdev_update_flow of net/l3mdev/l3mdev.c).
func (s *State) enslaved(f *flow) {
	l := s.link(f.out)
	if l == nil && f.in != loopbackName {
		l = s.link(f.in)
	}
	if l == nil {
		return
	}
	f.vrf = l.Master
	if l.VRFTable != 0 {
		f.vrf = l.Name
		if f.out == l.Name {
			f.out = ""
		}
	}
}

// Kinds of IPv4 addresses (include/linux/in.h). Of 0.0.0.0/8 only 0.0.0.0 has been special since Linux 5.3
// (ipv4_is_zeronet).

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// localGroup tells an address of 224.0.0.0/24.
func localGroup(a netip.Addr) bool {
	b := a.As4()
	return b[0] == 224 && b[1] == 0 && b[2] == 0
}
