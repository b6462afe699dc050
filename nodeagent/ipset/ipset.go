// Package ipset asks whether a packet is in an ipset, as the set match of xtables does (net/netfilter/ipset).
//
// A set's elements are of one type: hash:ip,port has two dimensions, an address and a port with its protocol. A rule says
// for each dimension whether it is taken from the packet's source or destination. The question itself goes to the kernel
// (IPSET_CMD_TEST): it knows which entries have expired and which networks contain an address.
package ipset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Spec is how a rule reads a packet for a set (struct xt_set_info).
type Spec struct {
	// Dimensions is how many dimensions the rule names; a set of more never matches.
	Dimensions int
	// Source tells for each dimension, from the first on, whether it is the packet's source.
	Source [6]bool
	// ReturnNoMatch inverts the answer for elements, so that those with nomatch count (--return-nomatch).
	ReturnNoMatch bool
}

// Attributes of include/uapi/linux/netfilter/ipset/ip_set.h, and netlink's flags on them.
const (
	attrIP        = 1
	attrPort      = 4
	attrProto     = 7
	attrCADTFlags = 8
	attrMark      = 10
	attrIP2       = 20
	attrIface     = 23

	attrIPv4 = 1
	attrIPv6 = 2

	nested       = 0x8000
	netByteOrder = 0x4000

	flagNoMatch = 1 << 2
)

// maxMembers bounds a list:set.
const maxMembers = 1024

// Test tells whether the packet is in the set. What the packet does not tell becomes a choice.
func Test(ctx context.Context, sets node.IPSets, name string, spec Spec, p *skb.Packet, ch *rule.Chooser) (bool, error) {
	return test(ctx, sets, name, spec, p, ch, true)
}

func test(ctx context.Context, sets node.IPSets, name string, spec Spec, p *skb.Packet, ch *rule.Chooser, lists bool) (bool, error) {
	set, err := sets.IPSet(ctx, name)
	if err != nil {
		return false, fmt.Errorf("ipset %s: %w", name, err)
	}
	if set.Type == "list:set" {
		if !lists {
			return false, nil // the kernel does not nest lists
		}
		return testList(ctx, sets, name, spec, p, ch)
	}
	e := EntryOf(set, spec, p)
	switch {
	case e.Never:
		return false, nil
	case e.Unknown != "":
		return ch.Depends(fmt.Sprintf("the packet is in ipset %s by its %s", name, e.Unknown)), nil
	case e.Unmodelled:
		return ch.Unknown("ipset type "+set.Type, "set "+name), nil
	}
	// What a rule did to the set earlier on the packet's way.
	for i := len(p.Sets) - 1; i >= 0; i-- {
		if t := p.Sets[i]; t.Set == name && t.Entry == string(e.Data) {
			return t.Removed == spec.ReturnNoMatch && !t.Removed, nil
		}
	}
	data := e.Data
	if spec.ReturnNoMatch && strings.Contains(set.Type, "net") {
		data = attribute(slices.Clone(data), attrCADTFlags|netByteOrder, binary.BigEndian.AppendUint32(nil, flagNoMatch))
	}
	in, err := sets.IPSetTest(ctx, name, p.Family, data)
	if err != nil {
		return false, fmt.Errorf("ipset %s: %w", name, err)
	}
	return in, nil
}

// testList is list_set_ktest: the first member that has the packet decides.
func testList(ctx context.Context, sets node.IPSets, name string, spec Spec, p *skb.Packet, ch *rule.Chooser) (bool, error) {
	if spec.Dimensions < 1 {
		return false, nil
	}
	members, err := sets.IPSetMembers(ctx, name)
	if err != nil {
		return false, fmt.Errorf("members of ipset %s: %w", name, err)
	}
	if len(members) > maxMembers {
		return false, fmt.Errorf("ipset %s has %d members", name, len(members))
	}
	for _, m := range members {
		in, err := test(ctx, sets, m, spec, p, ch, false)
		if errors.Is(err, node.ErrNotFound) {
			continue // gone between the two reads
		}
		if err != nil || in {
			return in, err
		}
	}
	return false, nil
}

