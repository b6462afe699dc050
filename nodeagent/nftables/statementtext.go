package nftables

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// statement prints an expression that is a statement of its own.
func (p *printer) statement(x Expr) {
	switch x := x.(type) {
	case *Counter:
		p.do("counter packets %d bytes %d", x.Packets, x.Bytes)
	case *Log:
		p.do("%s", x.text())
	case *Limit, *Quota, *Connlimit, *Last:
		p.do("%s", statefulText(x))
	case *Reject:
		p.reject(x)
	case *NAT:
		p.nat(x)
	case *Masq:
		p.do("%s", words("masquerade", p.portsTo(x.HasPort, x.hasPortMax, x.PortMin, x.PortMax), rangeFlags(x.Flags)))
	case *Redir:
		p.do("%s", words("redirect", p.portsTo(x.HasPort, x.hasPortMax, x.PortMin, x.PortMax), rangeFlags(x.Flags)))
	case *Notrack:
		p.do("notrack")
	case *Queue:
		p.do("%s", x.text())
	case *Dynset:
		p.dynset(x)
	case *Objref:
		p.objref(x)
	case *Dup:
		s := "dup"
		if x.HasAddr {
			s += " to " + p.settable(x.Addr, p.addrType(), 16)
		}
		if x.HasDevice {
			s += " device " + p.settable(x.Device, typeIfindex, 4)
		}
		p.do("%s", s)
	case *Fwd:
		p.do("fwd to %s", p.settable(x.Device, typeIfindex, 4))
	case *Synproxy:
		p.do("%s", x.text())
	case *Tproxy:
		p.tproxy(x)
	case *FlowOffload:
		p.do("flow add @%s", x.Table)
	case *CompatMatch:
		p.do("xt match %q", x.Match)
	case *CompatTarget:
		p.do("xt target %q", x.Target)
	case *Opaque:
		p.do("unknown expression %q", x.Type)
	default:
		p.do("%s", x.Name())
	}
}

func (p *printer) addrType() *dataType {
	if p.family == skb.IPv6 {
		return typeIPv6
	}
	return typeIPv4
}

// statefulText prints an expression that sets and dynsets can carry too.
func statefulText(x Expr) string {
	switch x := x.(type) {
	case *Counter:
		return "counter"
	case *Limit:
		s := "limit rate "
		if x.Inverted {
			s += "over "
		}
		s += x.rate()
		switch {
		case x.Burst == 0 || x.Burst == 5:
		case x.Bytes:
			n, unit := byteUnit(uint64(x.Burst))
			s += fmt.Sprintf(" burst %d %s", n, unit)
		default:
			s += fmt.Sprintf(" burst %d packets", x.Burst)
		}
		return s
	case *Quota:
		s := "quota "
		if x.Inverted {
			s += "over "
		}
		n, unit := byteUnit(x.Bytes)
		s += fmt.Sprintf("%d %s", n, unit)
		if x.Consumed > 0 {
			n, unit := byteUnit(x.Consumed)
			s += fmt.Sprintf(" used %d %s", n, unit)
		}
		return s
	case *Connlimit:
		if x.Inverted {
			return fmt.Sprintf("ct count over %d", x.Count)
		}
		return fmt.Sprintf("ct count %d", x.Count)
	case *Last:
		if !x.Set {
			return "last used never"
		}
		return "last used " + millisText(x.MillisAgo)
	}
	return x.Name()
}

var logLevels = [...]string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"}

func (x *Log) text() string {
	s := "log"
	if x.Prefix != "" {
		s += ` prefix "` + x.Prefix + `"`
	}
	if x.HasGroup {
		s += fmt.Sprintf(" group %d", x.Group)
		if x.hasSnap && x.Snaplen != 0 {
			s += fmt.Sprintf(" snaplen %d", x.Snaplen)
		}
		if x.hasQueue && x.Threshold != 0 {
			s += fmt.Sprintf(" queue-threshold %d", x.Threshold)
		}
		return s
	}
	if x.HasLevel && x.Level != 4 && int(x.Level) < len(logLevels) {
		s += " level " + logLevels[x.Level]
	}
	const all = 0x2f
	if x.Flags&all == all {
		return s + " flags all"
	}
	switch x.Flags & 3 {
	case 1:
		s += " flags tcp sequence"
	case 2:
		s += " flags tcp options"
	case 3:
		s += " flags tcp sequence,options"
	}
	return s + flagText(x.Flags&4 != 0, " flags ip options") + flagText(x.Flags&8 != 0, " flags skuid") + flagText(x.Flags&0x20 != 0, " flags ether")
}

