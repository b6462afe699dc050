package nftables

import (
	"bytes"
	"encoding/binary"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Misses tells from the first comparisons of a rule's undecoded message that the rule, of a chain of family f, does not match p. The kernel leaves
// a rule at a comparison that fails (NFT_BREAK), so nothing behind it is done; before it stand only loads and comparisons.
// False says nothing: evaluate the rule.
//
// Nearly all rules of a chain like iptables-nft's KUBE-SERVICES end so, ten thousand of them on the way of one packet. It
// allocates nothing.
func Misses(f node.NFTFamily, attrs []byte, p *skb.Packet) bool {
	rest := attribute(attrs, attrRuleExprs)
	// What was loaded last, into which register.
	var loaded [maxKeyLength]byte
	size, at := 0, register(0)
	for len(rest) > 0 {
		var x []byte
		var ok bool
		if x, rest, ok = nextExpr(rest); !ok {
			return false
		}
		name, data := attribute(x, attrExprName), attribute(x, attrExprData)
		switch {
		case named(name, "payload"):
			if size, at, ok = loadNetwork(data, p, loaded[:]); !ok {
				return false
			}
		case named(name, "meta"):
			if size, at, ok = loadMeta(f, data, p, loaded[:]); !ok {
				return false
			}
		case named(name, "cmp"):
			var f [4][]byte
			fields(data, f[:])
			op, okOp := bigEndian(f[2])
			from, okReg := registerOf(f[1])
			want := attribute(f[3], attrDataValue)
			if !okReg || !okOp || from != at || len(want) == 0 || len(want) > size || CmpOp(op) > CmpNotEqual {
				return false
			}
			if bytes.Equal(loaded[:len(want)], want) != (CmpOp(op) == CmpEqual) {
				return true
			}
		default:
			return false
		}
	}
	return false
}

// named compares a name with the zero byte at its end.
func named(b []byte, name string) bool {
	return len(b) == len(name)+1 && b[len(name)] == 0 && string(b[:len(name)]) == name
}

// loadNetwork is a payload expression that loads bytes of the network header which are all known.
func loadNetwork(data []byte, p *skb.Packet, to []byte) (size int, at register, ok bool) {
	var f [5][]byte
	fields(data, f[:])
	at, okReg := registerOf(f[1])
	base, okBase := bigEndian(f[2])
	off, okOff := bigEndian(f[3])
	n, okLen := bigEndian(f[4])
	if !okReg || !okBase || !okOff || !okLen || base != baseNetwork || off > 1<<16 || n < 1 || int(n) > len(to) {
		return 0, 0, false
	}
	return int(n), at, p.KnownNetwork(int(off), to[:n])
}

// loadMeta is a meta expression that loads the family or the transport protocol.
func loadMeta(family node.NFTFamily, data []byte, p *skb.Packet, to []byte) (size int, at register, ok bool) {
	var f [3][]byte
	fields(data, f[:])
	at, okReg := registerOf(f[1])
	key, okKey := bigEndian(f[2])
	switch {
	case !okReg || !okKey || key != metaL4proto && key != metaNfproto:
		return 0, 0, false
	case key == metaNfproto:
		to[0] = nfproto(family, p)
		return 1, at, true
	case p.Whole():
		return 0, 0, false // its headers are looked at by the evaluation
	}
	to[0] = p.Proto()
	return 1, at, true
}

// nextExpr splits the first expression off a list.
func nextExpr(list []byte) (x, rest []byte, ok bool) {
	if len(list) < 4 {
		return nil, nil, false
	}
	n := int(binary.NativeEndian.Uint16(list))
	if n < 4 || n > len(list) || binary.NativeEndian.Uint16(list[2:])&^(attrNested|attrNetwork) != attrListElement {
		return nil, nil, false
	}
	return list[4:n], list[min((n+3)&^3, len(list)):], true
}

// attribute returns the data of the first attribute with a number, nil when there is none or the list is damaged.
func attribute(list []byte, want uint16) []byte {
	for len(list) >= 4 {
		n := int(binary.NativeEndian.Uint16(list))
		if n < 4 || n > len(list) {
			return nil
		}
		if binary.NativeEndian.Uint16(list[2:])&^(attrNested|attrNetwork) == want {
			return list[4:n]
		}
		list = list[min((n+3)&^3, len(list)):]
	}
	return nil
}

// fields finds the first attributes with the numbers from 1 on up to what to has room for. Those behind damage are not found.
func fields(list []byte, to [][]byte) {
	for len(list) >= 4 {
		n := int(binary.NativeEndian.Uint16(list))
		if n < 4 || n > len(list) {
			return
		}
		if typ := int(binary.NativeEndian.Uint16(list[2:]) &^ (attrNested | attrNetwork)); typ < len(to) && to[typ] == nil {
			to[typ] = list[4:n]
		}
		list = list[min((n+3)&^3, len(list)):]
	}
}

// bigEndian is a number of 32 bits at the start of b.
func bigEndian(b []byte) (uint32, bool) {
	if len(b) < 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

func registerOf(b []byte) (register, bool) {
	n, ok := bigEndian(b)
	if !ok {
		return 0, false
	}
	at, err := parseRegister(n)
	return at, err == nil
}