// Entry is a packet as an element of a set.
type Entry struct {
	// Data is the element as the kernel's data attributes.
	Data []byte
	// Never is true when the kernel does not even look: another family, too few dimensions, a port outside the bitmap.
	Never bool
	// Unknown names the part of the packet that is needed and not known.
	Unknown string
	// Unmodelled is true for a set type that is not known.
	Unmodelled bool
}

// EntryOf returns the packet as an element of the set.
func EntryOf(set node.IPSet, spec Spec, p *skb.Packet) Entry {
	parts := partsOf(set.Type)
	if parts == nil {
		return Entry{Unmodelled: true}
	}
	if spec.Dimensions < len(parts) || set.Family != 0 && set.Family != p.Family {
		return Entry{Never: true}
	}
	b := builder{set: set, p: p}
	addresses := 0
	for i, part := range parts {
		source := i < len(spec.Source) && spec.Source[i]
		switch part {
		case "ip", "net":
			attr := uint16(attrIP)
			if addresses > 0 {
				attr = attrIP2
			}
			addresses++
			b.address(attr, source)
		case "port":
			b.port(source)
		case "iface":
			b.iface(source)
		case "mark":
			b.data = attribute(b.data, attrMark|netByteOrder, binary.BigEndian.AppendUint32(nil, p.Mark))
		case "mac":
			b.unknown("hardware address")
		}
	}
	return b.Entry()
}

// partsOf returns the dimensions of a set type (the kernel's ip_set_hash_*.c and ip_set_bitmap_*.c).
func partsOf(typ string) []string {
	method, dims, ok := strings.Cut(typ, ":")
	if !ok || method != "hash" && method != "bitmap" {
		return nil
	}
	parts := strings.Split(dims, ",")
	for _, p := range parts {
		if !slices.Contains([]string{"ip", "net", "port", "iface", "mark", "mac"}, p) {
			return nil
		}
	}
	return parts
}

type builder struct {
	set   node.IPSet
	p     *skb.Packet
	data  []byte
	never bool
	lack  string
}

// Entry returns what was put together.
func (b *builder) Entry() Entry { return Entry{Data: b.data, Never: b.never, Unknown: b.lack} }

func (b *builder) unknown(what string) {
	if b.lack == "" {
		b.lack = what
	}
}

func (b *builder) address(attr uint16, source bool) {
	a := b.p.Dst()
	if source {
		a = b.p.Src()
	}
	b.data = attribute(b.data, attr|nested, addressData(a))
}

func addressData(a netip.Addr) []byte {
	if a.Is4() {
		return attribute(nil, attrIPv4|netByteOrder, a.AsSlice())
	}
	return attribute(nil, attrIPv6|netByteOrder, a.AsSlice())
}

// port is ip_set_get_ip4_port: ports, or type and code of ICMP; 0 for protocols that have neither.
func (b *builder) port(source bool) {
	proto := b.p.Proto()
	var port uint16
	known := true
	switch proto {
	case skb.TCP, skb.UDP, skb.SCTP, skb.UDPLite:
		if source {
			port, known = b.p.SrcPort()
		} else {
			port, known = b.p.DstPort()
		}
	case skb.ICMP, skb.ICMPv6:
		var typ, code uint8
		typ, code, known = b.p.ICMPType()
		port = uint16(typ)<<8 | uint16(code)
	}
	if b.set.Type == "bitmap:port" {
		// ip_set_get_ip_port: TCP and UDP only, whichever it is.
		if proto != skb.TCP && proto != skb.UDP {
			b.never = true
			return
		}
		if known && (port < b.set.PortFrom || port > b.set.PortTo) {
			b.never = true
			return
		}
	}
	if !known {
		side := "destination port"
		if source {
			side = "source port"
		}
		b.unknown(side)
		return
	}
	b.data = attribute(b.data, attrPort|netByteOrder, binary.BigEndian.AppendUint16(nil, port))
	if b.set.Type != "bitmap:port" {
		b.data = attribute(b.data, attrProto, []byte{proto})
	}
}

func (b *builder) iface(source bool) {
	name := b.p.Out
	if source {
		name = b.p.In
	}
	if name == "" {
		b.never = true
		return
	}
	b.data = attribute(b.data, attrIface, append([]byte(name), 0))
}

// attribute appends one netlink attribute.
func attribute(b []byte, typ uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