func (x *Queue) text() string {
	var flags []string
	if x.Bypass {
		flags = append(flags, "bypass")
	}
	if x.Fanout {
		flags = append(flags, "fanout")
	}
	s := "queue"
	if len(flags) > 0 {
		s += " flags " + strings.Join(flags, ",")
	}
	s += fmt.Sprintf(" to %d", x.Number)
	if x.Total > 1 {
		s += fmt.Sprintf("-%d", uint32(x.Number)+uint32(x.Total)-1)
	}
	return s
}

func (x *Synproxy) text() string {
	s := "synproxy"
	if x.Flags&1 != 0 {
		s += fmt.Sprintf(" mss %d", x.MSS)
	}
	if x.Flags&2 != 0 {
		s += fmt.Sprintf(" wscale %d", x.Wscale)
	}
	return s + flagText(x.Flags&8 != 0, " timestamp") + flagText(x.Flags&4 != 0, " sack-perm")
}

// reject prints the answer unless it is the default of the table's family.
func (p *printer) reject(x *Reject) {
	name := func(t *dataType) string { return t.text([]byte{x.Code}) }
	s := "reject"
	switch {
	case x.Type == rejectReset:
		s += " with tcp reset"
	case x.Type == rejectICMPX:
		if x.Code != 1 {
			s += " with icmpx " + name(typeICMPXCode)
		}
	case p.family == skb.IPv6:
		if p.inet() || x.Code != 4 {
			s += " with icmpv6 " + name(typeICMPv6Code)
		}
		p.need(baseNetwork)
	default:
		if p.inet() || x.Code != 3 {
			s += " with icmp " + name(typeICMPCode)
		}
		p.need(baseNetwork)
	}
	p.do("%s", s)
}

func rangeFlags(flags uint32) string {
	var out []string
	if flags&rangeRandom != 0 {
		out = append(out, "random")
	}
	if flags&rangeFullyRandom != 0 {
		out = append(out, "fully-random")
	}
	if flags&rangePersistent != 0 {
		out = append(out, "persistent")
	}
	return strings.Join(out, ",")
}

// portsTo prints "to :80" or "to :80-90".
func (p *printer) portsTo(has, hasMax bool, low, high register) string {
	if !has {
		return ""
	}
	return "to " + p.ports(hasMax, low, high)
}

func (p *printer) ports(hasMax bool, low, high register) string {
	s := ":" + p.settable(low, typePort, 2)
	if hasMax && high != low {
		s += "-" + p.settable(high, typePort, 2)
	}
	return s
}

// nat prints a translation.
func (p *printer) nat(x *NAT) {
	s := "snat"
	if x.Destination {
		s = "dnat"
	}
	first := p.regs[x.AddrMin]
	mapped := x.HasAddr && first != nil && first.data == nil
	concat := mapped && len(first.concat) > 1
	if p.inet() || concat || x.Flags&rangeNetmap != 0 {
		s += " " + map[node.NFTFamily]string{node.NFTIPv4: "ip", node.NFTIPv6: "ip6"}[x.Family]
	}
	if x.Flags&rangeNetmap != 0 {
		s += " prefix"
	}
	s += " to "
	t := typeIPv4
	if x.Family == node.NFTIPv6 {
		t = typeIPv6
	}
	switch {
	case mapped:
		s += p.left(first)
	case x.HasAddr:
		addr := p.settable(x.AddrMin, t, t.size)
		if x.Flags&rangeNetmap != 0 {
			addr = p.netmap(x, t)
		} else if x.hasAddrMax && x.AddrMax != x.AddrMin {
			addr += "-" + p.settable(x.AddrMax, t, t.size)
		} else if x.HasPort && t == typeIPv6 {
			addr = "[" + addr + "]"
		}
		s += addr
	}
	if x.HasPort && !concat {
		s += p.ports(x.hasPortMax, x.PortMin, x.PortMax)
	}
	p.do("%s", words(strings.TrimSuffix(s, " to "), rangeFlags(x.Flags)))
}

