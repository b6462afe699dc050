package nftables

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Keys of a Meta (enum nft_meta_keys).
const (
	metaLen = iota
	metaProtocol
	metaPriority
	metaMark
	metaIif
	metaOif
	metaIifname
	metaOifname
	metaIiftype
	metaOiftype
	metaSkuid
	metaSkgid
	metaNftrace
	metaRtclassid
	metaSecmark
	metaNfproto
	metaL4proto
	metaBriIifname
	metaBriOifname
	metaPkttype
	metaCPU
	metaIifgroup
	metaOifgroup
	metaCgroup
	metaRandom
	metaSecpath
	metaIifkind
	metaOifkind
	metaBriIifpvid
	metaBriIifvproto
	metaTime
	metaDay
	metaHour
	metaSdif
	metaSdifname
	metaInputType
	metaBroute
	metaIifhwaddr
)

// Meta loads what the kernel knows about a packet beside its bytes, or sets it (net/netfilter/nft_meta.c).
type Meta struct {
	Key uint32
	// Register receives the value, or holds it when Set.
	Register register
	Set      bool
}

func decodeMeta(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Meta{Key: t.u32(2), Set: t.has(3)}
	at := 1
	if x.Set {
		at = 3
	}
	if x.Register, err = parseRegister(t.u32(at)); err != nil {
		return nil, err
	}
	if x.key() == nil {
		return &Opaque{Type: "meta", Why: fmt.Sprintf("key %d", x.Key), Raw: append([]byte(nil), b...)}, nil
	}
	return x, nil
}

// Name returns meta.
func (x *Meta) Name() string { return "meta" }

func (x *Meta) effect() bool { return x.Set && x.Key != metaNftrace && x.Key != metaSecmark }

func (x *Meta) eval(st *state) (bool, error) {
	if x.Set {
		return x.write(st)
	}
	v, ok, err := x.read(st)
	if err != nil || !ok || st.stopped {
		return false, err
	}
	st.regs.store(x.Register, v, source{label: x.key().text(), typ: x.key().typ, random: x.Key == metaRandom})
	return true, nil
}

// nfproto is the family that a packet has for rules of a family: at hooks of bridges and of devices it is that of the hook.
func nfproto(f node.NFTFamily, p *skb.Packet) uint8 {
	if f == node.NFTBridge || f == node.NFTNetdev {
		return uint8(f)
	}
	return uint8(p.Family)
}

// read returns the value; ok is false where the kernel breaks the rule.
func (x *Meta) read(st *state) (v value, ok bool, err error) {
	p := st.p
	switch x.Key {
	case metaLen:
		return packetLength(p), true, nil
	case metaProtocol:
		if p.Family == skb.IPv6 {
			return knownBE16(0x86dd), true, nil
		}
		return knownBE16(0x0800), true, nil
	case metaNfproto:
		return knownU8(nfproto(st.r.Family, p)), true, nil
	case metaL4proto:
		return knownU8(p.Proto()), true, nil
	case metaPriority:
		if p.PriorityUnknown {
			return unknown(4), true, nil
		}
		return knownHost32(p.Priority), true, nil
	case metaMark:
		return knownHost32(p.Mark), true, nil
	case metaIifname:
		return padded(p.In, 16), true, nil
	case metaOifname:
		return padded(p.Out, 16), true, nil
	case metaIiftype:
		// The type of skb->dev, which at POSTROUTING is the output interface (NFT_META_IFTYPE since 6.2).
		if p.Hook == skb.Postrouting {
			return x.readLink(st, p.Out)
		}
		return x.readLink(st, p.In)
	case metaIif, metaInputType, metaIifgroup, metaIifkind:
		return x.readLink(st, p.In)
	case metaOif, metaOiftype, metaOifgroup, metaOifkind:
		return x.readLink(st, p.Out)
	case metaSdif, metaSdifname:
		return x.readSlave(st)
	case metaPkttype:
		if p.PktType == skb.PacketUnknown {
			return unknown(1), true, nil
		}
		return knownU8(packetType(p)), true, nil
	case metaSkuid, metaSkgid:
		return x.readOwner(st)
	case metaCgroup:
		if !p.Local {
			return value{}, false, nil
		}
		return unknown(4), true, nil
	case metaSecpath:
		return unknown(1), true, nil
	case metaTime, metaDay, metaHour:
		return x.readTime(st), true, nil
	case metaBriIifname, metaBriOifname:
		// Only in the bridge family, where the walk does not go; elsewhere no bridge port is found.
		return value{}, false, nil
	case metaBriIifpvid, metaBriIifvproto:
		return unknown(2), true, nil
	case metaIifhwaddr:
		return unknown(6), true, nil
	}
	return unknown(4), true, nil
}

// packetLength is skb->len, which at the IP hooks is the length in the IP header.
func packetLength(p *skb.Packet) value {
	off, add := 2, 0
	if p.Family == skb.IPv6 {
		off, add = 4, 40
	}
	v, k, ok := p.Network(off, 2)
	if !ok || k[0] != 0xff || k[1] != 0xff {
		return value{binary.NativeEndian.AppendUint32(nil, 0), lengthMask()}
	}
	return knownHost32(uint32(binary.BigEndian.Uint16(v)) + uint32(add))
}

