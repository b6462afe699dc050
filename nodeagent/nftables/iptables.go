package nftables

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// iptablesRule is a rule of iptables-nft, taken apart. iptables-nft writes addresses, interfaces, protocol, ports, TCP flags,
// marks and limits as native expressions, and everything else as its own extensions (iptables/nft-ruleparse.c).
type iptablesRule struct {
	r                   *Rule
	compat              Compat
	family              skb.Family
	src, dst, in, out   string
	proto               string
	protoNumber         uint8
	fragment            string
	matches             []string
	target              string
	ports               []string // options of the tcp or udp match, in the order they were met
	portsAt             int      // where that match stands among matches, -1 for none
	counted, compatible bool
	low                 []byte // first half of a port range
	lowField            string
	load                Expr // what register 1 holds
	mask                *Bitwise
}

// iptablesTables are the tables that iptables-nft uses.
var iptablesTables = []string{"filter", "nat", "mangle", "raw", "security"}

// iptablesText prints a rule of iptables-nft as iptables-save does, without counters; ok is false for rules of other
// origin: in other tables, without iptables' counter, or with expressions that it does not write.
func (r *Rule) iptablesText(names Names) (text string, ok bool) {
	x := &iptablesRule{r: r, portsAt: -1}
	switch r.Family {
	case node.NFTIPv4:
		x.family = skb.IPv4
	case node.NFTIPv6:
		x.family = skb.IPv6
	default:
		return "", false
	}
	if !slices.Contains(iptablesTables, r.Table) {
		return "", false
	}
	if names != nil {
		x.compat = names.CompatText()
	}
	for _, e := range r.Exprs {
		if !x.take(e) {
			return "", false
		}
	}
	if !x.counted && !x.compatible || x.low != nil {
		return "", false
	}
	return x.String(), true
}

// String puts the parts in the order of iptables-save.
func (x *iptablesRule) String() string {
	s := "-A " + x.r.Chain
	for _, part := range []string{x.src, x.dst, x.in, x.out, x.proto, x.fragment} {
		if part != "" {
			s += " " + part
		}
	}
	for i, m := range x.matches {
		if i == x.portsAt {
			name, _ := protoNames.of(uint64(x.protoNumber))
			m = "-m " + name + " " + strings.Join(x.ports, " ")
		}
		if m != "" {
			s += " " + m
		}
	}
	if x.target != "" {
		s += " " + x.target
	}
	return s
}

// take takes one expression in; it returns false when iptables does not write it.
func (x *iptablesRule) take(e Expr) bool {
	switch e := e.(type) {
	case *Payload:
		x.load, x.mask = e, nil
		return !e.Set && (e.Base == baseNetwork || e.Base == baseTransport)
	case *Meta:
		if e.Set {
			x.target = "-j TRACE"
			return e.Key == metaNftrace
		}
		x.load, x.mask = e, nil
		return true
	case *Bitwise:
		x.mask = e
		return x.load != nil && e.Op == BitwiseMaskXor && allZero(e.Xor)
	case *Immediate:
		if e.Verdict != nil {
			return x.verdict(*e.Verdict)
		}
		return e.Register == 4 && len(e.Data) == 1 // the operand of a TRACE
	case *Cmp:
		return x.cmp(e)
	case *Range:
		return x.portRange(e)
	case *Counter:
		x.counted = true
		return true
	case *Limit:
		x.matches = append(x.matches, limitText(e))
		return !e.Bytes && !e.Inverted
	case *Log:
		x.target = nflogText(e)
		return e.HasGroup
	case *CompatMatch:
		x.compatible = true
		text := "-m " + e.Match
		if x.compat != nil {
			text = x.compat.MatchText(e.Match, e.Revision, e.Info, x.family)
		}
		x.matches = append(x.matches, text)
		return true
	case *CompatTarget:
		x.compatible = true
		x.target = "-j " + e.Target
		if x.compat != nil {
			x.target = x.compat.TargetText(e.Target, e.Revision, e.Info, x.family)
		}
		return true
	}
	return false
}

func (x *iptablesRule) verdict(v Verdict) bool {
	switch v.Code {
	case nfAccept:
		x.target = "-j ACCEPT"
	case nfDrop:
		x.target = "-j DROP"
	case verdictReturn:
		x.target = "-j RETURN"
	case verdictJump:
		x.target = "-j " + v.Chain
	case verdictGoto:
		x.target = "-g " + v.Chain
	default:
		return false
	}
	return true
}

// not is the mark of an inverted option.
func not(inverted bool) string { return flagText(inverted, "! ") }

func (x *iptablesRule) cmp(c *Cmp) bool {
	switch l := x.load.(type) {
	case *Meta:
		return x.cmpMeta(l, c)
	case *Payload:
		if l.Base == baseTransport {
			return x.cmpTransport(l, c)
		}
		return x.cmpNetwork(l, c)
	}
	return false
}

func (x *iptablesRule) cmpMeta(m *Meta, c *Cmp) bool {
	if c.Op > CmpNotEqual {
		return false
	}
	inv := c.Op == CmpNotEqual
	switch m.Key {
	case metaIifname:
		x.in = not(inv) + "-i " + interfaceText(c.Data)
	case metaOifname:
		x.out = not(inv) + "-o " + interfaceText(c.Data)
	case metaL4proto:
		x.protoNumber = c.Data[0]
		x.proto = not(inv) + "-p " + typeProto.text(c.Data[:1])
	case metaMark:
		text := fmt.Sprintf("-m mark %s--mark 0x%x", not(inv), typeMark.number(c.Data))
		if x.mask != nil {
			text += fmt.Sprintf("/0x%x", typeMark.number(x.mask.Mask))
		}
		x.matches = append(x.matches, text)
	default:
		return false
	}
	return true
}

