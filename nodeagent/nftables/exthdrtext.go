package nftables

import (
	"fmt"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// options are the headers and options that nft names in exthdr expressions, by kind and type (nftables, src/exthdr.c,
// src/tcpopt.c, src/ipopt.c, src/sctp_chunk.c).
var options = [...]names{
	exthdrIPv6: {0: "hbh", 43: "rt", 44: "frag", 60: "dst", 135: "mh"},
	exthdrTCP: {
		0: "eol", 1: "nop", 2: "maxseg", 3: "window", 4: "sack-perm", 5: "sack", 8: "timestamp", 19: "md5sig", 30: "mptcp", 34: "fastopen",
	},
	exthdrIPv4: {131: "lsrr", 7: "rr", 137: "ssrr", 148: "ra"},
	exthdrSCTP: {
		0: "data", 1: "init", 2: "init-ack", 3: "sack", 4: "heartbeat", 5: "heartbeat-ack", 6: "abort", 7: "shutdown",
		8: "shutdown-ack", 9: "error", 10: "cookie-echo", 11: "cookie-ack", 12: "ecne", 13: "cwr", 14: "shutdown-complete",
		128: "asconf-ack", 192: "forward-tsn", 193: "asconf",
	},
}

func optionName(kind uint32, typ uint8) (name string, ok bool) {
	if int(kind) >= len(options) {
		return "", false
	}
	return options[kind].of(uint64(typ))
}

type optionField struct {
	kind   uint32
	typ    uint8
	offset uint32
	len    uint32
}

type namedField struct {
	name string
	typ  *dataType
}

// optionFields are their fields, by offset and length in bytes.
var optionFields = sync.OnceValue(func() map[optionField]namedField {
	return map[optionField]namedField{
		{exthdrIPv6, 0, 0, 1}: {"nexthdr", typeProto}, {exthdrIPv6, 0, 1, 1}: {"hdrlength", typeInteger},
		{exthdrIPv6, 43, 0, 1}: {"nexthdr", typeProto}, {exthdrIPv6, 43, 1, 1}: {"hdrlength", typeInteger},
		{exthdrIPv6, 43, 2, 1}: {"type", typeInteger}, {exthdrIPv6, 43, 3, 1}: {"seg-left", typeInteger},
		{exthdrIPv6, 44, 0, 1}: {"nexthdr", typeProto}, {exthdrIPv6, 44, 1, 1}: {"reserved", typeInteger}, {exthdrIPv6, 44, 4, 4}: {"id", typeInteger},
		{exthdrIPv6, 60, 0, 1}: {"nexthdr", typeProto}, {exthdrIPv6, 60, 1, 1}: {"hdrlength", typeInteger},
		{exthdrIPv6, 135, 0, 1}: {"nexthdr", typeProto}, {exthdrIPv6, 135, 1, 1}: {"hdrlength", typeInteger}, {exthdrIPv6, 135, 2, 1}: {"type", typeMH},
		{exthdrTCP, 2, 0, 1}: {"kind", typeInteger}, {exthdrTCP, 2, 1, 1}: {"length", typeInteger}, {exthdrTCP, 2, 2, 2}: {"size", typeInteger},
		{exthdrTCP, 3, 1, 1}: {"length", typeInteger}, {exthdrTCP, 3, 2, 1}: {"count", typeInteger},
		{exthdrTCP, 4, 1, 1}: {"length", typeInteger},
		{exthdrTCP, 8, 1, 1}: {"length", typeInteger}, {exthdrTCP, 8, 2, 4}: {"tsval", typeInteger}, {exthdrTCP, 8, 6, 4}: {"tsecr", typeInteger},
		{exthdrTCP, 5, 1, 1}: {"length", typeInteger}, {exthdrTCP, 5, 2, 4}: {"left", typeInteger}, {exthdrTCP, 5, 6, 4}: {"right", typeInteger},
		{exthdrIPv4, 148, 0, 1}: {"type", typeInteger}, {exthdrIPv4, 148, 1, 1}: {"length", typeInteger}, {exthdrIPv4, 148, 2, 2}: {"value", typeInteger},
		{exthdrIPv4, 131, 0, 1}: {"type", typeInteger}, {exthdrIPv4, 131, 1, 1}: {"length", typeInteger}, {exthdrIPv4, 131, 2, 1}: {"ptr", typeInteger}, {exthdrIPv4, 131, 3, 4}: {"addr", typeIPv4},
	}
})

// text is the header or option as nft prints it, and the type of what is loaded from it.
func (x *Exthdr) text() (string, *dataType) {
	prefix := map[uint32]string{exthdrTCP: "tcp option ", exthdrIPv4: "ip option ", exthdrSCTP: "sctp chunk ", exthdrDCCP: "dccp option "}[x.Kind]
	name, known := optionName(x.Kind, x.Type)
	if !known {
		name = fmt.Sprint(x.Type)
	}
	if x.Present {
		if x.Kind == exthdrIPv6 {
			prefix = "exthdr "
		}
		return prefix + name, typeBoolean
	}
	if f, ok := optionFields()[optionField{x.Kind, x.Type, x.Offset, x.Len}]; ok {
		return prefix + name + " " + f.name, f.typ
	}
	return fmt.Sprintf("%s@%s,%d,%d", prefix, name, x.Offset*8, x.Len*8), typeBitmask
}

// exthdr prints or keeps an option.
func (p *printer) exthdr(x *Exthdr) {
	text, typ := x.text()
	switch x.Kind {
	case exthdrTCP, exthdrSCTP, exthdrDCCP:
		p.need(baseTransport)
	case exthdrIPv6:
		if p.family == skb.IPv6 {
			p.need(baseNetwork)
		}
	}
	switch {
	case x.Reset:
		name, _ := optionName(exthdrTCP, x.Type)
		p.do("reset tcp option %s", name)
	case x.Set:
		p.do("%s set %s", text, p.settable(x.Register, typ, int(x.Len)))
	default:
		p.set(x.Register, &symbol{text: text, typ: typ, len: max(1, int(x.Len))})
	}
}