func (p *printer) netmap(x *NAT, t *dataType) string {
	a, b := p.regs[x.AddrMin], p.regs[x.AddrMax]
	if a == nil || b == nil || len(a.data) != t.size || len(b.data) != t.size {
		return "?"
	}
	return p.interval(t, t, a.data, b.data)
}

func (p *printer) tproxy(x *Tproxy) {
	s := "tproxy"
	if p.inet() && x.Family != node.NFTInet && x.Family != 0 {
		s += map[node.NFTFamily]string{node.NFTIPv4: " ip", node.NFTIPv6: " ip6"}[x.Family]
	}
	s += " to "
	if x.HasAddr {
		t := typeIPv4
		if x.Family == node.NFTIPv6 || p.family == skb.IPv6 {
			t = typeIPv6
		}
		addr := p.settable(x.Addr, t, t.size)
		if t == typeIPv6 && x.HasPort {
			addr = "[" + addr + "]"
		}
		s += addr
	}
	if x.HasPort {
		s += ":" + p.settable(x.Port, typePort, 2)
	}
	p.do("%s", s)
}

func (p *printer) dynset(x *Dynset) {
	set, _ := p.elements(x.Set)
	n := 4
	if set != nil {
		n = set.KeyLen
	}
	s := fmt.Sprintf("%s @%s { %s", x.operation(), x.Set, p.concatenation(x.Key, n))
	if x.TimeoutMillis != 0 {
		s += " timeout " + millisText(x.TimeoutMillis)
	}
	for _, e := range x.Exprs {
		s += " " + statefulText(e)
	}
	if x.HasData {
		m := 4
		if set != nil {
			m = set.DataLen
		}
		s += " : " + p.concatenation(x.Data, m)
	}
	p.do("%s }", s)
}

func (p *printer) objref(x *Objref) {
	name := `"` + x.Object + `"`
	typ := x.Type
	if x.Set != "" {
		set, elements := p.elements(x.Set)
		n := 4
		if set != nil {
			n, typ = set.KeyLen, set.ObjectType
		}
		right := "@" + x.Set
		if set != nil && set.Flags&SetAnonymous != 0 {
			right = p.setText(set, elements, nil)
		}
		name = p.concatenation(x.Source, n) + " map " + right
	}
	switch typ {
	case ObjectCtHelper, ObjectCtTimeout, ObjectCtExpect:
		p.do("%s set %s", objectTypeName(typ), name)
	default:
		p.do("%s name %s", objectTypeName(typ), name)
	}
}

// payloadSet prints a write to the packet. A field of some bits is written by loading, masking and storing.
func (p *printer) payloadSet(x *Payload) {
	s := p.regs[x.Register]
	if s != nil && s.payload != nil && s.masked && s.payload.Base == x.Base && s.payload.Offset == x.Offset {
		cleared := make([]byte, len(s.mask))
		for i := range s.mask {
			cleared[i] = ^s.mask[i]
		}
		if first, n, ok := bitRun(cleared); ok {
			if h, f := p.field(x.Base, x.Offset*8+first, n); f != nil {
				p.implied(h)
				v := new(big.Int).Rsh(new(big.Int).SetBytes(s.xor), uint(len(s.xor)*8)-uint(first+n))
				p.do("%s %s set %s", h.name, f.name, p.value(f.typ, v.FillBytes(make([]byte, max((n+7)/8, uint32(v.BitLen()+7)/8)))))
				return
			}
		}
	}
	h, f := p.field(x.Base, x.Offset*8, x.Len*8)
	if f == nil {
		p.do("%s set %s", rawText(x.Base, x.Offset*8, x.Len*8), p.settable(x.Register, typeBitmask, int(x.Len)))
		return
	}
	p.implied(h)
	p.do("%s %s set %s", h.name, f.name, p.settable(x.Register, f.typ, int(x.Len)))
}