// lengthMask marks the upper bits of a 32-bit length as known to be zero.
func lengthMask() []byte { return binary.NativeEndian.AppendUint32(nil, 0xfffe0000) }

// packetType is skb->pkt_type as nft_meta_get_eval reads it: a looped back packet counts as what its address makes it.
func packetType(p *skb.Packet) uint8 {
	if p.PktType != skb.PacketLoopback {
		return p.PktType
	}
	if p.Family == skb.IPv6 || p.Dst().IsMulticast() {
		return skb.PacketMulticast
	}
	return skb.PacketBroadcast
}

// readLink reads a property of the input or output interface.
func (x *Meta) readLink(st *state, name string) (value, bool, error) {
	index := x.Key == metaIif || x.Key == metaOif
	if name == "" {
		// nft_meta_store_ifindex stores 0; the others break.
		return knownHost32(0), index, nil
	}
	l, ok, err := st.link(name)
	if err != nil {
		return value{}, false, err
	}
	if !ok {
		return unknown(x.key().len), true, nil
	}
	switch x.Key {
	case metaIif, metaOif:
		return knownHost32(uint32(l.Index)), true, nil
	case metaIiftype, metaInputType, metaOiftype:
		return knownHost16(l.Type), true, nil
	case metaIifgroup, metaOifgroup:
		return knownHost32(l.Group), true, nil
	}
	// A device without driver kind (a physical one, lo) breaks the rule.
	return padded(l.Kind, 16), l.Kind != "", nil
}

// readSlave reads the VRF slave that a packet came in by: only at INPUT of a VRF device is it other than the input
// interface (nft_meta_get_eval_sdif).
func (x *Meta) readSlave(st *state) (value, bool, error) {
	l, ok, err := st.link(st.p.In)
	if err != nil {
		return value{}, false, err
	}
	n := 4
	if x.Key == metaSdifname {
		n = 16
	}
	if ok && l.Kind == "vrf" {
		return unknown(n), true, nil
	}
	return known(make([]byte, n)), true, nil
}

func (x *Meta) readOwner(st *state) (value, bool, error) {
	p := st.p
	switch {
	case p.Owner != nil && x.Key == metaSkuid:
		return knownHost32(p.Owner.UID), true, nil
	case p.Owner != nil && !p.Owner.GIDUnknown:
		return knownHost32(p.Owner.GID), true, nil
	case p.Local:
		return unknown(4), true, nil
	case p.Hook == skb.Input:
		// Early demultiplexing may have found the receiving socket, for flows that are established.
		return unknown(4), st.depends("the receiving socket was found before routing"), nil
	}
	return value{}, false, nil
}

func (x *Meta) readTime(st *state) value {
	if st.e.Now == nil {
		switch x.Key {
		case metaTime:
			return unknown(8)
		case metaDay:
			return unknown(1)
		}
		return unknown(4)
	}
	t := st.e.Now().UTC()
	switch x.Key {
	case metaTime:
		return knownHost64(uint64(t.UnixNano()))
	case metaDay:
		// The kernel uses its own time zone (sys_tz), which is UTC unless someone has set it.
		return knownU8(uint8(t.Weekday()))
	}
	return knownHost32(uint32(t.Hour()*3600 + t.Minute()*60 + t.Second()))
}

// write sets mark, priority, packet type, the trace flag or the broute flag.
func (x *Meta) write(st *state) (bool, error) {
	v := st.regs.load(x.Register, 4)
	label := strings.TrimPrefix(x.key().text(), "meta ")
	if x.Key == metaMark || x.Key == metaPriority {
		if !v.all() && !st.unknown("the value that "+label+" is set to") {
			return false, nil
		}
		n := binary.NativeEndian.Uint32(v.b)
		if x.Key == metaMark {
			st.p.Mark = n
			st.act("mark set 0x%x", n)
		} else {
			st.p.Priority, st.p.PriorityUnknown = n, false
			st.act("priority set 0x%x", n)
		}
		return true, nil
	}
	switch x.Key {
	case metaPkttype:
		if t := v.b[0]; v.known[0] == 0xff && t <= skb.PacketOtherHost && st.p.PktType <= skb.PacketOtherHost {
			st.p.PktType = t
			st.act("pkttype set %s", typePktType.text(v.b[:1]))
		}
	case metaNftrace:
		st.p.Traced = v.b[0] != 0
		st.act("nftrace set %d", v.b[0])
	case metaSecmark:
	default:
		return st.unknown("setting " + label), nil
	}
	return true, nil
}

// linkOf is the link of a name, for other expressions.
func (st *state) linkOf(name string) (*node.Link, error) {
	if name == "" {
		return nil, nil
	}
	l, ok, err := st.link(name)
	if err != nil || !ok {
		return nil, err
	}
	return &l, nil
}