// interfaceText prints an interface name: without a closing zero byte it is a prefix.
func interfaceText(b []byte) string {
	if bytes.IndexByte(b, 0) < 0 && len(b) < 16 {
		return string(b) + "+"
	}
	return cString(b)
}

func (x *iptablesRule) cmpNetwork(p *Payload, c *Cmp) bool {
	if c.Op > CmpNotEqual {
		return false
	}
	inv := not(c.Op == CmpNotEqual)
	src, dst, n := uint32(12), uint32(16), uint32(4)
	if x.family == skb.IPv6 {
		src, dst, n = 8, 24, 16
	}
	switch {
	case p.Offset == src && p.Len <= n:
		x.src = inv + "-s " + x.addressText(c.Data, int(n))
	case p.Offset == dst && p.Len <= n:
		x.dst = inv + "-d " + x.addressText(c.Data, int(n))
	case x.family == skb.IPv4 && p.Offset == 6 && p.Len == 2 && x.mask != nil && allZero(c.Data):
		x.fragment = not(c.Op == CmpEqual) + "-f"
	default:
		return false
	}
	return true
}

// addressText prints an address with its mask: a prefix length, or the mask itself.
func (x *iptablesRule) addressText(b []byte, n int) string {
	full := make([]byte, n)
	copy(full, b)
	a, _ := netip.AddrFromSlice(full)
	if x.mask == nil {
		return fmt.Sprintf("%s/%d", a, len(b)*8)
	}
	mask := make([]byte, n)
	copy(mask, x.mask.Mask)
	if first, bits, ok := bitRun(mask); ok && first == 0 {
		return fmt.Sprintf("%s/%d", a, bits)
	}
	m, _ := netip.AddrFromSlice(mask)
	return fmt.Sprintf("%s/%s", a, m)
}

// option adds an option to the tcp or udp match.
func (x *iptablesRule) option(s string) bool {
	if x.portsAt < 0 {
		x.portsAt = len(x.matches)
		x.matches = append(x.matches, "")
	}
	x.ports = append(x.ports, s)
	return true
}

func (x *iptablesRule) portField(p *Payload) (string, bool) {
	if p.Len != 2 || x.mask != nil || x.protoNumber != skb.TCP && x.protoNumber != skb.UDP {
		return "", false
	}
	switch p.Offset {
	case 0:
		return "--sport", true
	case 2:
		return "--dport", true
	}
	return "", false
}

func (x *iptablesRule) cmpTransport(p *Payload, c *Cmp) bool {
	if name, ok := x.portField(p); ok {
		switch c.Op {
		case CmpEqual, CmpNotEqual:
			return x.option(fmt.Sprintf("%s%s %s", not(c.Op == CmpNotEqual), name, typePort.text(c.Data)))
		case CmpGreaterEqual:
			x.low, x.lowField = c.Data, name
			return true
		case CmpLessEqual:
			if x.low == nil || x.lowField != name {
				return false
			}
			low := x.low
			x.low = nil
			return x.option(fmt.Sprintf("%s %s:%s", name, typePort.text(low), typePort.text(c.Data)))
		}
		return false
	}
	if x.protoNumber != skb.TCP || p.Offset != 13 || p.Len != 1 || c.Op > CmpNotEqual {
		return false
	}
	mask := byte(0xff)
	if x.mask != nil {
		mask = x.mask.Mask[0]
	}
	return x.option(fmt.Sprintf("%s--tcp-flags %s %s", not(c.Op == CmpNotEqual), tcpFlagsText(mask), tcpFlagsText(c.Data[0])))
}

func (x *iptablesRule) portRange(r *Range) bool {
	p, ok := x.load.(*Payload)
	if !ok || p.Base != baseTransport {
		return false
	}
	name, ok := x.portField(p)
	if !ok {
		return false
	}
	return x.option(fmt.Sprintf("%s%s %s:%s", not(r.Inverted), name, typePort.text(r.From), typePort.text(r.To)))
}

func tcpFlagsText(b byte) string {
	names := []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"}
	var out []string
	for i, s := range names {
		if b&(1<<i) != 0 {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return "NONE"
	}
	return strings.Join(out, ",")
}

// limitText prints a limit as the limit match does.
func limitText(l *Limit) string {
	unit := map[uint64]string{1: "sec", 60: "min", 3600: "hour", 86400: "day"}[l.Unit]
	s := fmt.Sprintf("-m limit --limit %d/%s", l.Rate, unit)
	if l.Burst != 5 {
		s += fmt.Sprintf(" --limit-burst %d", l.Burst)
	}
	return s
}

func nflogText(l *Log) string {
	s := "-j NFLOG"
	if l.Prefix != "" {
		s += ` --nflog-prefix ` + quoteIfNeeded(l.Prefix)
	}
	if l.Group != 0 {
		s += fmt.Sprintf(" --nflog-group %d", l.Group)
	}
	if l.hasSnap && l.Snaplen != 0 {
		s += fmt.Sprintf(" --nflog-size %d", l.Snaplen)
	}
	if l.Threshold > 1 {
		s += fmt.Sprintf(" --nflog-threshold %d", l.Threshold)
	}
	return s
}

// quoteIfNeeded quotes a string as iptables-save does: when it has characters that a shell would take apart.
func quoteIfNeeded(s string) string {
	plain := s != ""
	for _, c := range s {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", c) {
			plain = false
		}
	}
	if plain {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(s) + `"`
}
